"""The model: Gemma 3 multimodal, small."""


import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig
from transformers import Gemma3TextConfig

import tokenizer as tk

SIDE = 112  # pixels
PATCH = 14
SOFT_TOKENS = 16  # of a picture: 4 x 4, each from 2 x 2 patches
CONTEXT = 512  # tokens


def config(tokenizer) -> Gemma3Config:
    """For the given tokenizer."""
    ids = {token: tokenizer.token_to_id(token) for token in [*tk.SPECIAL, *tk.IMAGE, tk.SOFT]}
    text = Gemma3TextConfig(
        vocab_size=-(-tokenizer.get_vocab_size() // 64) * 64,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        max_position_embeddings=CONTEXT,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        bos_token_id=ids["<bos>"],
        eos_token_id=ids["<eos>"],
        pad_token_id=ids["<pad>"],
        tie_word_embeddings=True,
    )
    vision = SiglipVisionConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    return Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=SOFT_TOKENS,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
        pad_token_id=ids["<pad>"],
        tie_word_embeddings=True,
        dtype="float32",
    )


def build(tokenizer) -> Gemma3ForConditionalGeneration:
    """With fresh weights."""
    model = Gemma3ForConditionalGeneration(config(tokenizer))
    # Left at zero, as it is made, a picture would say nothing and get no gradient.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.07)
    return model


def soft_tokens(model, pixels: torch.Tensor) -> torch.Tensor:
    """[images, 3, SIDE, SIDE] in -1..1 to [images, SOFT_TOKENS, hidden]."""
    hidden = model.model.vision_tower(pixel_values=pixels).last_hidden_state
    return model.model.multi_modal_projector(hidden)
