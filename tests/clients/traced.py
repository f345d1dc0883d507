"""A batch is submitted within a trace of the client's.

Arguments: the gateway's base URL, a model, the header `traceparent`. Ends with the batch.
"""

import sys

from asking import ask, batch_of, ended, requests, upload, well

URL, MODEL, TRACEPARENT = sys.argv[1:4]

file = well(upload(URL, requests(MODEL, "What is a gem?", "What is a mine?", max_tokens=8)))
batch = well(ask("POST", f"{URL}/batches", batch_of(file["id"]), traceparent=TRACEPARENT))
assert ended(URL, batch)["status"] == "completed"
