"""Trains the demonstration model. Stops and goes on at will: it writes checkpoints, and resumes.

    python train.py SPRITES RUN [--tower STEPS] [--whole STEPS] [--threads N]

Two phases. `tower`: the vision tower and the projector alone learn to say, of every soft token,
which thing covers its cell and what colour the background has; that is a far denser signal than a
caption, and far cheaper. `whole`: everything learns to caption, with the first task beside it.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import model as m
import tokenizer as tk
from fast_scenes import Bank
from scenes import COLOUR_NAMES, NOUN_NAMES, load_sprites
from sprites import STYLES, TRAINED
from words import caption

CHECKPOINT_S = 300.0
REPORT_STEPS = 50
WARMUP_STEPS = 150
CELLS = 4  # soft tokens a row
PEAK = {"tower": 8e-4, "whole": 8e-4}
DECAY = 0.25
BATCH = {"tower": 32, "whole": 32}
EMA_DECAY = 0.998
GRADIENT_NORM_MAX = 1.0
HEAD_WEIGHT = 0.3  # of the tower's task in the second phase

PROMPTS = (
    "Write a caption for this image: one or two sentences that say what it shows. "
    "Answer with the caption alone.",
    "Describe this picture in one sentence.",
    "Describe this image.",
    "What is in the picture?",
    "What do you see?",
    "Caption this image.",
    "",
)


def rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, level, and down to nothing over the last DECAY of the steps.

    Level for most of the way, so that a run can be made longer or shorter while it runs.
    """
    up = min(1.0, (step + 1) / WARMUP_STEPS)
    down = min(1.0, (steps - step) / (DECAY * steps))
    return peak * up * max(0.0, down)


class Heads(torch.nn.Module):
    """What the tower is asked in training only."""

    def __init__(self, hidden: int):
        super().__init__()
        self.nouns = torch.nn.Linear(hidden, len(NOUN_NAMES) + 1)
        self.colours = torch.nn.Linear(hidden, len(COLOUR_NAMES))

    def loss(self, soft, cells, colours):
        """soft [n, 16, hidden]; cells [n, 16], the last class is background; colours [n]."""
        nouns = self.nouns(soft).flatten(0, 1)
        weight = torch.ones(nouns.shape[1])
        weight[-1] = 0.4
        said = self.colours(soft)
        every = colours[:, None].expand(said.shape[:2])
        noun_loss = F.cross_entropy(nouns, cells.flatten(), weight=weight)
        colour_loss = F.cross_entropy(said.flatten(0, 1), every.flatten())
        things = cells.flatten() != len(NOUN_NAMES)
        right = (nouns.argmax(1) == cells.flatten())[things].float().mean()
        return noun_loss + 0.3 * colour_loss, right.item()


def cell_targets(scenes, side: int) -> torch.Tensor:
    """[n, 16]: the noun whose box covers a cell's centre."""
    out = np.full((len(scenes), CELLS, CELLS), len(NOUN_NAMES), np.int64)
    centres = (np.arange(CELLS) + 0.5) * side / CELLS
    for target, (_, nouns, _, boxes) in zip(out, scenes, strict=True):
        for noun, (x0, y0, x1, y1) in zip(nouns, boxes, strict=True):
            inside_x, inside_y = (centres >= x0) & (centres < x1), (centres >= y0) & (centres < y1)
            target[np.ix_(inside_y, inside_x)] = noun
    return torch.from_numpy(out).flatten(1)


