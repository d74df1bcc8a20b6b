"""Two-stage training of the small default on exported samples: ``python -m facellava.training.two_stage``.

Stage 0 (minutes) fits the calibrated expert head. Stage 1 aligns FRLP and FRGCA with the language model, as section
4.3 does; the projector and the word-space slots join it, because unlike Video-LLaVA's this projector starts from
nothing. Stage 2 also trains the language model, through LoRA, so that the shipped difference stays small.
Checkpoints are safetensors, written atomically; the same command resumes from the last one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from facellava import weights
from facellava.model.expert_spec import ExpertSpec
from facellava.model.expert_tower import ExpertVisionTower
from facellava.model.gguf_weights import read_gguf
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.prompt import IGNORED, Rendered, render
from facellava.runtime.build import BASE
from facellava.tasks import all_tasks
from facellava.training.default_model import build_default, tokenize_with
from facellava.training.head import fit_tower, head_report
from facellava.training.samples import Samples, load_samples
from facellava.training.stage import Stage

Encode = Callable[[list[list[str]]], Rendered]
"""Turns [question, answer] to ids and labels."""

STOP = "<|im_end|>"
DERIVED = "vision_tower.words.words"
"""Rows of the language model's own embedding: recomputed, never stored."""
NEW = ("frlp", "frgca", "projector", "vision_tower.words")
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
HEAD_TOKENS, HEAD_WEIGHT = 8, 2.0
"""The first tokens of an answer carry its label and weigh more."""
VERDICT_WEIGHT, ITEM_WEIGHT = 3.0, 0.1
"""In a checklist the yes or no is what is learned; the item before it was given."""
CHECKLIST_ITEMS = 14
DROP_WORDS = 0.06
"""Share of conversations whose expert tokens carry no words, so that maps and landmarks must serve."""


@dataclass(frozen=True)
class Batch:
    """Right-padded conversations: ids and labels (B, S), row numbers, label weights (B, S)."""

    ids: Tensor
    labels: Tensor
    label_weights: Tensor
    rows: list[int]


@dataclass(frozen=True)
class Pad:
    """Token ids that batching needs: the padding, and the verdicts of checklists."""

    id: int
    verdicts: frozenset[int]


def label_weights(labels: list[int], verdicts: frozenset[int] = frozenset()) -> list[float]:
    """Weights of a conversation's label tokens.

    2 for the first tokens of an answer and 1 for the rest; in a checklist (an answer with three verdict tokens or more)
    3 for a verdict and 0.1 for everything else; 0 outside answers.
    """
    result: list[float] = []
    for ignored, run in itertools.groupby(labels, lambda label: label == IGNORED):
        answer = list(run)
        if ignored:
            result += [0.0] * len(answer)
        elif sum(label in verdicts for label in answer) >= 3:
            result += [VERDICT_WEIGHT if label in verdicts else ITEM_WEIGHT for label in answer]
        else:
            result += [HEAD_WEIGHT if i < HEAD_TOKENS else 1.0 for i in range(len(answer))]
    return result


def checklists(labels: dict[str, object], rng: random.Random) -> list[list[str]]:
    """One long checklist turn for each multi-label task with known labels, in random order."""
    turns = []
    for task in all_tasks().values():
        known = [name for name in task.names if task.kind == "multi" and name in labels]
        rng.shuffle(known)
        if known:
            verdict = {True: task.closed.yes, False: task.closed.no}
            lines = [task.item(name) + verdict[bool(labels[name])] for name in known[:CHECKLIST_ITEMS]]
            turns.append([task.closed.question, "\n".join(lines)])
    rng.shuffle(turns)
    return turns


def collate(items: list[tuple[int, Rendered]], pad: int, verdicts: frozenset[int] = frozenset()) -> Batch:
    width = max(len(r.ids) for _, r in items)
    ids = torch.full((len(items), width), pad)
    labels = torch.full((len(items), width), IGNORED)
    scale = torch.zeros(len(items), width)
    for i, (_, r) in enumerate(items):
        ids[i, : len(r.ids)] = torch.tensor(r.ids)
        labels[i, : len(r.ids)] = torch.tensor(r.labels)
        scale[i, : len(r.ids)] = torch.tensor(label_weights(r.labels, verdicts))
    return Batch(ids, labels, scale, [row for row, _ in items])


