"""The model's tokenizer and chat template, in Gemma's shape, with a vocabulary of its own.

A word that captions use is one token. Everything else is spelled: characters, then bytes.
"""

import json
import string
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from words import COLOURS, NOUNS

SPACE = "▁"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
BREAKS = ["\n", "\n\n", "\n\n\n", "\n\n\n\n"]
IMAGE = ["<start_of_image>", "<end_of_image>"]
SOFT = "<image_soft_token>"  # the last token of all
# Words that instructions are likely to use: they cost a token instead of a letter each.
ASKED = (
    "Describe Caption What Write Answer Name In the this picture image photo a an one or two short "
    "in of for shows show is are there do you see sentence sentences that caption text alt say "
    "only alone what it and to with no detail details brief clear please use words plain things"
).split()
TURNS = ["user", "model"]

CHAT_TEMPLATE = """\
{%- if messages[0].role == 'system' -%}
  {%- set first = messages[0].content ~ '\\n\\n' -%}
  {%- set turns = messages[1:] -%}
{%- else -%}
  {%- set first = '' -%}
  {%- set turns = messages -%}
{%- endif -%}
{{ bos_token }}
{%- for message in turns -%}
  {{ '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' }}
  {{- first if loop.first else '' }}
  {%- if message.content is string -%}
    {{ message.content | trim }}
  {%- else -%}
    {%- for part in message.content -%}
      {{ '<start_of_image>' if part.type == 'image' else part.text | trim }}
    {%- endfor -%}
  {%- endif -%}
  {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{{ '<start_of_turn>model\\n' if add_generation_prompt else '' }}
"""


def _chain(word: str) -> list[tuple[str, str]]:
    """The merges that build a word from its left end."""
    return [(word[:end], word[end]) for end in range(1, len(word))]


def build() -> Tokenizer:
    """The tokenizer."""
    said = [*" ".join([*NOUNS, *COLOURS]).split(), "a", "an", "and", "on", "background"]
    inner = [SPACE + word for word in dict.fromkeys(said + [w.lower() for w in ASKED])]
    first = dict.fromkeys(["a", "an", *TURNS, *ASKED, *said])
    # Merges of inner words come first: no merge of a first word can cut into one.
    merges = list(dict.fromkeys(m for w in [*inner, *first] for m in _chain(w)))
    tokens = [*SPECIAL, *BREAKS, *IMAGE, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [SPACE, *string.digits, *string.ascii_letters, *string.punctuation]
    tokens += [left + right for left, right in merges]
    tokens = list(dict.fromkeys([*tokens, SOFT]))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in [*SPECIAL, *IMAGE, SOFT]])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in BREAKS])
    bos = vocabulary["<bos>"]
    tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", bos)]
    )
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "boi_token": IMAGE[0],
        "eoi_token": IMAGE[1],
        "image_token": SOFT,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
