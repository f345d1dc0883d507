"""Makes the stored reference values of pictures in prompts: ../fixtures/vision.

    python make_vision.py models
    python make_vision.py prompts --tokenizer tokenizer.json

`models` writes a tiny multimodal model of random weights, as a folder and as GGUF with mmproj, and
what the reference makes of `CASES` (expected.safetensors), with the tokenizer of tiny_tokenizer.py:

    view.N          [side, side, 3] uint8    pixels of a view
    hidden.N        [patches, width]         what the vision tower makes of it
    soft.N          [tokens, text width]     its soft tokens
    CASE.tokens     [length] int32
    CASE.views      [views, 2] int32         view, and the position of its first soft token
    CASE.logits     [length, vocabulary]

`prompts` writes prompts.jsonl: a list of pieces, texts and pictures by their number of crops, and
the tokens that the reference processor gives them.

Versions and what each fixture exposes: README.md beside this file.
"""

import argparse
import json
import math
from pathlib import Path

import gguf
import numpy as np
import tiny_tokenizer
import torch
from make_fixtures import FIXTURES, fresh, write_gguf
from safetensors.torch import save_file
from transformers import (
    Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor,
    PreTrainedTokenizerFast,
)

VOCAB = 292
# Outside the vocabulary, as in GGUF files of the published models.
SOFT = VOCAB
SIDE, TOKENS = 36, 9
VIEWS = 4
START, END = 286, 287

# Texts by length, views by ("view", number): first in a prompt, in its middle, two of them, with
# nothing between, none, and a picture with crops and the words around them.
CASES = {
    "first": [("view", 0), 41],
    "middle": [33, ("view", 1), 29],
    "two": [7, ("view", 0), 20, ("view", 2), 11],
    "beside": [2, ("view", 3), ("view", 1), 50],
    "none": [70],
    "crops": [5, ("view", 2), 9, ("view", 3), 1, ("view", 0), 12],
}


def model():
    """Wider heads than the width, a projector and norms with signal, two kinds of layers."""
    text = dict(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=40, num_hidden_layers=7,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8,
        sliding_window=12, max_position_embeddings=512,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )
    vision = dict(
        hidden_size=20, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2,
        image_size=SIDE, patch_size=6, vision_use_head=False,
    )
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=TOKENS,
        boi_token_index=START, eoi_token_index=END, image_token_index=SOFT,
    )
    config._attn_implementation = "eager"
    return randomised(Gemma3ForConditionalGeneration(config), 11)


def randomised(model, seed):
    model = model.float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif "layer_norm" in name or "post_layernorm" in name:
                # The tower's own norms are not 1 + w; the text's are.
                weight.copy_((1 if "vision" in name else 0) + 0.3 * noise)
            elif "norm" in name:
                weight.copy_(0.3 * noise)
            elif "patch_embedding" in name:
                weight.copy_(noise / math.sqrt(weight[0].numel()))
            elif "embed" in name:
                weight.copy_(noise)
            elif "mm_input_projection" in name:
                weight.copy_(noise / math.sqrt(weight.shape[0]))
            else:
                weight.copy_(noise / math.sqrt(weight.shape[-1]))
    return model