def sample_order(samples: Samples, sequences: int, seed: int) -> list[tuple[int, int]]:
    """(row, variant) pairs for a stage: photographs and manipulated copies each pass, renders at a third."""
    rng = np.random.default_rng(seed)
    rows = np.array(samples.indices("train"))
    share = np.array([0.35 if samples.rows[i]["set"] == "renders" else 1.0 for i in rows])
    order: list[tuple[int, int]] = []
    epoch = 0
    while len(order) < sequences:
        chosen = rng.permutation(rows[rng.random(len(rows)) < share])
        order += [(int(i), epoch % len(samples.rows[int(i)]["conversations"])) for i in chosen]
        epoch += 1
    return order[:sequences]


def batches(
    samples: Samples,
    order: list[tuple[int, int]],
    stage: Stage,
    encode: Encode,
    pad: Pad,
) -> Iterator[Batch]:
    """Batches of similar length: windows of 16 batches are sorted by length, then shuffled deterministically."""
    size = stage.batch
    for start in range(0, len(order), size * 16):
        window = []
        for row, variant in order[start : start + size * 16]:
            turns = samples.rows[row]["conversations"][variant]
            if stage.checklists:
                rng = random.Random(f"{row}-{variant}")
                turns = [*turns[:3], *checklists(samples.rows[row]["labels"], rng)]
                rng.shuffle(turns)
            window.append((row, encode(turns)))
        window.sort(key=lambda item: len(item[1].ids))
        groups = [window[i : i + size] for i in range(0, len(window), size)]
        for g in np.random.default_rng(start).permutation(len(groups)):
            yield collate(groups[g], pad.id, pad.verdicts)


def expert_tower(model: FaceLlavaForConditionalGeneration) -> ExpertVisionTower:
    """The model's vision tower, which the default builds from experts."""
    assert isinstance(model.vision_tower, ExpertVisionTower)
    return model.vision_tower


def answer_loss(
    model: FaceLlavaForConditionalGeneration, samples: Samples, batch: Batch, folds: int, drop: Tensor
) -> Tensor:
    """Mean weighted cross-entropy over answer tokens; logits are computed at those positions only.

    Args:
        drop: bool (B,), rows whose expert tokens carry no words, so that the maps and landmarks must serve.
    """
    rows = batch.rows
    fold = torch.tensor([samples.fold_of(i, folds) for i in rows])
    visual = model.encode_visual(
        vision_features=samples.maps[rows][:, None],
        landmarks=samples.landmarks[rows][:, None],
        expert_values=samples.values[rows][:, None],
        fold=fold,
        drop_words=drop,
    ).tokens
    embeds = model.embed(batch.ids, visual)
    mask = torch.arange(batch.ids.shape[1])[None] <= (batch.labels != IGNORED).float().cumsum(1).argmax(1)[:, None]
    hidden = model.language_model.get_submodule("model")(
        inputs_embeds=embeds, attention_mask=mask.long(), use_cache=False
    ).last_hidden_state
    targets = batch.labels[:, 1:]
    wanted = targets != IGNORED
    logits = model.get_output_embeddings()(hidden[:, :-1][wanted])
    each = nn.functional.cross_entropy(logits, targets[wanted], reduction="none")
    scale = batch.label_weights[:, 1:][wanted]
    return (each * scale).sum() / scale.sum()


