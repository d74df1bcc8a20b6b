"""What can be seen of a run: a line for each logged step, a bar with the time left, answers about held-out faces."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from facellava.errors import FacellavaError
from facellava.files import write_atomic
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.training.features import FaceInputs
from facellava.training.talks import Talk

LOG, SAMPLES = "log.jsonl", "samples.jsonl"


class Watch(TrainerCallback):
    """Writes ``log.jsonl`` of a stage and shows its progress.

    Args:
        folder: of the stage. name: of it. describe: called at every checkpoint with the step.
        show: writes a line for people.
    """

    def __init__(
        self, folder: Path, name: str, describe: Callable[[int], None], show: Callable[[str], None] = print
    ) -> None:
        self.folder, self.name, self._describe, self._show = folder, name, describe, show
        self._bar: Any = None
        self._task: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After a resume the log holds what the checkpoint knows, and nothing twice."""
        if not state.is_world_process_zero:
            return
        kept = "".join(json.dumps(line) + "\n" for line in state.log_history if "loss" in line)
        write_atomic(self.folder / LOG, kept)
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=state.max_steps, completed=state.global_step, facts="")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """One line in the log, and one for people where there is no terminal."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**logs, "step": state.global_step}) + "\n")
        rate = logs["conversations_per_second"]
        facts = f"loss {logs['loss']:.4f}, {rate:.2f} conversations/s"
        if self._bar is not None:
            self._bar.update(self._task, facts=facts)
        else:
            left = (state.max_steps - state.global_step) * _step_seconds(args, rate)
            self._show(f"{self.name} {state.global_step}/{state.max_steps}: {facts}, {_duration(left)} left")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Describe the held-out faces."""
        self._describe(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _step_seconds(args: TrainingArguments, rate: float) -> float:
    size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return size / max(rate, 1e-9)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


class Describer:
    """Answers the first question about a few held-out faces, greedily, into ``samples.jsonl`` of the run.

    Args:
        talks: the faces. tokens: length of an answer.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        model: FaceLlavaForConditionalGeneration,
        processor: FaceLlavaProcessor,
        inputs: FaceInputs,
        talks: Sequence[Talk],
        tokens: int,
    ) -> None:
        self.folder, self.stage, self.model, self.processor = folder, stage, model, processor
        self.inputs, self.talks, self.tokens = inputs, talks, tokens

    def __call__(self, step: int) -> None:
        """Append one line for each face."""
        if not self.talks:
            return
        training = self.model.training
        self.model.eval()
        with (self.folder / SAMPLES).open("a", encoding="utf-8") as file:
            for talk in self.talks:
                question, wanted = talk.turns[0]
                try:
                    said = self.answer(talk, question)
                except FacellavaError as error:
                    said = f"({error})"
                line = {"stage": self.stage, "step": step, "id": talk.id, "question": question}
                file.write(json.dumps({**line, "answer": said, "wanted": wanted}, ensure_ascii=False) + "\n")
        self.model.train(training)

    @torch.no_grad()
    def answer(self, talk: Talk, question: str) -> str:
        """The model's answer about a face."""
        device = self.model.device
        visual = {name: value[None].float().to(device) for name, value in self.inputs(talk).items()}
        ids = self.processor.render([{"role": "user", "content": question}], self.inputs.frames(talk), False).ids
        tokens = torch.tensor([ids], device=device)
        stop = self.processor.tokenizer.eos_token_id
        generate: Any = self.model.generate  # pyright: ignore[reportAttributeAccessIssue]
        out = generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=self.tokens,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=stop,
            **visual,
        )
        return self.processor.decode(out[0, len(ids) :]).strip()
