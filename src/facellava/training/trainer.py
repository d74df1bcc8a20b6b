"""``transformers.Trainer`` with our loss, order, checkpoints and log; launching and sharding stay with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer

from facellava import tasks
from facellava.errors import TrainingFailed
from facellava.training import checkpoints as io
from facellava.training.batches import Broken
from facellava.training.modules import load_part
from facellava.training.order import StepSampler
from facellava.training.talks import MIXED

TASKS = (*tasks.all_tasks(), MIXED)


class FaceLlavaTrainer(Trainer):
    """Trains one stage.

    Args:
        sampler: the micro-batches of all optimizer steps.
        on_broken: told of every conversation that could not be loaded; may raise.
        keep: checkpoints that are kept.
        kwargs: of ``Trainer``.
    """

    def __init__(
        self, *, sampler: StepSampler, on_broken: Callable[[list[Broken]], None], keep: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sampler, self._on_broken, self._keep = sampler, on_broken, keep
        self.model_accepts_loss_kwargs = True
        self._by_task = torch.zeros(len(TASKS), 2, device=self.args.device)
        self._seen, self._since = 0, time.perf_counter()

    # --- data and loss ---

    def get_train_dataloader(self) -> DataLoader:
        """The steps' micro-batches, dealt out to the processes in turn."""
        workers = self.args.dataloader_num_workers
        loader = DataLoader(
            self.train_dataset,  # pyright: ignore[reportArgumentType]
            batch_sampler=self.sampler,  # pyright: ignore[reportArgumentType]
            collate_fn=self.data_collator,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=workers > 0,
        )
        return self.accelerator.prepare(loader)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        """The label weights of one optimizer step over all processes, which its loss is divided by."""
        own = torch.stack([batch["label_weights"][:, 1:].sum() for batch in batch_samples]).sum().to(device)
        # a step of fillers and broken rows alone has no weight, and no loss either
        total: Any = self.accelerator.reduce(own, "sum")
        return total.clamp_min(1e-6)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Eq. 7 over the answers of a micro-batch, as its part of the optimizer step's weighted mean."""
        batch = dict(inputs)
        names, broken = batch.pop("tasks"), batch.pop("broken")
        if broken:
            self._on_broken(broken)
        output = model(**batch, answers_only=True, num_items_in_batch=num_items_in_batch)
        if not bool(torch.isfinite(output.loss)):
            step = self.state.global_step
            raise TrainingFailed(f"the loss is no finite number at step {step}: lower lr, or train in fp32")
        places = torch.tensor([TASKS.index(name) for name in names], device=output.row_loss.device)
        self._by_task.index_add_(0, places, torch.stack([output.row_loss, output.row_weight], 1))
        self._seen += len(names)
        # the gradient of several processes is averaged, but ours is a part of a sum
        loss = output.loss * self.accelerator.num_processes
        return (loss, output) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As usual, with the loss of each task and conversations per second beside the loss."""
        if "loss" in logs:
            sums: Any = self.accelerator.reduce(self._by_task.clone(), "sum")
            for name, (total, weight) in zip(TASKS, sums.tolist(), strict=True):
                if weight > 0:
                    logs[f"loss/{name}"] = total / weight
            now = time.perf_counter()
            seen = self._seen * self.accelerator.num_processes
            logs["conversations_per_second"] = seen / (now - self._since)
            self._by_task.zero_()
            self._seen, self._since = 0, now
        super().log(logs, start_time)

    # --- checkpoints ---

    @property
    def _sharded(self) -> bool:
        """Whether accelerate or DeepSpeed keep the state in pieces and in formats of their own."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _folder(self) -> Path:
        assert self.args.output_dir is not None
        return Path(self.args.output_dir)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._folder() / io.STAGING)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self._wait()
        if self.args.should_save:
            io.publish(self._folder(), self._keep)
        self._wait()
        self._since = time.perf_counter()  # saving is not training

    def _wait(self) -> None:
        if self.args.world_size > 1 and dist.is_initialized():
            dist.barrier()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The stage's trained parameters; everything else is where it was before the stage."""
        if not self.args.should_save:
            return
        state = self.accelerator.unwrap_model(self.model).state_dict() if state_dict is None else state_dict
        wanted = {name for name, p in self.accelerator.unwrap_model(self.model).named_parameters() if p.requires_grad}
        target = Path(output_dir or self._folder())
        target.mkdir(parents=True, exist_ok=True)
        io.save_tensors(target / io.WEIGHTS, {name: value for name, value in state.items() if name in wanted})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self._sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        path = Path(resume_from_checkpoint) / io.WEIGHTS
        tensors, _ = io.load_tensors(path)
        load_part(self.accelerator.unwrap_model(model or self.model), tensors, str(path))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._sharded:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            optimizer, scheduler = self._parts()
            io.save_optimizer(Path(output_dir) / io.OPTIMIZER, optimizer.state_dict())
            io.save_json(Path(output_dir) / io.SCHEDULER, scheduler.state_dict())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._sharded or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        optimizer, scheduler = self._parts()
        optimizer.load_state_dict(io.load_optimizer(Path(checkpoint) / io.OPTIMIZER))
        scheduler.load_state_dict(io.load_json(Path(checkpoint) / io.SCHEDULER))

    def _parts(self) -> tuple[Any, Any]:
        assert self.optimizer is not None and self.lr_scheduler is not None
        return self.optimizer, self.lr_scheduler

    def _save_rng_state(self, output_dir: str) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        io.save_random(Path(output_dir) / f"random-{self.args.process_index}.safetensors")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            io.load_random(Path(checkpoint) / f"random-{self.args.process_index}.safetensors")
