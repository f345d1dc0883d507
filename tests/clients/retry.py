"""Items that failed are asked again, and results come in both orders, as events, and as a report.

Arguments: the gateway's base URL, a model, then `submit`, or `retry` and a batch. `submit` prints the id of a batch
two of whose requests were refused by a policy.
"""

import json
import sys
import urllib.request

from asking import ask, batch_of, ended, refused, requests, upload, well

URL, MODEL, WHAT = sys.argv[1:4]
HARMFUL = {"1", "3"}


def lines(file):
    with urllib.request.urlopen(f"{URL}/files/{file}/content") as content:
        return {line["custom_id"]: line for line in map(json.loads, content.read().splitlines())}


def results(batch):
    """All results, one at a time."""
    found, after, more = [], "", True
    while more:
        page = well(ask("GET", f"{URL}/batches/{batch}/results?limit=1&after={after}"))
        found += page["data"]
        after, more = page["after"], page["has_more"]
    return found


def followed(batch, after):
    """What a client is told that follows a batch to its end: results, and cursors behind them; the last event."""
    headers = {"accept": "text/event-stream", "last-event-id": after}
    request = urllib.request.Request(f"{URL}/batches/{batch}/results?limit=1", headers=headers)
    lines, cursors, event = [], [], {}
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream", answer.headers
        for field, _, value in (line.decode().rstrip("\n").partition(": ") for line in answer):
            if field.startswith(":"):
                continue
            if field:
                event[field] = value
                continue
            if event.get("event") == "results":
                lines += json.loads(event["data"])["data"]
                cursors.append(event["id"])
            elif event.get("event") == "batch":
                stands = json.loads(event["data"])
            last, event = event, {}
    assert last == {"event": "end", "data": "[DONE]"}, last
    return lines, cursors, stands


def in_input_order(batch):
    found, after, more = [], "", True
    while more:
        page = well(ask("GET", f"{URL}/batches/{batch}/results?order=input&limit=3&after={after}"))
        found += page["data"]
        after, more = page["after"], page["has_more"]
    return found


def submit():
    content = requests(MODEL, "a red ball", "a harmful ball", "a blue ball", "an illegal ball", max_tokens=4)
    file = well(upload(URL, content))
    batch = ended(URL, well(ask("POST", f"{URL}/batches", batch_of(file["id"]))))
    assert (batch["status"], batch["request_counts"]["filtered"]) == ("completed", 2), batch
    assert set(lines(batch["error_file_id"])) == HARMFUL, batch
    told, cursors, stands = followed(batch["id"], "")
    assert [line["id"] for line in told] == [line["id"] for line in results(batch["id"])] and stands == batch, told
    rest, _, _ = followed(batch["id"], cursors[1])
    assert rest == told[2:], rest
    ordered = in_input_order(batch["id"])
    assert [line["custom_id"] for line in ordered] == ["0", "1", "2", "3"], ordered
    assert [line.get("error") is not None for line in ordered] == [False, True, False, True], ordered
    report = well(ask("GET", f"{URL}/batches/{batch['id']}/report"))
    assert (report["finished"], report["results_examined"], report["remaining_seconds"]) == (4, 4, 0), report
    assert report["failures"] == {"CONTENT_FILTERED": 2} and report["usage"]["output_tokens"] > 0, report
    slowest = [one["custom_id"] for one in report["slowest"]]
    assert sorted(slowest) == ["0", "2"] and report["requests_per_second"] > 0, report
    for query in ("order=x", "order=input&after=x", "after=x"):
        refused(ask("GET", f"{URL}/batches/{batch['id']}/results?{query}"), 400, "invalid_request")
    print(batch["id"])


def retry(batch):
    again = lambda body, **headers: ask("POST", f"{URL}/batches/{batch}/retry", body, **headers)
    refused(again({"codes": []}), 400, "invalid_request")
    refused(again({"codes": ["NO_SUCH_CODE"]}), 400, "invalid_request")
    refused(again({"codes": ["CONTENT_FILTERED"], "after": "?"}), 400, "invalid_request")
    nobody = f"{URL}/batches/batch_{'0' * 32}/retry"
    refused(ask("POST", nobody, {"codes": ["CONTENT_FILTERED"]}), 404, "not_found")
    # None has failed so.
    none = well(again({"codes": ["MEDIA_INVALID"]}))
    assert (none["retried"], none["has_more"]) == (0, False), none
    before = results(batch)

    wanted = {"codes": ["CONTENT_FILTERED", "MEDIA_INVALID"]}
    asked = well(again(wanted, idempotency_key="k"))
    assert (asked["retried"], asked["has_more"], asked["batch_id"]) == (2, False, batch), asked
    assert well(again(wanted, idempotency_key="k")) == asked
    assert well(again(wanted))["retried"] == 0, "what was asked again is no failure any more"
    told, _, told_last = followed(batch, well(ask("GET", f"{URL}/batches/{batch}/results"))["after"])
    stands = ended(URL, {"id": batch})
    assert told_last["status"] == "completed" and {line["custom_id"] for line in told} <= HARMFUL, told
    counts = stands["request_counts"]
    assert (stands["status"], counts["total"], counts["completed"], counts["failed"]) == ("completed", 4, 4, 0), stands
    assert stands["error_file_id"] is None, stands
    output = lines(stands["output_file_id"])
    assert set(output) == {"0", "1", "2", "3"}, output
    after = {line["custom_id"]: line["id"] for line in results(batch)}
    assert len(after) == 4 and len(results(batch)) == 4, after
    same = {line["custom_id"] for line in before if after[line["custom_id"]] == line["id"]}
    assert same == {"0", "2"}, "those that had an answer keep it"
    ordered = in_input_order(batch)
    assert [(line["custom_id"], line["id"]) for line in ordered] == sorted(after.items()), ordered
    assert well(ask("GET", f"{URL}/batches/{batch}/report"))["failures"] == {}

    file = well(upload(URL, requests("nobody-serves-it", "a")))
    other = well(ask("POST", f"{URL}/batches", batch_of(file["id"])))
    well(ask("POST", f"{URL}/batches/{other['id']}/cancel"))
    body = {"codes": ["CANCELLED"]}
    refused(ask("POST", f"{URL}/batches/{other['id']}/retry", body), 409, "batch_ended")


if WHAT == "submit":
    submit()
else:
    retry(sys.argv[4])
