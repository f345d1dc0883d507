"""The official client moderates texts and pictures at a gateway.

Arguments: the gateway's base URL, a model whose workers have a policy with the detectors that are named
below, a picture.
"""

import base64
import sys
from pathlib import Path

import openai

URL, MODEL, PICTURE = sys.argv[1:]
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
JUDGED = {"dangerous", "harassment", "hate", "sexual"}
SEEN = {"dangerous", "sexual", "violence"}
PERSONAL = {"email", "phone", "card", "iban"}


def extra(model):
    """All fields, those that the client does not know included."""
    return model.model_dump()


def said(error, call):
    try:
        call()
    except error as refused:
        return refused
    raise AssertionError("it was not refused")


def texts():
    # The client's own default names no model.
    answer = client.moderations.create(input="Write to somebody@example.org")
    assert answer.model == MODEL and answer.id, answer
    (result,) = answer.results
    assert result.flagged
    categories, scores = extra(result.categories), extra(result.category_scores)
    assert {name for name, found in categories.items() if found is not None} >= JUDGED | PERSONAL, categories
    assert categories["email"] is True and categories["iban"] is False, categories
    assert scores["email"] == 1.0 and scores["iban"] == 0.0, scores
    assert all(0 <= scores[name] <= 1 for name in JUDGED), scores
    assert 0 < scores["hate"] < 1, scores
    assert extra(result.category_applied_input_types)["email"] == ["text"]

    answer = client.moderations.create(
        model="omni-moderation-latest", input=["Good day", "Call +49 30 901820", "Good day"]
    )
    first, second, third = answer.results
    assert not first.flagged and second.flagged, answer
    assert extra(second.categories)["phone"] is True
    assert first == third


def pictures():
    url = "data:image/png;base64," + base64.b64encode(Path(PICTURE).read_bytes()).decode()
    parts = [{"type": "text", "text": "Good day"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = client.moderations.create(model=MODEL, input=parts)
    (result,) = answer.results
    kinds = extra(result.category_applied_input_types)
    assert kinds["violence"] == ["image"] and kinds["hate"] == ["text"], kinds
    assert sorted(kinds["sexual"]) == ["image", "text"], kinds
    scores = extra(result.category_scores)
    assert all(0 < scores[name] < 1 for name in SEEN), scores


def refusals():
    error = said(openai.NotFoundError, lambda: client.moderations.create(model="none", input="a"))
    assert "no worker serves the model `none`" in str(error), error
    error = said(openai.BadRequestError, lambda: client.moderations.create(input=[]))
    assert "`input` has 0 items" in str(error), error
    error = said(openai.BadRequestError, lambda: client.moderations.create(input="a" * 9000))
    assert "8192" in str(error), error


texts()
pictures()
refusals()
