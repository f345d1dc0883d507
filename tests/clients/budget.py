"""A tenant uses so many tokens a day. Arguments: two base URLs of gateways that allow 80, a model that answers, keys: of
tenant a, of a with a limit of its own, of tenant b.
"""

import sys
import time

from asking import ask, batch_of, ended, refused, requests, upload, well

ONE, OTHER, MODEL, A, LARGE, B = sys.argv[1:]


def chat(url, key, **more):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "What is this?"}], "max_tokens": 4, **more}
    return ask("POST", f"{url}/chat/completions", body, key)


def tokens(url, key):
    return well(ask("GET", f"{url}/usage", key=key))["tokens"]


def counted(url, key, used):
    """What is left once all that was answered is counted, which is a moment later."""
    until = time.monotonic() + 30
    while (seen := tokens(url, key))["used"] != used:
        assert time.monotonic() < until, (seen, used)
        time.sleep(0.05)
    return seen


assert tokens(ONE, A) == {"limit": 80, "used": 0, "remaining": 80, "reset_seconds": 0, "window_seconds": 86_400}
file = well(upload(OTHER, requests(MODEL, "one", "two", "three", max_tokens=4), A))
answer = chat(ONE, A)
used = well(answer)["usage"]["total_tokens"]
assert 0 < used < 80 and answer[1]["x-ratelimit-limit-tokens"] == "80", answer
seen = counted(OTHER, A, used)
assert seen["remaining"] == 80 - used and 86_000 < seen["reset_seconds"] <= 88_000, seen

# What was let in is worked on to its end, also over the limit: a batch counts as its requests are through.
batch = ended(ONE, well(ask("POST", f"{ONE}/batches", batch_of(file["id"]), A)), A)
used += batch["usage"]["total_tokens"]
assert batch["request_counts"]["completed"] == 3 and used > 80, (batch, used)
for url in (ONE, OTHER):
    assert counted(url, A, used)["remaining"] == 0
    answer = chat(url, A)
    message = refused(answer, 429, "RATE_LIMIT_EXCEEDED")
    assert "80 tokens a day" in message and answer[1]["x-ratelimit-remaining-tokens"] == "0", answer
    assert 86_000 < int(answer[1]["retry-after"]) <= 88_000, answer[1]["retry-after"]
refused(ask("POST", f"{ONE}/batches", batch_of(file["id"]), A), 429, "RATE_LIMIT_EXCEEDED")
# What it has can be looked at, and others are not concerned.
well(ask("GET", f"{ONE}/batches/{batch['id']}", key=A))
assert tokens(ONE, B)["used"] == 0
well(chat(ONE, B))

# A key may have limits of its own, of what the same tenant uses and submits.
assert (tokens(ONE, LARGE)["limit"], tokens(ONE, LARGE)["used"]) == (100_000, used), tokens(ONE, LARGE)
usage = well(ask("GET", f"{ONE}/usage", key=LARGE))["requests"]
assert (usage["limit"], usage["remaining"]) == (8, 8 - usage["used"]), usage
for _ in range(usage["remaining"]):
    well(chat(ONE, LARGE))
assert "8 submissions an hour" in refused(chat(OTHER, LARGE), 429, "RATE_LIMIT_EXCEEDED")
