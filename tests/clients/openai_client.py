"""The official client, unchanged, does everything that it can do against a gateway.

Arguments: the gateway's base URL, a model that reads pictures, a folder of PNG files and of what it says of
them (expected.json).
"""

import base64
import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Literal

import openai
import pydantic

URL, MODEL, FOLDER = sys.argv[1:]
END = time.monotonic() + 300
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
pictures = sorted(Path(FOLDER).glob("*.png"))[:3]
EXPECTED = json.loads((Path(FOLDER) / "expected.json").read_text())
PROMPT = (
    "Write a caption for this image: one or two sentences that say what it shows. Answer with the caption alone."
)


def messages(picture):
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": PROMPT}]
    return [{"role": "user", "content": parts}]


def line(name, picture, **more):
    body = {"model": MODEL, "messages": messages(picture), "temperature": 0, **more}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def upload(lines):
    text = "\n".join(json.dumps(line) for line in lines)
    return client.files.create(file=("in.jsonl", text.encode()), purpose="batch"), text


def ended(batch):
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        assert time.monotonic() < END, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def lines_of(file):
    return [json.loads(line) for line in client.files.content(file).text.splitlines()]


def models():
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).owned_by == "lapidary"
    refused(openai.NotFoundError, lambda: client.models.retrieve("no/such"))


def refused(kind, call):
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"not refused: {answer}")


def chat():
    """One answer, whole and told as it comes, of a picture that fits a message and one that does not."""
    asked = {"model": MODEL, "messages": messages(pictures[0].read_bytes()), "temperature": 0}
    whole = client.chat.completions.create(**asked)
    text = whole.choices[0].message.content
    assert text == EXPECTED[pictures[0].name] and whole.choices[0].finish_reason == "stop", whole
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    told = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told if chunk.choices) == text, told
    assert told[0].choices[0].delta.role == "assistant", told
    assert [chunk.choices[0].finish_reason for chunk in told if chunk.choices][-1] == "stop", told
    assert told[-1].usage.completion_tokens == whole.usage.completion_tokens, told

    # What follows a picture in its file is not looked at, so this is the same one, and large.
    large = pictures[0].read_bytes() + bytes(200_000)
    assert client.chat.completions.create(**{**asked, "messages": messages(large)}).choices == whole.choices

    error = refused(openai.BadRequestError, lambda: client.chat.completions.create(**asked, max_tokens=0))
    assert "`max_tokens` is 0" in error.message and error.type == "invalid_request_error", error.body
    error = refused(openai.NotFoundError, lambda: client.chat.completions.create(**{**asked, "model": "other"}))
    assert error.code == "model_not_found", error.body
    broken = {**asked, "messages": messages(b"no picture at all")}
    assert refused(openai.BadRequestError, lambda: client.chat.completions.create(**broken)).code == "MEDIA_INVALID"
    return text


def forms():
    """An answer that is JSON of a schema, whatever the model would have said."""

    class Seen(pydantic.BaseModel):
        kind: Literal["drawing", "photograph"]
        colourful: bool

    asked = {"model": MODEL, "messages": messages(pictures[0].read_bytes()), "temperature": 0}
    answer = client.chat.completions.parse(**asked, response_format=Seen)
    choice = answer.choices[0]
    assert isinstance(choice.message.parsed, Seen) and choice.finish_reason == "stop", answer
    assert Seen.model_validate_json(choice.message.content) == choice.message.parsed, answer

    schema = {"type": "json_schema", "json_schema": {"name": "seen"}}
    error = refused(
        openai.BadRequestError, lambda: client.chat.completions.create(**asked, response_format=schema)
    )
    assert "`json_schema` has no `schema`" in error.message, error.body
    schema["json_schema"]["schema"] = {"$ref": "https://example.org/schema.json"}
    error = refused(
        openai.BadRequestError, lambda: client.chat.completions.create(**asked, response_format=schema)
    )
    assert error.code == "VALIDATION_ERROR" and "the answer's form" in error.message, error.body


