"""Four submissions an hour are let in, by two gateways together. Arguments: their base URLs, keys of two tenants."""

import sys

import openai

from asking import ask, refused, requests, upload, well

ONE, OTHER, A, B = sys.argv[1:]


def left(answer, remaining):
    headers = answer[1]
    told = [headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining")]
    assert told == ["4", str(remaining)], (told, answer)
    # All of it is there again an hour from now, or a minute later.
    assert headers["x-ratelimit-reset-requests"].startswith(("59m", "1h0m", "1h1m")), headers.items()
    return answer


def usage(url, key):
    return well(ask("GET", f"{url}/usage", key=key))["requests"]


assert usage(ONE, A) == {"limit": 4, "used": 0, "remaining": 4, "reset_seconds": 0, "window_seconds": 3600}
# A file is one submission, however many requests are in it.
well(left(upload(ONE, requests("m", "a", "b", "c"), A), 3))
refused(left(ask("POST", f"{OTHER}/jobs", b"no json", A), 2), 400, "invalid_request")
# Who has no right to submit takes nothing.
refused(ask("POST", f"{ONE}/jobs", {}, "lapidary_no_key"), 401, "invalid_api_key")
well(left(upload(OTHER, requests("m", "d"), A), 1))
listed = ask("GET", f"{ONE}/files", key=A)
assert len(well(listed)["data"]) == 2 and "x-ratelimit-limit-requests" not in listed[1]
well(left(upload(ONE, requests("m", "e"), A), 0))
for url in (ONE, OTHER):
    answer = left(upload(url, requests("m", "f"), A), 0)
    message = refused(answer, 429, "RATE_LIMIT_EXCEEDED")
    assert "4 submissions an hour" in message and answer[2]["error"]["type"] == "rate_limit_error", answer
    assert 3_400 < int(answer[1]["retry-after"]) <= 3_660, answer[1]["retry-after"]
    seen = usage(url, A)
    assert seen["remaining"] == 0 and seen["reset_seconds"] > 3_400, seen
# What is there can be looked at and deleted, and others are not concerned.
well(ask("DELETE", f"{ONE}/files/{listed[2]['data'][0]['id']}", key=A))
assert usage(OTHER, B)["remaining"] == 4
well(left(upload(OTHER, requests("m", "a"), B), 3))

client = openai.OpenAI(base_url=ONE, api_key=A, max_retries=0)
try:
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
except openai.RateLimitError as error:
    assert error.code == "RATE_LIMIT_EXCEEDED", error.body
else:
    raise AssertionError("not refused")
