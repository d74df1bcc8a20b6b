"""A training run, from recipe to a folder that ``start`` of another recipe takes; ``train`` is the story.

``OUT/`` holds ``recipe.json`` and ``manifest.json`` (what was asked for, what it was trained on), a folder for each
stage (checkpoints, ``log.jsonl``, ``weights.safetensors`` when it is done), ``broken.jsonl``, ``samples.jsonl``,
``report.html`` and ``final/``. The same command goes on where a killed run was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import TrainingArguments, set_seed

from facellava.errors import RunMismatch, TooManyBroken, UsageError
from facellava.files import json_row, read_json, write_atomic
from facellava.model.config import ExpertVisionConfig
from facellava.model.expert_report import FILE as HEAD_FILE
from facellava.model.expert_report import ExpertHead
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.training import checkpoints as io
from facellava.training import finish, hardware, modules
from facellava.training.assemble import assemble, check_delta, delta_folder, load_delta
from facellava.training.batches import Broken, Collator, TalkDataset
from facellava.training.experts import expert_digests, fit_expert_head, map_moments
from facellava.training.features import FaceInputs, FeatureCache, identity
from facellava.training.order import Facts, Lengths, Ref, StepSampler, steps
from facellava.training.recipe import StageConfig, TrainRecipe
from facellava.training.setting import enforce
from facellava.training.talks import Corpus, Talk, load_corpus
from facellava.training.texts import TextEncoder
from facellava.training.trainer import FaceLlavaTrainer
from facellava.training.watch import Describer, Watch
from facellava.types import Crop

BROKEN, RECIPE, MANIFEST, TOWER = "broken.jsonl", "recipe.json", "manifest.json", "tower.safetensors"
Show = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def train(recipe: TrainRecipe, out: Path, *, show: Show = print, progress: Progress | None = None) -> Path:
    """Train as a recipe says; returns the folder with the finished model.

    Args:
        recipe: from ``load_recipe``.
        out: folder of the run; a run of the same recipe and data that was stopped goes on in it.
        show: writes a line for people, in the main process only.
        progress: told of long preparations: what, done, total.

    Raises:
        UsageError, FileMissing, LeakFound, RunMismatch: before any work. TooManyBroken, TrainingFailed: on the way.
    """
    if recipe.hardware.threads:
        torch.set_num_threads(recipe.hardware.threads)
    corpus = load_corpus(recipe.data)
    enforce(corpus, recipe.setting)
    check_stages(recipe)
    if recipe.model.delta and recipe.lora is not None:
        check_delta(recipe.model, recipe.lora)
    claim(out, recipe, corpus)
    set_seed(recipe.seed)
    run = prepare(recipe, corpus, out, show if hardware.is_main() else _silent, progress or _no_progress)
    for number, stage in enumerate(recipe.stages):
        run_stage(run, stage, number)
    return finish.write(run.model, run.processor, recipe, corpus, out) if hardware.is_main() else out / finish.FINAL


def check_stages(recipe: TrainRecipe) -> None:
    """Raises ``UsageError`` where the processes do not divide a step."""
    processes = hardware.process_count()
    for stage in recipe.stages:
        if stage.batch % (stage.micro_batch * processes):
            raise UsageError(
                f"stage '{stage.name}': batch={stage.batch} is no multiple of micro_batch={stage.micro_batch} "
                f"times {processes} processes"
            )


def claim(out: Path, recipe: TrainRecipe, corpus: Corpus) -> None:
    """Write what the run is, or check that the folder holds the same run.

    Raises:
        RunMismatch: it holds another.
    """
    wanted = {"recipe": recipe.hash, "data": corpus.digest}
    path = out / MANIFEST
    if path.is_file():
        there = read_json(path)
        for name, value in wanted.items():
            if there.get(name) != value:
                raise RunMismatch(f"{out} holds a run of another {name}: name another folder, or delete this one")
        return
    if not hardware.is_main():
        return
    out.mkdir(parents=True, exist_ok=True)
    io.save_json(out / RECIPE, recipe.to_json())
    io.save_json(path, {**wanted, **finish.describe_data(corpus), "code": finish.code_version()})


@dataclass
class Run:
    """What the stages share."""

    recipe: TrainRecipe
    corpus: Corpus
    out: Path
    model: FaceLlavaForConditionalGeneration
    processor: FaceLlavaProcessor
    inputs: FaceInputs
    broken: BrokenLedger
    show: Show
    progress: Progress


def prepare(recipe: TrainRecipe, corpus: Corpus, out: Path, show: Show, progress: Progress) -> Run:
    """Model, features and expert head, before the first stage."""
    model, processor, new_tower = assemble(recipe.model, corpus)
    check_crops(corpus, model.config.crop_margin, model.config.crop)
    cache = None
    if recipe.data.cache:
        if model.config.fusion.uses_parsing and not isinstance(model.config.vision, ExpertVisionConfig):
            raise UsageError("data.cache: features of face-parsing maps are not cached for towers of CLIP type")
        cache = FeatureCache(Path(recipe.data.cache), identity(processor.config, model.vision_tower, expert_digests()))
    inputs = FaceInputs(corpus, processor, cache, model.vision_tower if cache else None)
    broken = BrokenLedger(out / BROKEN, recipe.data.max_broken)
    run = Run(recipe, corpus, out, model, processor, inputs, broken, show, progress)
    if cache is not None:
        fill_cache(run)
    if new_tower:
        prepare_tower(run)
    if recipe.lora is not None:
        modules.add_factors(model, recipe.lora)
    if recipe.model.delta:
        load_delta(model, recipe.model)
    return run


def check_crops(corpus: Corpus, margin: float, crop: Crop) -> None:
    """Raises ``UsageError`` where faces were cut otherwise than the model expects."""
    for talk in corpus.talks:
        if talk.crop != crop:
            raise UsageError(
                f"{talk.id} is a {talk.crop} crop, the model expects {crop} ones: build the data with "
                f"preprocess.crop = '{crop}'"
            )
        if abs(talk.margin - margin) > 1e-6:
            raise UsageError(
                f"{talk.id} was cropped with margin {talk.margin:g}, the model expects {margin:g}: build the data with "
                f"preprocess.margin = {margin:g}, or set model.crop_margin"
            )


def fill_cache(run: Run) -> None:
    """Compute every face's features once; each process its share."""
    rank, processes = hardware.rank(), hardware.process_count()
    own = run.corpus.talks[rank::processes]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run.model.vision_tower.to(device)
    failed = run.inputs.fill(own, lambda done, total: run.progress("features", done, total))
    run.broken([Broken(name, error.code, str(error)) for name, error in failed.items()])


