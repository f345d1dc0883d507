"""Submissions under an idempotency key. Arguments: the base URLs of two gateways of one place, a model."""

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from asking import ask, batch_of, ended, refused, requests, upload, well

ONE, OTHER, MODEL = sys.argv[1:]
END = time.monotonic() + 100


def chat(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0, **more}


def patiently(call):
    """What a client does that is told to come again."""
    while (answer := call())[0] == 409:
        assert answer[2]["error"]["code"] == "idempotency_key_in_use" and answer[1]["retry-after"], answer
        assert time.monotonic() < END, answer
        time.sleep(0.05)
    return answer


def at_once(call):
    """One call many times through both gateways, all at once; the one answer that all get."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: patiently(lambda: call([ONE, OTHER][number % 2], number)), range(8)))
    ids = {well(answer, answers[0][0])["id"] for answer in answers}
    assert len(ids) == 1, answers
    return answers[0][2]


def files_and_batches():
    content = requests(MODEL, "a", "b", max_tokens=4)
    # Forms of the same content differ where their parts are divided.
    file = at_once(lambda url, number: upload(url, content, boundary=f"x{number}", idempotency_key="file"))
    assert [one["id"] for one in well(ask("GET", f"{ONE}/files"))["data"]] == [file["id"]]
    refused(upload(OTHER, requests(MODEL, "c"), idempotency_key="file"), 422, "idempotency_key_reused")

    wanted = batch_of(file["id"])
    batch = at_once(lambda url, _: ask("POST", f"{url}/batches", wanted, idempotency_key="batch"))
    assert [one["id"] for one in well(ask("GET", f"{ONE}/batches"))["data"]] == [batch["id"]]
    other = {**wanted, "completion_window": "48h"}
    refused(ask("POST", f"{ONE}/batches", other, idempotency_key="batch"), 422, "idempotency_key_reused")
    # It stands for one address, too.
    refused(ask("POST", f"{ONE}/jobs", wanted, idempotency_key="batch"), 400, "VALIDATION_ERROR")
    refused(ask("POST", f"{ONE}/jobs", chat("x"), idempotency_key="batch"), 422, "idempotency_key_reused")
    # The same one is told how it stands now.
    assert ended(ONE, batch)["status"] == "completed"
    again = well(ask("POST", f"{OTHER}/batches", wanted, idempotency_key="batch"))
    assert (again["id"], again["status"]) == (batch["id"], "completed"), again
    # Without a key, it is another one.
    assert well(ask("POST", f"{ONE}/batches", wanted))["id"] != batch["id"]


def jobs_and_answers():
    job = at_once(lambda url, _: ask("POST", f"{url}/jobs", chat("job"), idempotency_key="job"))
    assert job["object"] == "job", job
    answer = at_once(lambda url, _: ask("POST", f"{url}/chat/completions", chat("chat"), idempotency_key="chat"))
    text = answer["choices"][0]["message"]["content"]
    assert text and answer["object"] == "chat.completion", answer
    refused(ask("POST", f"{ONE}/chat/completions", chat("more"), idempotency_key="chat"), 422, "idempotency_key_reused")

    def told():
        url = urlsplit(OTHER)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        headers = {"content-type": "application/json", "idempotency-key": "told"}
        body = json.dumps(chat("chat", stream=True))
        connection.request("POST", f"{url.path}/chat/completions", body, headers)
        lines = connection.getresponse().read().decode().splitlines()
        assert lines[-2] == "data: [DONE]", lines
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        return chunks[0]["id"], "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)

    first = told()
    assert first[1] == text and told() == first, first


def given_back():
    """A request that makes nothing leaves its key free."""
    wrong = chat("x", max_tokens=0)
    refused(ask("POST", f"{ONE}/jobs", wrong, idempotency_key="free"), 400, "VALIDATION_ERROR")
    well(ask("POST", f"{OTHER}/jobs", chat("x"), idempotency_key="free"), 202)
    refused(ask("POST", f"{ONE}/jobs", chat("x"), idempotency_key="x" * 256), 400, "invalid_request")
    refused(ask("POST", f"{ONE}/jobs", chat("x"), idempotency_key=""), 400, "invalid_request")


def left():
    """A client that leaves finds its answer when it comes again."""
    url = urlsplit(ONE)
    body = json.dumps(chat("left", max_tokens=64))
    headers = {"content-type": "application/json", "idempotency-key": "left"}
    connection = http.client.HTTPConnection(url.hostname, url.port)
    connection.request("POST", f"{url.path}/chat/completions", body, headers)
    connection.close()
    answer = patiently(lambda: ask("POST", f"{OTHER}/chat/completions", body.encode(), idempotency_key="left"))
    assert well(answer)["choices"][0]["message"]["content"], answer


files_and_batches()
jobs_and_answers()
given_back()
left()
