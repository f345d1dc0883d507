#!/usr/bin/env python3
"""Puts the words of a tokenizer.json and a chat template into a GGUF file that has none:
gguf_with_words.py MODEL.gguf FOLDER OUT.gguf"""
import json
import struct
import sys

U32, STRING, ARRAY, F32, I32 = 4, 8, 9, 6, 5
NORMAL, CONTROL, BYTE = 1, 3, 6
# Of the data behind the head.
ALIGNMENT = 32


def text(value):
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def entry(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def array(key, kind, values):
    return entry(key, ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def main(model, folder, out):
    with open(model, "rb") as file:
        whole = file.read()
    with open(f"{folder}/tokenizer.json", encoding="utf-8") as file:
        tokenizer = json.load(file)
    with open(f"{folder}/chat_template.jinja", encoding="utf-8") as file:
        template = file.read()
    ids = tokenizer["model"]["vocab"]
    words = sorted(ids, key=ids.get)
    control = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    kinds = [CONTROL if word in control else BYTE if word.startswith("<0x") else NORMAL for word in words]
    entries = [
        entry("tokenizer.ggml.model", STRING, text("llama")),
        array("tokenizer.ggml.tokens", STRING, [text(word) for word in words]),
        array("tokenizer.ggml.scores", F32, [struct.pack("<f", -id) for id in range(len(words))]),
        array("tokenizer.ggml.token_type", I32, [struct.pack("<i", kind) for kind in kinds]),
        entry("tokenizer.ggml.bos_token_id", U32, struct.pack("<I", ids["<bos>"])),
        entry("tokenizer.chat_template", STRING, text(template)),
    ]
    # The data stays where its alignment wants it.
    length = len(b"".join(entries)) + len(entry("padding", STRING, text("")))
    entries.append(entry("padding", STRING, text(" " * (-length % ALIGNMENT))))
    magic, version, tensors, count = struct.unpack("<4sIQQ", whole[:24])
    head = struct.pack("<4sIQQ", magic, version, tensors, count + len(entries))
    with open(out, "wb") as file:
        file.write(head + b"".join(entries) + whole[24:])


if __name__ == "__main__":
    main(*sys.argv[1:])
