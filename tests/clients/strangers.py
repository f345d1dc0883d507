"""What a gateway must not let happen: keys, tenants, and bodies that do harm.

Arguments: host, port, then keys: of tenant a, of tenant b, of a that only reads, and a revoked one.
"""

import json
import socket
import sys
import threading
import urllib.error
import urllib.request

HOST, PORT = sys.argv[1], int(sys.argv[2])
A, B, READER, REVOKED = sys.argv[3:]
MIB = 1 << 20


def ask(method, path, key=A, body=None, kind="application/json"):
    """Status and JSON of an answer."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content-Type": kind} if data is not None else {}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"http://{HOST}:{PORT}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def refused(answer, status, code):
    assert answer[0] == status and answer[1]["error"]["code"] == code, answer
    assert answer[1]["error"]["message"], answer


def upload(lines, key=A):
    head = (
        '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--x\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
    )
    body = head.encode() + lines + b"\r\n--x--\r\n"
    return ask("POST", "/v1/files", key, body, "multipart/form-data; boundary=x")


def line(name, text="hi"):
    body = {"model": "nobody-serves-it", "messages": [{"role": "user", "content": text}]}
    request = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"


def raw(sent, until_closed=False):
    """What comes back for these bytes; everything until the other side closes."""
    with socket.create_connection((HOST, PORT), timeout=40) as connection:
        try:
            connection.sendall(sent)
        except (BrokenPipeError, ConnectionResetError):
            pass
        said = b""
        try:
            while more := connection.recv(65536):
                said += more
                if not until_closed:
                    break
        except ConnectionResetError:
            pass
        return said


def keys():
    for key in [None, "", "sk-wrong", REVOKED, A + "0", A[:-1] + ("0" if A[-1] != "0" else "1")]:
        refused(ask("GET", "/v1/models", key), 401, "invalid_api_key")
    assert ask("GET", "/v1/models", READER)[0] == 200
    refused(upload(line("a"), READER), 403, "missing_scope")
    refused(ask("POST", "/v1/chat/completions", READER, {}), 403, "missing_scope")


def tenants():
    """What is another one's is unknown."""
    status, file = upload(line("a") + line("b"))
    assert status == 200, file
    wanted = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    status, batch = ask("POST", "/v1/batches", A, wanted)
    assert (status, batch["status"], batch["request_counts"]["total"]) == (200, "in_progress", 2), batch
    refused(ask("POST", "/v1/batches", B, wanted), 404, "not_found")
    for method, path in [
        ("GET", f"/v1/files/{file['id']}"),
        ("GET", f"/v1/files/{file['id']}/content"),
        ("DELETE", f"/v1/files/{file['id']}"),
        ("GET", f"/v1/batches/{batch['id']}"),
        ("POST", f"/v1/batches/{batch['id']}/cancel"),
        ("GET", f"/v1/batches/{batch['id']}/results"),
    ]:
        refused(ask(method, path, B), 404, "not_found")
    for kind in ["files", "batches"]:
        assert ask("GET", f"/v1/{kind}", B)[1]["data"] == []
        assert len(ask("GET", f"/v1/{kind}", READER)[1]["data"]) == 1
    status, batch = ask("POST", f"/v1/batches/{batch['id']}/cancel")
    assert (status, batch["status"]) == (200, "cancelled") and batch["cancelling_at"], batch
    assert ask("POST", f"/v1/batches/{batch['id']}/cancel")[1] == batch
    refused(ask("GET", f"/v1/files/{batch['error_file_id']}/content", B), 404, "not_found")
    # Nobody has begun any of it, and yet every line is accounted for.
    request = urllib.request.Request(
        f"http://{HOST}:{PORT}/v1/files/{batch['error_file_id']}/content", headers={"Authorization": f"Bearer {A}"}
    )
    with urllib.request.urlopen(request) as content:
        lines = [json.loads(line) for line in content.read().splitlines()]
    assert [(one["custom_id"], one["error"]["code"]) for one in lines] == [("a", "CANCELLED"), ("b", "CANCELLED")]


def many():
    """Fifty submit at once, and each sees its own."""
    wrong = []

    def submit(number):
        key = [A, B][number % 2]
        status, file = upload(line(f"{number}") * 1, key)
        if status != 200 or ask("GET", f"/v1/files/{file['id']}", [B, A][number % 2])[0] != 404:
            wrong.append((status, file))

    threads = [threading.Thread(target=submit, args=[number]) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert len(ask("GET", "/v1/files?limit=100", B)[1]["data"]) == 25


def bodies():
    for text, code in [
        (b"x" * 50 * MIB, "line_too_long"),
        (line("a").replace(b"hi", b"\xff"), "invalid_json_line"),
        (b"[" * 100_000 + b"\n", "invalid_json_line"),
    ]:
        status, answer = upload(text)
        assert (status, answer["error"]["errors"][0]["code"]) == (400, code), answer
    refused(ask("POST", "/v1/chat/completions", A, b"[" * 100_000), 400, "invalid_request")
    refused(ask("POST", "/v1/chat/completions", A, b"{\xff}"), 400, "invalid_request")
    refused(ask("POST", "/v1/chat/completions", A, {}), 400, "VALIDATION_ERROR")
    refused(ask("POST", "/v1/chat/completions", A, b"{}", "text/plain"), 415, "unsupported_media_type")
    refused(ask("POST", "/v1/files", A, b"{}"), 415, "unsupported_media_type")
    refused(ask("POST", "/v1/files", A, b"x", "multipart/form-data; boundary=x"), 400, "invalid_request")
    refused(ask("GET", "/v1/nowhere"), 404, "not_found")
    refused(ask("PUT", "/v1/files"), 405, "method_not_allowed")
    for query in ["limit=0", "limit=x", "limit=1&limit=1", "after=batch_x", "unknown=1"]:
        assert ask("GET", f"/v1/batches?{query}")[0] in (400, 404), query
    # The head of a part that never ends is not kept.
    endless = b"--x\r\nContent-Disposition: " + b"x" * 8 * MIB
    assert ask("POST", "/v1/files", A, endless, "multipart/form-data; boundary=x")[0] == 400


def connections():
    said = raw(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 10 * MIB)
    assert said == b"" or said.startswith(b"HTTP/1.1 431"), said
    huge = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {A}\r\n"
    huge += f"Content-Type: application/json\r\nContent-Length: {33 * MIB}\r\n\r\n"
    assert raw(huge.encode()).startswith(b"HTTP/1.1 413")
    # Many that say nothing more are let go, and others are served meanwhile.
    idle = [socket.create_connection((HOST, PORT), timeout=40) for _ in range(200)]
    for connection in idle:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: ")
    assert ask("GET", "/v1/models")[0] == 200
    for connection in idle:
        while connection.recv(4096):
            pass
        connection.close()


keys()
tenants()
many()
bodies()
connections()
