"""Held-out scenes: seeds that training never draws, real PNG files, the real programs.

    python evaluate.py make SPRITES FOLDER [--count N] [--seed N]
    lapidary caption FOLDER/seen --out FOLDER/seen.jsonl --temperature 0
    python evaluate.py score FOLDER/seen
    python evaluate.py torch SPRITES MODEL [--count N]     the same by the reference implementation

`seen` holds unseen arrangements of the trained styles, `unseen` those of a style that was kept out
of training. A caption counts if it is right to the letter.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from scenes import Scene, as_read, draw, load_sprites
from sprites import STYLES, TRAINED

SETS = {"seen": TRAINED, "unseen": tuple(s for s in STYLES if s not in TRAINED)}
SEED = 20_000
SIZES = ((256, 256), (224, 224), (320, 240), (240, 320), (400, 300))
PAIRS = 0.5


def held_out(sprites: np.ndarray, name: str, count: int, seed: int) -> list[Scene]:
    """The scenes of a set; always the same for a seed."""
    rng = np.random.default_rng([seed, list(SETS).index(name)])
    sizes = (SIZES[int(rng.integers(len(SIZES)))] for _ in range(count))
    return [draw(rng, sprites, SETS[name], size, PAIRS) for size in sizes]


def make(args: argparse.Namespace) -> None:
    sprites = load_sprites(args.sprites)
    for name in SETS:
        folder = args.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        expected = {}
        for index, scene in enumerate(held_out(sprites, name, args.count, args.seed)):
            scene.image.save(folder / f"{index:04}.png", optimize=True)
            expected[f"{index:04}.png"] = scene.caption()
        (args.folder / f"{name}.expected.json").write_text(json.dumps(expected, indent=0) + "\n")


def report(name: str, pairs: list[tuple[str, str]]) -> None:
    """Pairs of what is right and what was said."""
    def share(of: list[bool]) -> str:
        return f"{100 * sum(of) / max(1, len(of)):.1f} % of {len(of)}"

    def ground(text: str) -> str:
        return text.rpartition(" on ")[2]

    print(f"{name}: exact {share([a == b for a, b in pairs])}, "
          f"one thing {share([a == b for a, b in pairs if ' and ' not in a])}, "
          f"two things {share([a == b for a, b in pairs if ' and ' in a])}, "
          f"background {share([ground(a) == ground(b) for a, b in pairs])}")
    for right, said in [pair for pair in pairs if pair[0] != pair[1]][:8]:
        print(f"  {right!r}, but said {said!r}")


def score(args: argparse.Namespace) -> None:
    expected = json.loads(args.set.with_name(f"{args.set.name}.expected.json").read_text())
    rows = [json.loads(line) for line in args.set.with_suffix(".jsonl").read_text().splitlines()]
    said = {Path(row["name"]).name: row.get("text") or "" for row in rows}
    missing = expected.keys() - said.keys()
    assert not missing, f"{len(missing)} scenes have no row"
    report(args.set.name, [(text, said[name].strip()) for name, text in expected.items()])


def by_reference(args: argparse.Namespace) -> None:
    import torch
    from transformers import Gemma3ForConditionalGeneration

    import model as m
    from train import Asker
    import tokenizer as tk

    model = Gemma3ForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    asker = Asker(tk.build())
    sprites = load_sprites(args.sprites)
    for name in SETS:
        pairs = []
        for scene in held_out(sprites, name, args.count, SEED):
            pixels = as_read(scene.image, m.SIDE).astype(np.float32).transpose(2, 0, 1)
            prompt = torch.tensor([asker.prompts[0]])
            with torch.no_grad():
                ids = model.generate(
                    input_ids=prompt,
                    pixel_values=torch.from_numpy((pixels / 255 - 0.5) / 0.5)[None],
                    token_type_ids=(prompt == asker.soft).long(),
                    attention_mask=torch.ones_like(prompt),
                    max_new_tokens=24, do_sample=False, pad_token_id=0,
                )[0, prompt.shape[1]:]
            pairs.append((scene.caption(), asker.tokenizer.decode(ids.tolist())))
        report(name, pairs)


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make")
    command.set_defaults(run=make)
    command.add_argument("sprites", type=Path)
    command.add_argument("folder", type=Path)
    command.add_argument("--count", type=int, default=500)
    command.add_argument("--seed", type=int, default=SEED)
    command = commands.add_parser("score")
    command.set_defaults(run=score)
    command.add_argument("set", type=Path)
    command = commands.add_parser("torch")
    command.set_defaults(run=by_reference)
    command.add_argument("sprites", type=Path)
    command.add_argument("model", type=Path)
    command.add_argument("--count", type=int, default=100)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
