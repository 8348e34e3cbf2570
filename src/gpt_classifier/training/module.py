"""The LightningModule: a classifier, its loss, its optimizer and what it measures."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor

from gpt_classifier.data.batching import Batch
from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.model.classifier import GPTClassifier
from gpt_classifier.training.metrics import Metrics, measure, scalars


class ClassifierModule(LightningModule):
    """Trains a classifier with cross-entropy.

    Validation measures the validation split after each epoch; the test loop measures train, val and test, in this
    order, into `evaluation`. Both gather what all processes computed, so every process has the whole result.

    Args:
        model: the classifier, its frozen parameters switched off.
        optimizer: makes an optimizer from the trainable parameters.
        scheduler: makes a per-step learning-rate scheduler from the optimizer and `total_steps`, or `None`.
        class_names: C names, in the order of the class ids.
        spec: plain values that prediction needs, kept in every checkpoint under `classifier`.
        seed: of dropout; each epoch starts from it, so that a resumed run draws what an unbroken one does.
    """

    def __init__(
        self,
        model: GPTClassifier,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None,
        class_names: list[str],
        spec: dict[str, Any],
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.class_names = class_names
        self.spec = spec
        self.seed = seed
        self.history: list[dict[str, float]] = []  # what the curves are drawn from
        self.start: dict[str, Any] = {}  # the splits before training
        self.examples_seen = 0
        self.evaluation: dict[str, Metrics] = {}
        self.predictions: dict[str, tuple[Tensor, Tensor]] = {}  # logits (N, C) and labels (N,) of each split
        self._outputs: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self._window = torch.zeros(3)  # sums of loss, correct and messages since they were last logged
        self._epoch = torch.zeros(3)  # and of the epoch

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.model(ids, lengths)

    def configure_optimizers(self) -> Any:
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = self.make_optimizer(trainable)
        if self.make_scheduler is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.make_scheduler(optimizer, total_steps=total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # training

    def on_fit_start(self) -> None:
        self._window = self._window.to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:  # on_train_epoch_start is not called for the first epoch of a resumed run
            torch.manual_seed((self.seed * 1_000_003 + self.current_epoch) * 4096 + self.global_rank)
            self._epoch = torch.zeros(3, device=self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self(batch.ids, batch.lengths)
        loss = F.cross_entropy(logits, batch.labels)
        with torch.no_grad():
            correct = (logits.argmax(dim=-1) == batch.labels).sum()
            messages = torch.full_like(loss, len(batch.labels))
            sums = torch.stack([loss * messages, correct, messages])
            self._window += sums
            self._epoch += sums
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.examples_seen += len(batch.labels) * self.trainer.world_size
        if self.trainer.is_last_batch:
            loss, accuracy = self._means(self._epoch)
            self.log_dict({"train/epoch_loss": loss, "train/epoch_accuracy": accuracy}, batch_size=1)
        if (self.trainer.fit_loop.total_batch_idx + 1) % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        loss, accuracy = self._means(self._window)
        self._window.zero_()
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True, logger=False, batch_size=1)
        running = {"train/running_loss": loss, "train/running_accuracy": accuracy}
        for logger in self.loggers:
            logger.log_metrics(running, step=self.global_step)
        epoch = self.current_epoch + (batch_idx + 1) / self.trainer.num_training_batches
        self.history.append({"epoch": epoch, **self._where(), **running})

    def _over_all_processes(self, sums: Tensor) -> list[float]:
        return self.trainer.strategy.reduce(sums.clone(), reduce_op="sum").tolist()

    def _means(self, sums: Tensor) -> tuple[float, float]:
        """Mean loss and accuracy."""
        loss, correct, messages = self._over_all_processes(sums)
        return loss / messages, correct / messages

    def _where(self) -> dict[str, float]:
        return {"step": self.global_step, "examples": self.examples_seen}

    # evaluation

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._predict(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._predict(batch, SPLITS[dataloader_idx])

    def _predict(self, batch: Batch, split: str) -> None:
        logits = self(batch.ids, batch.lengths)
        results = (batch.indices.cpu(), logits.float().cpu(), batch.labels.cpu())
        self._outputs.setdefault(split, []).append(results)

    def on_validation_epoch_end(self) -> None:
        metrics = self._measure("val")
        drawn = scalars(metrics, "val")
        shown = ("val/loss", "val/accuracy")
        self.log_dict({name: drawn.pop(name) for name in shown}, prog_bar=True, batch_size=1)
        self.log_dict(drawn, batch_size=1)
        row = {"epoch": self.current_epoch + 1.0, **self._where()}
        self.history.append({**row, "val/loss": metrics["loss"], "val/accuracy": metrics["accuracy"]})

    def on_test_epoch_end(self) -> None:
        self.evaluation = {split: self._measure(split) for split in SPLITS}

    def _measure(self, split: str) -> Metrics:
        self.predictions[split] = self._gather(self._outputs.pop(split))
        return measure(*self.predictions[split], self.class_names)

    def _gather(self, results: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Logits `(N, C)` and labels `(N,)` of all processes in the order of the split, each message once."""
        indices, logits, labels = (torch.cat(parts) for parts in zip(*results, strict=True))
        if self.trainer.world_size > 1:
            shares: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(shares, (indices, logits, labels))
            indices, logits, labels = (torch.cat(parts) for parts in zip(*shares, strict=True))
        order = indices.argsort(stable=True)
        first = torch.ones(len(order), dtype=torch.bool)
        first[1:] = indices[order][1:] != indices[order][:-1]
        return logits[order][first], labels[order][first]

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["classifier"] = self.spec
        checkpoint["progress"] = {
            "history": self.history,
            "start": self.start,
            "examples_seen": self.examples_seen,
            "window": self._over_all_processes(self._window),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.state.fn != "fit":  # the best weights are evaluated within a run that has its own progress
            return
        progress = checkpoint["progress"]
        self.history = list(progress["history"])
        self.start = progress["start"]
        self.examples_seen = progress["examples_seen"]
        if self.global_rank == 0:
            self._window = torch.tensor(progress["window"])