def learning_rate(step: int, steps: int, stage: Stage) -> float:
    """Linear warm-up, then cosine to zero."""
    warm = max(1, round(stage.warmup * steps))
    if step < warm:
        return stage.lr * (step + 1) / warm
    return stage.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def trainable(model: nn.Module, stage: Stage) -> dict[str, nn.Parameter]:
    """Freeze everything but the stage's modules (of the language model: its LoRA factors) and return what trains."""
    chosen = {}
    for name, parameter in model.named_parameters():
        wanted = name.startswith(stage.trains) and (not name.startswith("language_model") or "lora_" in name)
        parameter.requires_grad_(wanted)
        if wanted:
            chosen[name] = parameter
    assert chosen, f"stage {stage.name} trains nothing"
    return chosen


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Everything that differs from the base: tower, projector, FRLP, FRGCA, LoRA."""
    return {
        k: v.contiguous().clone()
        for k, v in model.state_dict().items()
        if k != DERIVED and (not k.startswith("language_model") or "lora_" in k)
    }


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, names: list[str], step: int
) -> None:
    """Atomically write weights, optimizer moments and the step as one safetensors file."""
    tensors = {f"model.{k}": v for k, v in _state(model).items()}
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value).contiguous().clone()
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, names: list[str]) -> None:
    """Restore what :func:`save_checkpoint` wrote."""
    tensors = load_file(path)
    own = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    own.pop(DERIVED, None)
    report = model.load_state_dict(own, strict=False)
    assert not report.unexpected_keys, report.unexpected_keys
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (value := tensors.get(f"optimizer.{key}.{name}")) is not None:
                optimizer.state[parameter][key] = value


def _checkpoint_step(path: Path) -> int:
    from safetensors import safe_open

    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def run_stage(
    model: FaceLlavaForConditionalGeneration, samples: Samples, stage: Stage, encode: Encode, pad: Pad, out: Path
) -> None:
    """Train one stage with checkpoints; a finished stage is skipped."""
    parameters = trainable(model, stage)
    print(f"stage {stage.name}: {sum(p.numel() for p in parameters.values()):,} trainable parameters", flush=True)
    names = list(parameters)
    optimizer = torch.optim.AdamW(parameters.values(), lr=stage.lr, weight_decay=0.0, betas=(0.9, 0.98))
    path = out / f"{stage.name}.safetensors"
    done = _checkpoint_step(path)
    if done:
        load_checkpoint(path, model, optimizer, names)
    steps = stage.sequences // stage.batch
    if done >= steps:
        return
    order = sample_order(samples, steps * stage.batch, seed=len(stage.name))
    folds = len(expert_tower(model).heads)
    model.train()
    smooth, start = None, time.time()
    for step, batch in enumerate(batches(samples, order, stage, encode, pad)):
        if step < done:
            continue
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, stage)
        drop = torch.rand(len(batch.rows), generator=torch.Generator().manual_seed(step)) < DROP_WORDS
        loss = answer_loss(model, samples, batch, folds, drop)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
        if step % 10 == 9:
            rate = (time.time() - start) / (step + 1 - done) / stage.batch
            line = {
                "stage": stage.name,
                "step": step + 1,
                "of": steps,
                "loss": round(smooth, 4),
                "s/seq": round(rate, 2),
            }
            print(json.dumps(line), flush=True)
        if step % 20 == 19 or step + 1 == steps:
            save_checkpoint(path, model, optimizer, names, step + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by facellava.instruct.build_default")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--align", type=int, default=240, help="sequences of stage 1")
    parser.add_argument("--finetune", type=int, default=480, help="sequences of stage 2, conversations")
    parser.add_argument("--closed", type=int, default=200, help="sequences of stage 2 with long checklists")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.out.mkdir(parents=True, exist_ok=True)

    samples = load_samples(args.data)
    spec = ExpertSpec.from_dict(json.loads((args.data / "expert.json").read_text(encoding="utf-8")))
    base = read_gguf(weights.resolve(BASE))
    model = build_default(spec, base, lora_targets=LORA_TARGETS)
    head_path = args.out / "head.safetensors"
    if head_path.is_file():
        own = {k: v for k, v in load_file(head_path).items() if not k.startswith("words.")}
        model.vision_tower.load_state_dict(own, strict=False)
    else:
        fit_tower(expert_tower(model), samples)
        save_file({k: v.contiguous() for k, v in model.vision_tower.state_dict().items()}, head_path)
    print(json.dumps(head_report(expert_tower(model), samples, samples.indices("test"))), flush=True)

    tokenize = tokenize_with(base.tokenizer)
    n_visual, placeholder = model.num_visual_tokens(1), model.config.image_token_id

    def encode(turns: list[list[str]]) -> Rendered:
        return render(tokenize, [(q, a) for q, a in turns], n_visual, placeholder)

    yes_no = {tokenize(word)[0] for word in (spec.yes, spec.no)}
    stop = base.tokenizer.token_to_id(STOP)
    assert stop is not None, f"the base's tokenizer lacks {STOP}"
    pad = Pad(stop, frozenset(yes_no))
    for stage in (
        Stage("align", NEW, lr=1.5e-3, sequences=args.align, batch=4),
        Stage("finetune", (*NEW, "language_model"), lr=5e-4, sequences=args.finetune, batch=4),
        Stage("closed", (*NEW, "language_model"), lr=6e-4, sequences=args.closed, batch=2, checklists=True),
    ):
        run_stage(model, samples, stage, encode, pad, args.out)
    save_file(_state(model), args.out / "delta.safetensors")


if __name__ == "__main__":
    main()
