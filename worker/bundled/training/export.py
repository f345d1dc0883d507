"""Writes a run's averaged weights as a model folder in the format of the real ones, bf16.

    python export.py RUN FOLDER
"""

import json
import sys
from pathlib import Path

import torch

import model as m
import tokenizer as tk


def main() -> None:
    run, folder = Path(sys.argv[1]), Path(sys.argv[2])
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    tokenizer = tk.build()
    model = m.build(tokenizer)
    missing, unexpected = model.load_state_dict(state["average"], strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tk.save(tokenizer, folder)
    ids = model.config.text_config
    stops = [ids.eos_token_id, tokenizer.token_to_id("<end_of_turn>")]
    generation = {"bos_token_id": ids.bos_token_id, "eos_token_id": stops, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    print(f"{folder}: {state['phase']} step {state['step']}, {state['spent_s'] / 60:.0f} minutes")


if __name__ == "__main__":
    main()
