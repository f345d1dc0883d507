"""The gateway is what its description says, and its documents say the same. Arguments: its address, GATEWAY.md."""

import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

from asking import ask, well

URL, DOCUMENT = sys.argv[1:]
# For people, who do not read the description.
PAGE = {("get", "/"), ("get", "/page/ID")}


def reached(method, path):
    """Status and beginning of what an address answers, which may be no JSON, or go on for ever."""
    request = urllib.request.Request(URL + path, method=method.upper())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.readline().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


described = well(ask("GET", f"{URL}/openapi.json"))
assert described["openapi"] == "3.1.0", described["openapi"]
operations = {
    (method, re.sub(r"\{[^}]*\}", "ID", path)): operation
    for path, methods in described["paths"].items()
    for method, operation in methods.items()
}
assert len(operations) > 30, sorted(operations)

documented = set()
for row in Path(DOCUMENT).read_text().splitlines():
    if not (cell := re.match(r"\| (`[A-Z]+ /[^|]*) \|", row)):
        continue
    for written in re.findall(r"`([^`]*)`", cell[1]):
        method, _, path = written.rpartition(" ")
        method = method.lower() or last
        documented.add((method, path.replace("REFERENCE", "ID")))
        last = method
served = set(operations) - PAGE
assert documented == served, documented ^ served

names = [operation["operationId"] for operation in operations.values()]
assert len(names) == len(set(names)), names
for (method, path), operation in operations.items():
    # Whatever it says of this one, the address is there and takes the method.
    status, said = reached(method, path)
    assert status != 405 and "no address" not in said, (method, path, said)
    is_open = (method, path) in PAGE or path == "/openapi.json"
    assert (operation["security"] == []) == is_open, (path, operation["security"])

counted = {name for name, operation in operations.items() if "x-ratelimit-limit-requests" in str(operation)}
made_once = ["files", "batches", "batches/ID/retry", "media", "chat/completions", "jobs"]
assert {("post", f"/v1/{path}") for path in made_once} <= counted, counted
for path in made_once:
    operation = operations["post", f"/v1/{path}"]
    keys = [one for one in operation["parameters"] if one["name"] == "idempotency-key"]
    assert [one["schema"]["maxLength"] for one in keys] == [255], operation
    assert "retry-after" in operation["responses"]["429"]["headers"], operation
listed = {one["name"]: one for one in operations["get", "/v1/batches"]["parameters"]}
assert listed["limit"]["schema"]["maximum"] == 100 and not listed["after"].get("required"), listed
schemas = described["components"]["schemas"]
codes = str(schemas["AnyCode"]) + str(schemas["Code"]) + str(schemas["FailureCode"])
assert all(code in codes for code in ("'queue_full'", "'not_found'", "'PROMPT_TOO_LONG'")), codes
body = schemas["ChatCompletionRequest"]
assert body["additionalProperties"] is False and {"stream", "max_completion_tokens"} <= set(body["properties"]), body
