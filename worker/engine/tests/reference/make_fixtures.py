"""Makes the stored reference values that the engine's parity tests compare with.

    python make_fixtures.py tiny                                  -> ../fixtures/tiny-*
    python make_fixtures.py golden --model FILE.gguf --tokenizer tokenizer.json
                                                                  -> ../fixtures/golden-270m.*

Versions and what each fixture exposes: README.md beside this file.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig,
)

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
TEXTS = Path(__file__).resolve().parent / "texts"
TOP = 16
GREEDY_TOKENS = 32
# A greedy choice closer than this may fall either way in another order of additions.
GAP_MIN = 2e-3


def randomise(model, seed):
    """Weights with signal in every part: transformers starts norms at 0, which hides 1 + w."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                weight.copy_(0.3 * noise)
            elif "embed" in name:
                weight.copy_(noise)
            else:
                weight.copy_(noise / math.sqrt(weight.shape[-1]))


def tiny_model(seed, **options):
    config = Gemma3TextConfig(max_position_embeddings=512, **options)
    config._attn_implementation = "eager"
    model = Gemma3ForCausalLM(config).float().eval()
    randomise(model, seed)
    return model


def tiny_gemma_2(seed, **options):
    """Caps so low that they matter to what random weights give."""
    config = Gemma2Config(
        vocab_size=96, hidden_size=32, intermediate_size=40, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=8,
        max_position_embeddings=512, attn_logit_softcapping=2.0, final_logit_softcapping=5.0,
        **options,
    )
    config._attn_implementation = "eager"
    model = Gemma2ForCausalLM(config).float().eval()
    randomise(model, seed)
    return model


def logits_of(model, tokens):
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].contiguous()


def random_tokens(count, vocab, seed):
    return np.random.default_rng(seed).integers(0, vocab, count).tolist()


def write_expected(folder, tokens, logits):
    save_file(
        {"tokens": torch.tensor(tokens, dtype=torch.int32), "logits": logits.clone()},
        folder / "expected.safetensors",
    )


def fresh(name):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def tiny_new_style():
    """config.json as transformers 5 writes it: layer_types, rope_parameters."""
    model = tiny_model(
        1, vocab_size=96, hidden_size=24, intermediate_size=40, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=12,
        sliding_window=8, sliding_window_pattern=2,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )
    folder = fresh("tiny-new-style")
    model.save_pretrained(folder)
    tokens = random_tokens(330, 96, 1)
    write_expected(folder, tokens, logits_of(model, tokens))


def tiny_old_style():
    """config.json as transformers 4 wrote it for a multimodal model, weights in two files."""
    options = dict(
        vocab_size=112, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=20,
        sliding_window=16, sliding_window_pattern=3,
    )
    model = tiny_model(2, **options, rope_parameters={
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
    })
    folder = fresh("tiny-old-style")
    text = dict(
        options, model_type="gemma3_text", rope_theta=5e5, rope_local_base_freq=2e4,
        rope_scaling={"rope_type": "linear", "factor": 8.0}, max_position_embeddings=512,
        rms_norm_eps=1e-6, hidden_activation="gelu_pytorch_tanh",
    )
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "eos_token_id": [1, 106], "text_config": text,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors = {
        "language_model." + name: weight.detach().clone()
        for name, weight in model.named_parameters()
    }
    tensors["vision_tower.vision_model.post_layernorm.bias"] = torch.zeros(4)
    tensors["multi_modal_projector.mm_soft_emb_norm.weight"] = torch.zeros(4)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2],
              "model-00002-of-00002.safetensors": names[1::2]}
    weight_map = {}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map.update({name: file for name in part})
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    tokens = random_tokens(310, 112, 2)
    write_expected(folder, tokens, logits_of(model, tokens))


def tiny_second():
    model = tiny_gemma_2(4, query_pre_attn_scalar=12, rope_parameters={
        "rope_type": "default", "rope_theta": 2e4,
    })
    folder = fresh("tiny-gemma-2")
    model.save_pretrained(folder)
    tokens = random_tokens(200, 96, 4)
    write_expected(folder, tokens, logits_of(model, tokens))
    model = tiny_gemma_2(5, query_pre_attn_scalar=16)
    folder = fresh("tiny-gemma-2-gguf")
    write_gguf(folder / "f32.gguf", model, None)
    write_expected(folder, tokens, logits_of(model, tokens))


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    name = name.removesuffix(".weight")
    if name.startswith("model.layers."):
        _, _, layer, part = name.split(".", 3)
        return f"blk.{layer}.{GGUF_NAMES[part]}.weight"
    return GGUF_NAMES[name] + ".weight"