class Asker:
    """Turns scenes into token batches."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.soft = tokenizer.token_to_id(tk.SOFT)
        self.end = [tokenizer.token_to_id("<end_of_turn>")]
        self.prompts = [self._prompt(text) for text in PROMPTS]

    def _prompt(self, text: str) -> list[int]:
        picture = "\n\n<start_of_image>" + tk.SOFT * m.SOFT_TOKENS + "<end_of_image>\n\n"
        turn = f"<bos><start_of_turn>user\n{picture}{text}<end_of_turn>\n<start_of_turn>model\n"
        return self.tokenizer.encode(turn, add_special_tokens=False).ids

    def batch(self, rng, scenes):
        """(ids, labels, image mask), all [n, tokens]; one prompt for all, half the time the first."""
        prompt = self.prompts[0 if rng.random() < 0.4 else rng.integers(len(self.prompts))]
        answers = []
        for _, nouns, colour, _ in scenes:
            text = caption([NOUN_NAMES[n] for n in nouns], COLOUR_NAMES[colour])
            answers.append(self.tokenizer.encode(text, add_special_tokens=False).ids + self.end)
        longest = max(map(len, answers))
        ids = torch.zeros((len(scenes), len(prompt) + longest), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, answer in enumerate(answers):
            ids[row, : len(prompt)] = torch.tensor(prompt)
            ids[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
            labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        return ids, labels, len(prompt)


def caption_loss(model, soft, ids, labels, prompt_tokens: int, soft_id: int):
    """(mean loss of caption tokens, share of captions that are right token by token)."""
    embeds = model.model.language_model.embed_tokens(ids)
    mask = ids == soft_id
    embeds = embeds.masked_scatter(mask[..., None], soft.to(embeds.dtype))
    kinds = mask.long()
    hidden = model.model(
        inputs_embeds=embeds, token_type_ids=kinds, use_cache=False
    ).last_hidden_state
    logits = model.lm_head(hidden[:, prompt_tokens - 1 : -1])
    wanted = labels[:, prompt_tokens:]
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100)
    right = ((logits.argmax(-1) == wanted) | (wanted == -100)).all(1).float().mean()
    return loss, right.item()


class Run:
    """Everything a checkpoint holds."""

    def __init__(self, folder: Path, threads: int):
        torch.manual_seed(0)
        torch.set_num_threads(threads)
        self.folder = folder
        self.tokenizer = tk.build()
        self.model = m.build(self.tokenizer)
        self.heads = Heads(self.model.config.text_config.hidden_size)
        self.phase, self.step, self.spent_s = "tower", 0, 0.0
        self.average = None
        self.optimizer = None
        self.begin("tower")

    def weights(self) -> dict[str, torch.Tensor]:
        return {k: v for k, v in self.model.state_dict().items() if k != "lm_head.weight"}

    def parameters(self) -> list[torch.nn.Parameter]:
        """Those the phase trains."""
        eyes = [self.model.model.vision_tower, self.model.model.multi_modal_projector, self.heads]
        return [p for part in (eyes if self.phase == "tower" else [self.model, self.heads])
                for p in part.parameters()]

    def begin(self, phase: str) -> None:
        self.phase, self.step = phase, 0
        kept = [p for p in self.parameters() if p.ndim > 1]
        plain = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": kept, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))
        self.average = {k: v.detach().clone() for k, v in self.weights().items()}

    def save(self) -> None:
        """Whole or not at all."""
        state = {
            "phase": self.phase, "step": self.step, "spent_s": self.spent_s,
            "model": self.weights(), "average": self.average, "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        part = self.folder / "checkpoint.part"
        torch.save(state, part)
        os.replace(part, self.folder / "checkpoint.pt")

    def resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.begin(state["phase"])
        self.model.load_state_dict(state["model"], strict=False)
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent_s, self.average = state["step"], state["spent_s"], state["average"]

    def learn(self, loss: torch.Tensor, steps: int) -> None:
        """One step of the optimizer."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, steps, PEAK[self.phase])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), GRADIENT_NORM_MAX)
        self.optimizer.step()
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.weights().items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1


def train(run: Run, bank: Bank, rng, steps: dict[str, int]) -> None:
    asker = Asker(run.tokenizer)
    saved = reported = time.monotonic()
    seen: list[tuple[float, float, float]] = []
    while True:
        if run.step >= steps[run.phase]:
            run.save()
            if run.phase == "whole":
                return
            os.replace(run.folder / "checkpoint.pt", run.folder / "tower.pt")
            run.model.load_state_dict(run.average, strict=False)
            run.begin("whole")
        # Single things first.
        pairs = min(0.65, 2.0 * run.step / steps[run.phase]) if run.phase == "tower" else 0.65
        bank.renew(BATCH[run.phase])
        pixels, scenes = bank.batch(BATCH[run.phase], pairs)
        soft = m.soft_tokens(run.model, torch.from_numpy(pixels))
        colours = torch.tensor([s[2] for s in scenes])
        loss, cells_right = run.heads.loss(soft, cell_targets(scenes, m.SIDE), colours)
        right = 0.0
        if run.phase == "whole":
            ids, labels, prompt_tokens = asker.batch(rng, scenes)
            said, right = caption_loss(run.model, soft, ids, labels, prompt_tokens, asker.soft)
            loss = HEAD_WEIGHT * loss + said
        run.learn(loss, steps[run.phase])
        seen.append((loss.item(), cells_right, right))
        now = time.monotonic()
        if run.step % REPORT_STEPS == 0:
            mean = np.mean(seen, axis=0)
            took = (now - reported) / REPORT_STEPS
            run.spent_s += now - reported
            print(f"{time.strftime('%H:%M:%S')} {run.phase} {run.step}/{steps[run.phase]} "
                  f"loss {mean[0]:.3f} cells {mean[1]:.3f} exact {mean[2]:.3f} "
                  f"{took:.2f} s/step {run.spent_s / 60:.0f} min", flush=True)
            seen, reported = [], now
        if now - saved > CHECKPOINT_S:
            run.save()
            saved = now


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sprites", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tower", type=int, default=2000)
    parser.add_argument("--whole", type=int, default=3200)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    run = Run(args.run, args.threads)
    run.resume()
    rng = np.random.default_rng([7, run.step, run.phase == "whole"])
    sprites = load_sprites(args.sprites)[[STYLES.index(s) for s in TRAINED]]
    bank = Bank(sprites, m.SIDE, 16, rng)
    train(run, bank, rng, {"tower": args.tower, "whole": args.whole})


if __name__ == "__main__":
    main()
