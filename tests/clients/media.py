"""Media that is sent once and named by requests.

Arguments: the gateway's base URL, a model that reads pictures, a folder of PNG files and of what it says of
them (expected.json), keys of two tenants.
"""

import json
import sys
from pathlib import Path

from asking import ask, batch_of, ended, form, refused, upload, well

URL, MODEL, FOLDER, A, B = sys.argv[1:]
MIB = 1 << 20
picture = sorted(Path(FOLDER).glob("*.png"))[0]
CAPTION = json.loads((Path(FOLDER) / "expected.json").read_text())[picture.name]
PROMPT = (
    "Write a caption for this image: one or two sentences that say what it shows. Answer with the caption alone."
)


def send(body, kind, key=A, **headers):
    return ask("POST", f"{URL}/media", body, key, content_type=kind, **headers)


def chat(part, prompt=PROMPT):
    parts = [part, {"type": "text", "text": prompt}]
    return {"model": MODEL, "messages": [{"role": "user", "content": parts}], "temperature": 0}


def image(media):
    return {"type": "image_url", "image_url": {"url": media}}


def sent():
    """It is the same media however it is sent, and what it is shows its content."""
    media = well(send(picture.read_bytes(), "image/png"))
    assert (media["object"], media["media_type"], media["bytes"]) == ("media", "image/png", picture.stat().st_size)
    assert media["id"].startswith("media:") and media["expires_at"] - media["created_at"] == 24 * 3600, media
    body, kind = form("x", "picture.jpg", picture.read_bytes(), "image/jpeg")
    again = well(send(body, kind))
    assert (again["id"], again["media_type"]) == (media["id"], "image/png"), again
    assert well(send(picture.read_bytes(), "application/octet-stream"))["id"] == media["id"]
    keyed = [send(picture.read_bytes(), "image/png", idempotency_key="k") for _ in range(2)]
    assert well(keyed[0]) == well(keyed[1]), keyed
    refused(send(b"other", "text/plain", idempotency_key="k"), 422, "idempotency_key_reused")
    return media["id"]


def wrong():
    refused(send(b"no picture", "image/png"), 400, "MEDIA_INVALID")
    refused(send(b"<svg xmlns='x'/>", "image/svg+xml"), 400, "MEDIA_INVALID")
    refused(send(b"\xff\xfe\xfd", "text/plain"), 400, "MEDIA_INVALID")
    refused(send(b"", "text/plain"), 400, "MEDIA_INVALID")
    refused(send(b"%PDF-1.7", "application/pdf"), 415, "unsupported_media_type")
    body, kind = form("x", "a", b"a", "text/plain", other="y")
    refused(send(body, kind), 400, "invalid_request")
    refused(send(b"--x--\r\n", "multipart/form-data; boundary=x"), 400, "invalid_request")
    refused(send(b"x" * (64 * MIB + 1), "text/plain"), 413, "body_too_large")
    body, kind = form("x", "a", b"x" * (64 * MIB + 1), "text/plain")
    refused(send(body, kind), 413, "body_too_large")


def named(media):
    """It stands for the picture, in single requests and in files."""
    answer = well(ask("POST", f"{URL}/chat/completions", chat(image(media)), A))
    assert answer["choices"][0]["message"]["content"] == CAPTION, answer
    text = well(send(b"A document of a few words.", "text/plain"))["id"]
    document = {"type": "file", "file": {"file_data": text}}
    said = well(ask("POST", f"{URL}/chat/completions", chat(document, "What is it?"), A))
    assert said["usage"]["prompt_tokens"] > 5, said

    def line(name, media):
        line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": chat(image(media))}
        return json.dumps(line).encode() + b"\n"

    file = well(upload(URL, line("a", media) + line("b", media), A))
    batch = well(ask("POST", f"{URL}/batches", batch_of(file["id"]), A))
    batch = ended(URL, batch, A)
    assert batch["request_counts"]["completed"] == 2, batch
    page = well(ask("GET", f"{URL}/batches/{batch['id']}/results", key=A))
    assert {one["response"]["body"]["choices"][0]["message"]["content"] for one in page["data"]} == {CAPTION}, page

    # What is another one's, or nobody's, is not there.
    absent = f"media:{'0' * 64}:5"
    refused(ask("POST", f"{URL}/chat/completions", chat(image(media)), B), 400, "MEDIA_INVALID")
    refused(ask("POST", f"{URL}/jobs", chat(image(absent)), A), 400, "MEDIA_INVALID")
    file = well(upload(URL, line("a", media) + line("b", absent), A))
    answer = ask("POST", f"{URL}/batches", batch_of(file["id"]), A)
    refused(answer, 400, "invalid_file")
    [mistake] = answer[2]["error"]["errors"]
    assert mistake["line"] == 2 and absent in mistake["message"], mistake


media = sent()
wrong()
named(media)