def write_gguf(path, model, quant):
    """Norm weights are stored with 1 added, as the llama.cpp converter does."""
    config = model.config
    second = config.model_type == "gemma2"
    writer = gguf.GGUFWriter(path, "gemma2" if second else "gemma3")
    writer.add_context_length(512)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_sliding_window(config.sliding_window)
    if second:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    else:
        writer.add_rope_freq_base(1e6)
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)
    writer.add_file_type(0 if quant is None else 7)
    writer.add_eos_token_id(1)
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        if "norm" in name:
            writer.add_tensor(gguf_name(name), (values + 1).astype(np.float32))
        elif quant is None:
            writer.add_tensor(gguf_name(name), values)
        else:
            writer.add_tensor(gguf_name(name), quantize(values, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tiny_gguf():
    """Seven layers, so that the default pattern of six gives both kinds."""
    model = tiny_model(
        3, vocab_size=80, hidden_size=32, intermediate_size=32, num_hidden_layers=7,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, query_pre_attn_scalar=32,
        sliding_window=12,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    )
    tokens = random_tokens(100, 80, 3)
    folder = fresh("tiny-gguf")
    write_gguf(folder / "f32.gguf", model, None)
    write_expected(folder, tokens, logits_of(model, tokens))
    quant = gguf.GGMLQuantizationType.Q8_0
    write_gguf(folder / "q8_0.gguf", model, quant)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                stored = dequantize(quantize(weight.numpy(), quant), quant)
                weight.copy_(torch.from_numpy(stored))
    save_file({"logits": logits_of(model, tokens)}, folder / "expected-q8_0.safetensors")


PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "The three states of matter are",
    "Water boils at",
    "Dear Sir or Madam,\n\nI am writing to",
    "Q: What is the largest planet in the solar system?\nA:",
    "1, 2, 3, 4, 5,",
    "Die Hauptstadt von Deutschland ist",
    "La tour Eiffel se trouve à",
    "<start_of_turn>user\nName three colours.<end_of_turn>\n<start_of_turn>model\n",
    "{\"name\": \"Alice\", \"age\":",
    "SELECT name, age FROM users WHERE",
    "The quick brown fox",
    "In 1969, Neil Armstrong",
    "Photosynthesis is the process by which",
    "To make a cup of tea, first",
    "# Introduction\n\nMachine learning is",
    "The opposite of hot is",
    "A photograph of a dog sitting on",
    "import numpy as np\n\n",
    "El perro y el gato",
    "The first president of the United States was",
    "Shakespeare wrote",
    "<h1>Welcome</h1>\n<p>",
    "If it rains tomorrow, we will",
    "My favourite book is",
    "Monday, Tuesday, Wednesday,",
]


def check_dequantised(model, path):
    """The reference's weights are the file's: every tensor, dequantised by the gguf package."""
    state = model.state_dict()
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, weight in state.items():
        if name == "lm_head.weight":
            continue
        tensor = stored.pop(gguf_name(name))
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if "norm" in name:
            assert (1 + weight - values).abs().max() < 1e-6, name
        else:
            assert torch.equal(weight, values.reshape(weight.shape)), name
    assert not stored, sorted(stored)


def greedy(model, tokens):
    """Greedy continuation and the smallest gap between the best two logits on its way."""
    cache, step, out, gap = None, tokens, [], math.inf
    for _ in range(GREEDY_TOKENS):
        with torch.no_grad():
            result = model(input_ids=torch.tensor([step]), past_key_values=cache, use_cache=True,
                           logits_to_keep=1)
        cache = result.past_key_values
        best = result.logits[0, -1].topk(2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        step = [best.indices[0].item()]
        out += step
    return out, gap


def golden(model_path, tokenizer_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    model = AutoModelForCausalLM.from_pretrained(
        model_path.parent, gguf_file=model_path.name, dtype=torch.float32,
        attn_implementation="eager",
    ).eval()
    config = model.config
    assert config.rope_parameters["sliding_attention"]["rope_theta"] == 10000.0
    assert config.query_pre_attn_scalar == 256 and config.sliding_window == 512
    assert [i for i, kind in enumerate(config.layer_types) if kind == "full_attention"] == [5, 11, 17]
    check_dequantised(model, model_path)

    bos = 2
    prompts = []
    for text in PROMPTS:
        tokens = [bos] + tokenizer.encode(text, add_special_tokens=False).ids
        continuation, gap = greedy(model, tokens)
        print(f"{gap:.4f} {text!r} -> {tokenizer.decode(continuation)!r}", flush=True)
        if gap >= GAP_MIN:
            prompts.append({"tokens": tokens, "greedy": continuation, "gap": round(gap, 5)})
    assert len(prompts) >= 20, len(prompts)
    (FIXTURES / "golden-270m.json").write_text(json.dumps({"prompts": prompts}) + "\n")

    tensors, positions = {}, 0
    for path in sorted(TEXTS.glob("*.txt")):
        tokens = [bos] + tokenizer.encode(path.read_text(), add_special_tokens=False).ids
        logprobs = logits_of(model, tokens).log_softmax(-1)
        top = logprobs.topk(TOP)
        tensors[f"{path.stem}.tokens"] = torch.tensor(tokens, dtype=torch.int32)
        tensors[f"{path.stem}.top_ids"] = top.indices.to(torch.int32).contiguous()
        tensors[f"{path.stem}.top_logprobs"] = top.values.contiguous()
        positions += len(tokens)
        print(path.stem, len(tokens), flush=True)
    assert positions >= 2000, positions
    save_file(tensors, FIXTURES / "golden-270m.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tiny")
    real = commands.add_parser("golden")
    real.add_argument("--model", type=Path, required=True)
    real.add_argument("--tokenizer", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    FIXTURES.mkdir(exist_ok=True)
    if arguments.command == "tiny":
        tiny_new_style()
        tiny_old_style()
        tiny_gguf()
        tiny_second()
    else:
        golden(arguments.model, arguments.tokenizer)


if __name__ == "__main__":
    main()
