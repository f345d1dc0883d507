"""A large file of requests is uploaded. Arguments: the gateway's base URL, how many requests.

Prints the seconds it took.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import openai

URL, COUNT = sys.argv[1], int(sys.argv[2])
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "requests.jsonl"
    with path.open("w") as file:
        for number in range(COUNT):
            text = f"Say in one sentence what number {number} is of, please, and why it is not another one."
            body = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 64}
            line = {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(line) + "\n")
    started = time.monotonic()
    sent = client.files.create(file=path, purpose="batch")
    print(f"{time.monotonic() - started:.2f}")
assert sent.status == "processed", sent