def batches(text):
    wanted = [line(picture.name, picture.read_bytes()) for picture in pictures]
    wanted.append(line("broken", b"no picture at all"))
    file, sent = upload(wanted)
    assert (file.status, file.purpose, file.filename, file.bytes) == ("processed", "batch", "in.jsonl", len(sent))
    assert client.files.retrieve(file.id) == file and file in list(client.files.list(purpose="batch"))
    assert client.files.content(file.id).text == sent

    metadata = {"who": "me"}
    window = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = client.batches.create(input_file_id=file.id, metadata=metadata, **window)
    assert batch.expires_at - batch.created_at == 24 * 3600 and batch.metadata == metadata, batch
    batch = ended(batch)
    counts = batch.request_counts
    assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 4, 3, 1), batch
    assert batch.completed_at and not batch.failed_at and batch.usage.output_tokens > 0, batch
    answers = {line["custom_id"]: line["response"]["body"] for line in lines_of(batch.output_file_id)}
    assert set(answers) == {picture.name for picture in pictures}
    assert answers[pictures[0].name]["choices"][0]["message"]["content"] == text, answers
    [error] = lines_of(batch.error_file_id)
    assert (error["custom_id"], error["error"]["code"]) == ("broken", "MEDIA_INVALID"), error
    output = client.files.retrieve(batch.output_file_id)
    assert output.bytes == len(client.files.content(batch.output_file_id).read()), output

    # By cursor, a page at a time.
    seen, after, more = [], "", True
    while more:
        with urllib.request.urlopen(f"{URL}/batches/{batch.id}/results?limit=3&after={after}") as answer:
            page = json.load(answer)
        seen += [line["custom_id"] for line in page["data"]]
        after, more = page["after"], page["has_more"]
    assert sorted(seen) == sorted([*answers, "broken"]), seen

    # The same file again, and all of it at once.
    again = ended(client.batches.create(input_file_id=file.id, **window))
    assert {line["custom_id"]: line["response"]["body"]["choices"] for line in lines_of(again.output_file_id)} == {
        name: body["choices"] for name, body in answers.items()
    }
    listed = [batch.id for batch in client.batches.list(limit=1)]
    assert listed == [again.id, batch.id], listed

    # Without any success it does not look like one.
    failed = ended(client.batches.create(input_file_id=upload([line("broken", b"none")])[0].id, **window))
    assert failed.status == "failed" and failed.failed_at and not failed.output_file_id, failed
    assert failed.errors.data[0].code == "all_requests_failed" and failed.error_file_id, failed

    error = refused(openai.ConflictError, lambda: client.batches.cancel(batch.id))
    assert error.code == "batch_ended", error.body
    assert client.files.delete(file.id).deleted
    for gone in [
        lambda: client.files.retrieve(file.id),
        lambda: client.files.content(file.id),
        lambda: client.files.delete(file.id),
        lambda: client.batches.create(input_file_id=file.id, **window),
    ]:
        refused(openai.NotFoundError, gone)
    assert client.batches.retrieve(batch.id).status == "completed"


def mistakes():
    """A file with mistakes is refused whole, each mistake by its line."""
    good = line("a", b"none")
    bad = [good, good, {**good, "custom_id": "b", "url": "/v1/embeddings"}, line("c", b"none", model="other")]
    text = "\n".join(json.dumps(line) for line in bad) + "\nno json\n"
    sent = lambda: client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    error = refused(openai.BadRequestError, sent)
    found = [(mistake["line"], mistake["code"]) for mistake in error.body["errors"]]
    codes = ["duplicate_custom_id", "url_mismatch", "model_mismatch", "invalid_json_line"]
    assert found == list(enumerate(codes, 2)), error.body
    error = refused(openai.BadRequestError, lambda: client.files.create(file=("x", b"\n"), purpose="batch"))
    assert error.body["errors"][0]["code"] == "empty_file", error.body
    refused(openai.BadRequestError, lambda: client.files.create(file=("x", b"{}"), purpose="vision"))


def jobs(text):
    body = {"model": MODEL, "messages": messages(pictures[0].read_bytes()), "temperature": 0}
    job = client.post("/jobs", body=body, cast_to=object)
    assert job["status"] == "queued" and job["object"] == "job", job
    while job["status"] in ("queued", "in_progress"):
        assert time.monotonic() < END, job
        time.sleep(0.1)
        job = client.get(f"/jobs/{job['id']}", cast_to=object)
    assert job["status"] == "succeeded", job
    assert job["response"]["choices"][0]["message"]["content"] == text, job
    assert client.delete(f"/jobs/{job['id']}", cast_to=object) == job


models()
said = chat()
forms()
batches(said)
mistakes()
jobs(said)
