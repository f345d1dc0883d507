"""Makes tokenizer and chat template of the tiny multimodal model: ../fixtures/vision.

    python tiny_tokenizer.py

Control tokens, every byte, the letters a to z, and the markers of pictures and turns, within the 292
rows of the model's embedding table; the soft token is outside, as in GGUF files of the published
models. Needs the standard library alone.
"""

import json
from pathlib import Path

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>"]
MARKERS = ["<start_of_image>", "<end_of_image>", "<start_of_turn>", "<end_of_turn>"]

TEMPLATE = """{{ bos_token }}
{%- for message in messages -%}
    {{ '<start_of_turn>' + message.role + '\\n' }}
    {%- if message.content is string -%}
        {{ message.content | trim }}
    {%- else -%}
        {%- for part in message.content -%}
            {{ '<start_of_image>' if part.type == 'image' else part.text | trim }}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""


def tokenizer():
    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    tokens = CONTROL + [f"<0x{byte:02X}>" for byte in range(256)] + letters + MARKERS
    vocabulary = {token: number for number, token in enumerate(tokens)}
    added = [
        dict(
            id=vocabulary[token], content=token, special=True, normalized=False, single_word=False,
            lstrip=False, rstrip=False,
        )
        for token in CONTROL + MARKERS
    ]
    first = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": added,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
            "vocab": vocabulary, "merges": [],
        },
    }


def write(folder):
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)


if __name__ == "__main__":
    write(Path(__file__).parent.parent / "fixtures" / "vision")
