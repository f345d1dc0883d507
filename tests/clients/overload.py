"""More than there is room for, and uploads that break off. Arguments: host, port, a model, then `full` while its worker
does nothing, or `then` and the jobs that `full` prints.
"""

import json
import socket
import struct
import sys
import time

from asking import ask, form, refused, requests, upload, well

HOST, PORT, MODEL, WHAT = sys.argv[1:5]
URL = f"http://{HOST}:{PORT}/v1"
ROOM = 2
# A worker that stands still may have had some in hand.
IN_HAND_MAX = 64


def break_off(content):
    """Sends half of an upload, and is gone as if it had been killed."""
    body, kind = form("x", "in.jsonl", content, purpose="batch")
    head = f"POST /v1/files HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((HOST, int(PORT)), timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(head.encode() + body[: len(body) // 2])


def full():
    jobs = []
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    while (answer := ask("POST", f"{URL}/jobs", body))[0] == 202:
        jobs.append(answer[2]["id"])
        assert len(jobs) <= ROOM + IN_HAND_MAX, "the queue is never full"
    message = refused(answer, 429, "queue_full")
    assert f"the limit is {ROOM}" in message and int(answer[1]["retry-after"]) > 0, answer
    refused(ask("POST", f"{URL}/chat/completions", body), 429, "queue_full")
    assert len(jobs) >= ROOM, jobs

    # As many as are read at once, and one more: none of them is waited for.
    content = requests(MODEL, *(["some words"] * 20_000))
    for _ in range(17):
        break_off(content)
    assert well(upload(URL, requests(MODEL, "a")))["status"] == "processed"
    assert len(well(ask("GET", f"{URL}/files"))["data"]) == 1
    print(json.dumps(jobs))


def then(jobs):
    """What was taken is answered."""
    until = time.monotonic() + 60
    for job in jobs:
        while (shown := well(ask("GET", f"{URL}/jobs/{job}")))["status"] != "succeeded":
            assert time.monotonic() < until, shown
            time.sleep(0.1)


if WHAT == "full":
    full()
else:
    then(json.loads(sys.argv[5]))