def prepare_tower(run: Run) -> None:
    """The expert tower's moments, and the head where one is asked for: from the data's folder, or fitted once a run."""
    tower, head_path, path = run.model.vision_tower, run.out / HEAD_FILE, run.out / TOWER
    reports = run.recipe.model.report and run.recipe.model.start == "default"
    if reports and hardware.is_main() and not head_path.is_file():
        folders = [folder.path for folder in run.corpus.folders]
        if run.recipe.model.delta:  # the report that the language model knows
            folders.append(delta_folder(run.recipe.model))
        given = next((folder for folder in folders if (folder / HEAD_FILE).is_file()), None)
        if given is not None:
            head = ExpertHead.load(given)
        else:
            head, report = fit_expert_head(run.corpus, run.inputs, seed=run.recipe.seed)
            run.show("expert head: " + ", ".join(f"{name} {value:.2f}" for name, value in report.items()))
        head.save(head_path)
    if not path.is_file() and hardware.is_main():
        if reports:
            found = ExpertHead.load(head_path).arrays
            scale = {name: torch.from_numpy(found[name]).float() for name in ("map_mean", "map_std")}
        else:
            scale = map_moments(run.corpus, run.inputs)
        io.save_tensors(path, scale)
    hardware.wait_for(path)
    tower.load_state_dict(io.load_tensors(path)[0])
    if reports:
        run.processor.head = ExpertHead.load(head_path)


