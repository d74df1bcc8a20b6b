"""Training beside the plain Trainer, same model, data and steps: answer-only logits, length buckets, cached features.

The peer is ``transformers.Trainer`` as it comes: random order, a collator that pads to the longest conversation of the
batch, loss over full logits. The loss of the first batch, computed both ways, is stated as agreement.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, medians, moving_portrait, row
from transformers import Trainer, TrainingArguments

from facellava.runtime.build import CROP_MARGIN
from facellava.training.assemble import Assembled, assemble
from facellava.training.batches import Collator, TalkDataset
from facellava.training.experts import expert_digests
from facellava.training.features import FaceInputs, FeatureCache, identity
from facellava.training.order import Facts, Ref, StepSampler, steps
from facellava.training.recipe import DataConfig, ModelConfig, StageConfig, load_recipe
from facellava.training.talks import Corpus, load_corpus
from facellava.training.texts import TextEncoder
from facellava.training.trainer import FaceLlavaTrainer

BATCH = 8
STAGE = StageConfig("bench", ("frlp", "frgca", "projector", "language_model"), 1e-4, batch=BATCH, micro_batch=BATCH)
TEXT = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
LENGTHS = (1, 1, 1, 2, 2, 3, 4, 8)
"""Sentences of an answer, drawn from these: most are short, as in real data."""
SENTENCE = "The lip corners are pulled up and outwards, the cheeks are lifted, and the lids are narrowed a little. "


def model(vision: dict[str, Any]) -> ModelConfig:
    """A small language model with SmolLM2's vocabulary behind a tower."""
    return ModelConfig(
        "random",
        tokenizer="smollm2-135m-instruct",
        vision=vision,
        fusion={"heads": 8},
        text=TEXT,
        crop_margin=CROP_MARGIN,
    )


def ablation_model() -> ModelConfig:
    """The model of the ablation tables, which see the same videos again in every row and seed."""
    return load_recipe("table6").model


IMAGES = {
    "kind": "clip",
    "towers": "image",
    "width": 64,
    "layers": 2,
    "heads": 4,
    "mlp": 128,
    "patch": 28,
    "image_size": 224,
    "temporal": False,
}


class Bench:
    """One model and data, trained for some steps either way.

    Args:
        folder: a dataset. cache: of features, None to compute them in every step.
    """

    def __init__(self, config: ModelConfig, folder: Path, cache: Path | None) -> None:
        torch.manual_seed(0)
        self.corpus: Corpus = load_corpus(DataConfig((str(folder),)))
        found: Assembled = assemble(config, self.corpus)
        self.model, self.processor = found.model, found.processor
        for parameter in self.model.vision_tower.parameters():
            parameter.requires_grad_(False)
        tower = self.model.vision_tower
        features = None
        if cache is not None:
            features = FeatureCache(cache, identity(self.processor.config, tower, expert_digests()))
        self.inputs = FaceInputs(self.corpus, self.processor, features, tower)
        if features is not None:
            self.inputs.fill(self.corpus.talks, lambda _done, _total: None)
        self.encode = TextEncoder(self.processor, STAGE)
        self.data = TalkDataset(self.corpus.talks, self.encode, self.inputs)
        self.collate = Collator(self.processor.config, self.inputs, self.processor.pad_id())

    def arguments(self, folder: str) -> TrainingArguments:
        """The same for both sides."""
        return TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=1e-4,
            optim="adamw_torch",
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )

    def ours(self) -> None:
        """All conversations once, in steps of similar length, logits at answers only."""
        lengths = [len(self.encode(talk, self.inputs.frames(talk)).ids) for talk in self.corpus.talks]
        count = len(lengths)
        facts = Facts(
            np.array(lengths),
            np.array([self.inputs.frames(talk) for talk in self.corpus.talks]),
            np.zeros(count, np.int64),
            [talk.source for talk in self.corpus.talks],
        )
        sampler = StepSampler(steps(facts, STAGE, seed=0, by_group=False), BATCH)
        with tempfile.TemporaryDirectory() as folder:
            trainer = FaceLlavaTrainer(
                sampler=sampler,
                on_broken=_fail,
                keep=1,
                model=self.model,
                args=self.arguments(folder),
                train_dataset=self.data,
                data_collator=self.collate,
            )
            _quiet(trainer).train()

    def plain(self) -> None:
        """All conversations once, as the Trainer does it by itself."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                model=self.model,
                args=self.arguments(folder),
                train_dataset=_ByNumber(self.data),
                data_collator=self.plain_batch,
            )
            _quiet(trainer).train()

    def plain_batch(self, items: list[Any]) -> dict[str, Any]:
        """What the model's forward takes; loss over full logits."""
        batch = self.collate(items)
        for name in ("tasks", "broken", "label_weights"):
            del batch[name]
        return batch

    @torch.no_grad()
    def difference(self) -> float:
        """Between the losses of one batch, computed both ways."""
        items = [self.data[Ref(i, 0)] for i in range(BATCH)]
        batch = self.plain_batch(items)
        return abs(float(self.model(**batch).loss) - float(self.model(**batch, answers_only=True).loss))