def pixels():
    """Views of waves and noise, their colours unlike each other: [views, side, side, 3] uint8."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    views = []
    for view in range(VIEWS):
        waves = [np.sin(5 * (a * x + b * y) + view * c) for a, b, c in ((1, 0.4, 1), (0.3, 1.2, 2), (1, 1, 3))]
        noise = rng.normal(0, 25, (SIDE, SIDE, 3))
        views.append((np.stack(waves, -1) * 90 + 128 + noise).clip(0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(views))


def laid_out(pieces, rng):
    """Tokens of a case, and its views with their places."""
    tokens, views = [2], []
    for piece in pieces:
        if isinstance(piece, tuple):
            views.append((piece[1], len(tokens) + 1))
            tokens += [START] + [SOFT] * TOKENS + [END]
        else:
            tokens += rng.integers(4, START, piece).tolist()
    return tokens, views


def models():
    reference = model()
    folder = fresh("vision")
    reference.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tiny_tokenizer.write(folder)
    views = pixels()
    normalised = (views.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        hidden = reference.model.vision_tower(pixel_values=normalised).last_hidden_state
        soft = reference.model.multi_modal_projector(hidden)
    tensors = {}
    for view in range(VIEWS):
        tensors[f"view.{view}"] = views[view].contiguous()
        tensors[f"hidden.{view}"] = hidden[view].contiguous()
        tensors[f"soft.{view}"] = soft[view].contiguous()
    rng = np.random.default_rng(6)
    for name, pieces in CASES.items():
        tokens, places = laid_out(pieces, rng)
        ids = torch.tensor([tokens])
        given = {"pixel_values": normalised[[view for view, _ in places]]} if places else {}
        with torch.no_grad():
            out = reference(
                input_ids=ids, token_type_ids=(ids == SOFT).long(), attention_mask=torch.ones_like(ids),
                use_cache=False, **given,
            )
        tensors[f"{name}.tokens"] = ids[0].to(torch.int32)
        tensors[f"{name}.views"] = torch.tensor(places, dtype=torch.int32).reshape(-1, 2)
        tensors[f"{name}.logits"] = out.logits[0].contiguous()
        print(name, len(tokens), "tokens, logits up to", out.logits.abs().max().item())
    save_file(tensors, folder / "expected.safetensors")
    (folder / "gguf").mkdir()
    write_gguf(folder / "gguf" / "text.gguf", Text(reference), None)
    write_mmproj(folder / "gguf" / "mmproj-f32.gguf", reference, swapped=False)
    write_mmproj(folder / "swapped.gguf", reference, swapped=True)


class Text:
    """The text part of a multimodal model, named as a text model is."""

    def __init__(self, whole):
        self.config = whole.config.text_config
        self.parameters = [
            ("model." + name, weight) for name, weight in whole.model.language_model.named_parameters()
        ]

    def named_parameters(self):
        return self.parameters


MMPROJ_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
    "layer_norm1": "ln1", "layer_norm2": "ln2",
}


def mmproj_name(name, swapped):
    part, kind = name.rsplit(".", 1)
    if "encoder.layers." in part:
        _, _, layer, part = part[part.index("encoder.layers."):].split(".", 3)
        part = MMPROJ_NAMES[part]
        if swapped:
            part = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}.get(part, part)
        return f"v.blk.{layer}.{part}.{kind}"
    for ending, name in (
        ("patch_embedding", "v.patch_embd"), ("position_embedding", "v.position_embd"),
        ("post_layernorm", "v.post_ln"),
    ):
        if part.endswith(ending):
            return f"{name}.{kind}"
    raise KeyError(name)


def write_mmproj(path, reference, swapped):
    """The soft tokens' norm is stored with 1 added; the tower's norms are stored as they are.
    `swapped`: with the feed-forward matrices named as files before May 2025 name them."""
    vision = reference.config.vision_config
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("clip.projector_type", "gemma3")
    writer.add_bool("clip.has_vision_encoder", True)
    for key, value in (
        ("image_size", vision.image_size), ("patch_size", vision.patch_size),
        ("embedding_length", vision.hidden_size), ("feed_forward_length", vision.intermediate_size),
        ("block_count", vision.num_hidden_layers), ("attention.head_count", vision.num_attention_heads),
        ("projection_dim", reference.config.text_config.hidden_size),
        ("projector.scale_factor", SIDE // vision.patch_size // math.isqrt(TOKENS)),
    ):
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", vision.layer_norm_eps)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    for name, weight in reference.model.vision_tower.named_parameters():
        writer.add_tensor(mmproj_name(name, swapped), weight.detach().numpy())
    projector = reference.model.multi_modal_projector
    writer.add_tensor(
        "mm.input_projection.weight", projector.mm_input_projection_weight.detach().numpy())
    norm = projector.mm_soft_emb_norm.weight.detach().numpy()
    writer.add_tensor("mm.soft_emb_norm.weight", (norm + 1).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# Width and height that the reference processor cuts into so many crops.
SIZES = {0: (300, 300), 2: (700, 300), 3: (1000, 330)}
PROMPTS = [
    [0],
    [0, "Describe this."],
    ["Describe this.", 0],
    ["What is in ", 0, "?"],
    ["One\n", 0, "\ntwo\n\n", 0, "\n\n\nthree"],
    [0, 0, 0],
    ["user\n", 0, " what?\n"],
    ["\n", 0, "\n"],
    [2, "Describe this."],
    ["Compare ", 3, " with\n", 0, " and ", 2],
    ["Ünïcode 是 ", 0, "  two spaces, a tab\t", 0, "\t"],
]


def prompts(tokenizer_path):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_path), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        extra_special_tokens={
            "image_token": "<image_soft_token>", "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )
    images = Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE})
    processor = Gemma3Processor(images, tokenizer, image_seq_length=TOKENS)
    lines = []
    for pieces in PROMPTS:
        text = "".join("<start_of_image>" if isinstance(piece, int) else piece for piece in pieces)
        given = [
            np.zeros((SIZES[piece][1], SIZES[piece][0], 3), np.uint8)
            for piece in pieces if isinstance(piece, int)
        ]
        ids = processor(
            text=[text], images=[given], do_pan_and_scan=True, pan_and_scan_min_crop_size=256,
            pan_and_scan_max_num_crops=4, pan_and_scan_min_ratio_to_activate=1.2,
        )["input_ids"][0]
        lines.append(json.dumps([pieces, list(ids)], ensure_ascii=False))
        print(pieces, len(ids))
    (FIXTURES / "vision" / "prompts.jsonl").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("models")
    of_prompts = commands.add_parser("prompts")
    of_prompts.add_argument("--tokenizer", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.command == "models":
        models()
    else:
        prompts(arguments.tokenizer)


if __name__ == "__main__":
    main()
