"""A batch that is paused rests, and goes on where it was. Arguments: the gateway's base URL, a model, then `pause`, or
`resume` and a batch. `pause` prints the id of a batch that was paused before anybody worked on it.
"""

import sys

from asking import ask, batch_of, ended, refused, requests, upload, well

URL, MODEL, WHAT = sys.argv[1:4]


def pause():
    file = well(upload(URL, requests(MODEL, *map(str, range(20)), max_tokens=4)))
    made = well(ask("POST", f"{URL}/batches", batch_of(file["id"])))
    assert made["paused"] is False, made
    for _ in range(2):
        paused = well(ask("POST", f"{URL}/batches/{made['id']}/pause"))
        assert (paused["paused"], paused["status"]) == (True, "in_progress"), paused
    assert well(ask("GET", f"{URL}/batches/{made['id']}")) == paused
    refused(ask("POST", f"{URL}/batches/batch_{'0' * 32}/pause"), 404, "not_found")
    # What is paused can be cancelled.
    other = well(ask("POST", f"{URL}/batches", batch_of(file["id"])))
    well(ask("POST", f"{URL}/batches/{other['id']}/pause"))
    cancelled = well(ask("POST", f"{URL}/batches/{other['id']}/cancel"))
    assert (cancelled["status"], cancelled["paused"]) == ("cancelled", False), cancelled
    for way in ("pause", "resume"):
        refused(ask("POST", f"{URL}/batches/{other['id']}/{way}"), 409, "batch_ended")
    print(made["id"])


def resume(batch):
    # Others are worked on meanwhile.
    file = well(upload(URL, requests(MODEL, "a", "b", max_tokens=4)))
    other = ended(URL, well(ask("POST", f"{URL}/batches", batch_of(file["id"]))))
    assert other["status"] == "completed", other
    rests = well(ask("GET", f"{URL}/batches/{batch}"))
    assert rests["paused"] and rests["request_counts"]["completed"] == 0, rests
    resumed = well(ask("POST", f"{URL}/batches/{batch}/resume"))
    assert resumed["paused"] is False, resumed
    done = ended(URL, resumed)
    assert (done["status"], done["request_counts"]["completed"]) == ("completed", 20), done
    page = well(ask("GET", f"{URL}/batches/{batch}/results"))
    assert len(page["data"]) == 20, page
    attempts = {one["attempt"] for one in well(ask("GET", f"{URL}/batches/{batch}/report"))["slowest"]}
    assert attempts == {1}, attempts


if WHAT == "pause":
    pause()
else:
    resume(sys.argv[4])