class _ByNumber(torch.utils.data.Dataset):
    def __init__(self, data: TalkDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.data[Ref(index, 0)]


def _fail(broken: list[Any]) -> None:
    raise AssertionError(f"the benchmark's own data is broken: {broken}")


def _quiet(trainer: Trainer) -> Trainer:
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__ in ("PrinterCallback", "ProgressCallback"):
            trainer.remove_callback(callback)
    return trainer


@contextmanager
def dataset(pictures: int, videos: int) -> Iterator[Path]:
    """A small dataset in the store's format."""
    from facellava import weights
    from facellava.face import FaceFrontEnd, read_media
    from facellava.instruct.clipstore import ClipStore
    from facellava.instruct.dataset import write_rows
    from facellava.instruct.records import Annotation
    from facellava.instruct.rows import Row as DataRow

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        front, store, rows = FaceFrontEnd(weights.resolve, margin=CROP_MARGIN), ClipStore(folder / "clips"), []
        for n in range(pictures + videos):
            kind = "image" if n < pictures else "video"
            path = folder / f"{n}.mp4"
            moving_portrait(path, seed=n, frames=1 if kind == "image" else 16, size=(256, 256))
            (clip,) = front.clips(read_media(path))
            store.save(f"clip{n}", clip)
            data, media_type = store.encoded(f"clip{n}")
            answer = "The displayed expression is happiness. " + SENTENCE * int(rng.choice(LENGTHS))
            rows.append(
                DataRow(
                    id=f"bench/{n:04}",
                    source="bench",
                    split="train",
                    subset="train",
                    subject=None,
                    task="expression",
                    kind=kind,
                    label="happiness",
                    known=(),
                    question="Which expression is displayed, and what in the face speaks for it?",
                    description=answer.strip(),
                    annotation=Annotation(answer, "bench"),
                    rating=None,
                    clip=f"clip{n}",
                    media=path.name,
                    sha256="",
                    duration=0.0,
                    landmarks=clip.landmarks,
                    blendshapes=clip.blendshapes,
                    times=clip.times,
                    margin=clip.margin,
                    data=data,
                    media_type=media_type,
                    licence="",
                )
            )
        write_rows(folder / "dataset", rows)
        yield folder / "dataset"


def rows(rounds: int) -> list[Row]:
    """Images: ours beside the plain Trainer. Videos: cached features beside computing them again."""
    torch.set_num_threads(2)
    found = []
    with dataset(96, 0) as folder, tempfile.TemporaryDirectory() as cache:
        bench = Bench(model(IMAGES), folder, Path(cache))
        note = f"loss of one batch differs by {bench.difference():.1e}"
        name = f"training on {len(bench.data)} pictures, answer-only logits and length buckets"
        times = medians(bench.ours, bench.plain, rounds)
        found.append(row(name, "Trainer, full logits, random order", times, 1.6, note, 2))
    with dataset(0, 24) as folder, tempfile.TemporaryDirectory() as cache:
        cached, plain = Bench(ablation_model(), folder, Path(cache)), Bench(ablation_model(), folder, None)
        times = medians(cached.ours, plain.ours, rounds)
        name = f"training on {len(plain.data)} videos of 16 frames, cached features"
        found.append(row(name, "computing them in every pass", times, 3.0, "fp16 features, Table 6's model", 2))
    return found