class BrokenLedger:
    """Records conversations that could not be loaded, once each, and ends the run when there are too many.

    Args:
        path: of the ledger; one line each. most: how many may fail.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path, self.most = path, most
        self.known: set[str] = set()
        if path.is_file():
            rows = [json_row(line) for line in path.read_bytes().splitlines()]
            kept = [row for row in rows if row and "id" in row]
            self.known = {row["id"] for row in kept}
            if len(kept) < len(rows):  # what is appended must not continue half a line
                write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))

    def __call__(self, broken: list[Broken]) -> None:
        """Raises ``TooManyBroken``."""
        for one in broken:
            if one.id in self.known:
                continue
            self.known.add(one.id)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
            if len(self.known) > self.most:
                raise TooManyBroken(
                    f"{len(self.known)} conversations could not be loaded, {self.most} are allowed "
                    f"(data.max_broken): {one.message}"
                )


def run_stage(run: Run, stage: StageConfig, number: int) -> None:
    """Train one stage, or load what it trained before."""
    folder = run.out / stage.name
    modules.choose(run.model, stage)
    done = folder / io.WEIGHTS
    if done.is_file():
        modules.load_part(run.model, io.load_tensors(done)[0], str(done))
        run.show(f"stage {stage.name}: done before")
        return
    run.show(modules.table(run.model, stage))
    folder.mkdir(parents=True, exist_ok=True)
    if hardware.is_main():
        io.clean(folder)
    trainer, watch = build_trainer(run, stage, number, folder)
    last = io.checkpoints(folder)
    try:
        trainer.train(resume_from_checkpoint=str(last[-1]) if last else None)
    finally:
        watch.close()
    # the file says that the stage is done; gathered where the model is sharded, written by the main process
    trainer.save_model(str(folder))
    hardware.wait_for(done)


def build_trainer(run: Run, stage: StageConfig, number: int, folder: Path) -> tuple[FaceLlavaTrainer, Watch]:
    """Order, batches, arguments and watching of a stage."""
    seed = run.recipe.seed * 1000 + number
    encode = TextEncoder(run.processor, stage, seed)
    talks, order = plan_steps(run, stage, encode, seed)
    collate = Collator(run.processor.config, run.inputs, run.processor.pad_id())
    held_out = run.corpus.held_out[: run.recipe.watch.samples] if hardware.is_main() else []
    tokens = run.recipe.watch.sample_tokens
    describe = Describer(run.out, stage.name, run.model, run.processor, run.inputs, held_out, tokens)
    watch = Watch(folder, stage.name, describe, run.show)
    trainer = FaceLlavaTrainer(
        sampler=StepSampler(order, stage.micro_batch),
        on_broken=run.broken,
        keep=run.recipe.watch.keep,
        model=run.model,
        args=arguments(run.recipe, stage, folder, len(order)),
        train_dataset=TalkDataset(talks, encode, run.inputs),
        data_collator=collate,
        callbacks=[watch],
    )
    # its own callbacks print to standard output; ours says the same and more
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__ in ("PrinterCallback", "ProgressCallback"):
            trainer.remove_callback(callback)
    return trainer, watch


def plan_steps(run: Run, stage: StageConfig, encode: TextEncoder, seed: int) -> tuple[list[Talk], list[list[Ref]]]:
    """The stage's conversations and steps; those that are longer than the context are left out and counted."""
    talks = run.corpus.talks
    frames = [run.inputs.frames(talk) for talk in talks]
    lengths = Lengths(len(talks), lambda i: len(encode(talks[i], frames[i], run.inputs.report(talks[i])).ids))
    groups, sources = np.asarray([talk.group for talk in talks]), [talk.source for talk in talks]
    facts = Facts(lengths, np.asarray(frames), groups, sources)
    reads_pixels = run.inputs.cache is None and any(run.corpus.folder(talk).stored(talk) is None for talk in talks[:1])
    data = run.recipe.data
    order = steps(facts, stage, seed=seed, window=data.window, shares=data.shares, by_group=reads_pixels)
    too_long = sum(length > stage.context for length in lengths.known.values())
    if too_long and too_long == len(lengths.known):
        raise UsageError(f"stage '{stage.name}': every conversation is longer than context={stage.context} tokens")
    if too_long:
        run.show(
            f"stage {stage.name}: {too_long:,} of {len(lengths.known):,} conversations are longer than "
            f"context={stage.context} tokens and are left out"
        )
    if not order:
        raise UsageError(f"stage '{stage.name}': data.shares and conversations leave no step")
    return talks, order


def arguments(recipe: TrainRecipe, stage: StageConfig, folder: Path, count: int) -> TrainingArguments:
    """The stage in the Trainer's own words."""
    processes = hardware.process_count()
    on_card = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=stage.micro_batch,
        gradient_accumulation_steps=stage.batch // (stage.micro_batch * processes),
        num_train_epochs=1,  # the order holds all passes
        learning_rate=stage.lr,
        lr_scheduler_type="cosine",
        warmup_steps=round(stage.warmup * count),
        optim="adamw_torch",
        weight_decay=stage.weight_decay,
        adam_beta1=stage.betas[0],
        adam_beta2=stage.betas[1],
        max_grad_norm=stage.max_grad_norm,
        bf16=hardware.uses_bf16(recipe.hardware),
        activation_checkpointing=recipe.hardware.checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if recipe.hardware.checkpointing else None,
        logging_steps=recipe.watch.log_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=recipe.watch.save_steps,
        seed=recipe.seed,
        use_cpu=not on_card,
        dataloader_num_workers=recipe.data.workers,
        dataloader_pin_memory=on_card,
        remove_unused_columns=False,
        average_tokens_across_devices=True,
        ddp_find_unused_parameters=False,
        report_to=list(recipe.watch.report_to) or "none",
        disable_tqdm=True,
        label_names=["labels"],
        **hardware.shard_settings(recipe.hardware),
    )


def _silent(_line: str) -> None:
    """What a caller from Python sees who asks for no lines."""


def _no_progress(_what: str, _done: int, _total: int) -> None:
    """The same for counts."""
