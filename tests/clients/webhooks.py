"""The end of a batch is told to where its tenant wants it, signed, again where that fails, and nowhere else.

Arguments: the base URLs of two gateways of one place, the one port on this machine that they may send to, keys of two
tenants.
"""

import base64
import hashlib
import hmac
import json
import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from asking import ask, batch_of, refused, requests, upload, well

ONE, OTHER, PORT, A, B = sys.argv[1:]
told = queue.Queue()


class Listener(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        told.put((self.path, dict(self.headers.items()), body))
        # The first attempt of all fails.
        status = 410 if listener.gone else 500 if listener.fails else 204
        listener.fails = False
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


def signed(secret, headers, body):
    """Checks a delivery as the scheme says."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60, headers
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signature}", headers


def delivery(key=A):
    return well(ask("GET", f"{OTHER}/webhooks/deliveries", key=key))["data"]


def concluded(attempts):
    until = time.monotonic() + 60
    while (one := delivery()[0])["attempts"] < attempts or one["status"] == "pending" and attempts > 1:
        assert time.monotonic() < until, one
        time.sleep(0.1)
    return one


listener = ThreadingHTTPServer(("127.0.0.1", int(PORT)), Listener)
listener.fails, listener.gone = True, False
threading.Thread(target=listener.serve_forever, daemon=True).start()

for url in ["http://127.0.0.1:1/", f"http://localhost:{PORT}/", "http://169.254.169.254/", "file:///etc/passwd", "x"]:
    refused(ask("POST", f"{ONE}/webhooks", {"url": url}, A), 400, "invalid_request")
hook = well(ask("POST", f"{ONE}/webhooks", {"url": f"http://127.0.0.1:{PORT}/hook"}, A))
listed = well(ask("GET", f"{OTHER}/webhooks", key=A))["data"]
assert [one["id"] for one in listed] == [hook["id"]] and "secret" not in listed[0], listed
assert well(ask("GET", f"{ONE}/webhooks", key=B))["data"] == []

file = well(upload(ONE, requests("nobody-serves-it", "a", "b"), A))
batch = well(ask("POST", f"{ONE}/batches", batch_of(file["id"]), A))
well(ask("POST", f"{OTHER}/batches/{batch['id']}/cancel", key=A))

path, headers, body = told.get(timeout=30)
headers = {name.lower(): value for name, value in headers.items()}
signed(hook["secret"], headers, body)
event = json.loads(body)
assert path == "/hook" and headers["content-type"] == "application/json", (path, headers)
assert (event["type"], event["data"]["id"], event["data"]["status"]) == ("batch.cancelled", batch["id"], "cancelled")
assert event["data"]["request_counts"]["cancelled"] == 2, event
one = concluded(1)
assert (one["event"], one["webhook_id"], one["batch_id"]) == ("batch.cancelled", hook["id"], batch["id"]), one

# It was answered 500, so it comes again, under the same id and signed anew.
_, again, same = told.get(timeout=30)
again = {name.lower(): value for name, value in again.items()}
signed(hook["secret"], again, same)
assert again["webhook-id"] == headers["webhook-id"] == one["id"] and same == body, again
one = concluded(2)
assert (one["status"], one["attempts"], one["next_attempt_at"]) == ("delivered", 2, None), one

refused(ask("POST", f"{ONE}/webhooks/deliveries/{one['id']}/replay", key=B), 404, "not_found")
assert well(ask("POST", f"{ONE}/webhooks/deliveries/{one['id']}/replay", key=A))["status"] == "pending"
_, replayed, same = told.get(timeout=30)
assert same == body and {name.lower(): value for name, value in replayed.items()}["webhook-id"] == one["id"]
assert delivery(B) == []

assert well(ask("DELETE", f"{ONE}/webhooks/{hook['id']}", key=A))["deleted"]
well(ask("POST", f"{ONE}/webhooks/deliveries/{one['id']}/replay", key=A))
until = time.monotonic() + 30
while (last := delivery()[0])["status"] == "pending":
    assert time.monotonic() < until, last
    time.sleep(0.1)
assert (last["status"], last["outcome"]) == ("failed", "the endpoint was deleted or disabled") and told.empty(), last

# An endpoint that says that it is gone is asked once, and never again.
listener.gone = True
hook = well(ask("POST", f"{ONE}/webhooks", {"url": f"http://127.0.0.1:{PORT}/gone"}, A))
assert hook["disabled"] is False, hook
for turn in range(2):
    batch = well(ask("POST", f"{ONE}/batches", batch_of(file["id"]), A))
    well(ask("POST", f"{OTHER}/batches/{batch['id']}/cancel", key=A))
    if turn == 0:
        assert told.get(timeout=30)[0] == "/gone"
        while (last := delivery()[0])["status"] == "pending":
            assert time.monotonic() < until + 60, last
            time.sleep(0.1)
        assert (last["status"], last["outcome"], last["attempts"]) == ("failed", "answered 410 Gone", 1), last
        assert well(ask("GET", f"{ONE}/webhooks", key=A))["data"][0]["disabled"], hook
# The listener hears of the second batch's end by another endpoint alone.
listener.gone = False
other, quiet = (
    well(ask("POST", f"{ONE}/webhooks", {"url": f"http://127.0.0.1:{PORT}/{name}"}, A)) for name in ("other", "quiet")
)
# A batch may name who is told of its end.
refused(ask("POST", f"{ONE}/batches", {**batch_of(file["id"]), "webhooks": [other["id"]]}, B), 404, "not_found")
for named in ([], [other["id"]]):
    batch = well(ask("POST", f"{ONE}/batches", {**batch_of(file["id"]), "webhooks": named}, A))
    assert batch["webhooks"] == named, batch
    well(ask("POST", f"{OTHER}/batches/{batch['id']}/cancel", key=A))
while json.loads((said := told.get(timeout=30))[2])["data"]["id"] != batch["id"]:
    pass
assert said[0] == "/other", said
assert {one["webhook_id"] for one in delivery() if one["batch_id"] == batch["id"]} == {other["id"]}, delivery()
