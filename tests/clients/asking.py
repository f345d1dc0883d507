"""Asking a gateway without a client's help: what is sent and what comes back is seen as it is."""

import json
import time
import urllib.error
import urllib.request

JSONL = b'{"custom_id": "%d", "method": "POST", "url": "/v1/chat/completions", "body": %s}\n'


def ask(method, url, body=None, key=None, **headers):
    """Status, headers and JSON of an answer. A body that is no bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        sent.setdefault("content-type", "application/json")
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, body, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


def refused(answer, status, code):
    assert answer[0] == status and answer[2]["error"]["code"] == code, answer
    return answer[2]["error"]["message"]


def well(answer, status=200):
    assert answer[0] == status, answer
    return answer[2]


def form(boundary, name, content, kind="application/octet-stream", **fields):
    """A form with a file, and its type."""
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
        for field, value in fields.items()
    )
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    body = parts.encode() + head.encode() + f"Content-Type: {kind}\r\n\r\n".encode() + content
    return body + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def requests(model, *texts, **more):
    """A file of requests, one for each text, named by their numbers."""
    bodies = ({"model": model, "messages": [{"role": "user", "content": text}], **more} for text in texts)
    return b"".join(JSONL % (number, json.dumps(body).encode()) for number, body in enumerate(bodies))


def upload(url, content, key=None, boundary="x", **headers):
    body, kind = form(boundary, "in.jsonl", content, purpose="batch")
    return ask("POST", f"{url}/files", body, key, content_type=kind, **headers)


def batch_of(file):
    return {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}


def ended(url, batch, key=None, within_s=100):
    """The batch once it has ended."""
    until = time.monotonic() + within_s
    while True:
        batch = well(ask("GET", f"{url}/batches/{batch['id']}", key=key))
        if batch["status"] not in ("validating", "in_progress", "finalizing", "cancelling"):
            return batch
        assert time.monotonic() < until, batch
        time.sleep(0.1)
