"""The LightningModule: a classifier, its loss, its optimizer and what it measures."""

from collections.abc import Callable
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import wrap

from gpt_classifier.activations.frozen_prefix import FrozenPrefix
from gpt_classifier.artifact import KEY
from gpt_classifier.data.batching import Batch
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.spec import Spec
from gpt_classifier.tasks import Metrics, Task, scalars
from gpt_classifier.training.predictions import Outputs, SplitPredictions


class ClassifierModule(LightningModule):
    """Trains a classifier.

    Validation measures the validation split after each epoch; the test loop measures the splits that the data module
    gives it into `evaluation`. Both gather what all processes computed, so every process has the whole result.

    Args:
        model: the classifier, its frozen parameters switched off.
        task: loss, decisions and metrics.
        optimizer: makes an optimizer from the trainable parameters.
        scheduler: makes a per-step learning-rate scheduler from the optimizer and `total_steps`, or `None`.
        spec: what prediction needs, kept in every checkpoint.
        seed: of dropout; each epoch starts from it, so that a resumed run draws what an unbroken one does.
        prefix: activations of the frozen blocks, filled by `callbacks.FillPrefix`; `None` computes all blocks.
        head_rate: the head's learning rate, as a part of the optimizer's; alone the head has the optimizer's.
    """

    def __init__(
        self,
        model: Classifier,
        task: Task,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None,
        spec: Spec,
        seed: int,
        prefix: FrozenPrefix | None = None,
        head_rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.spec = spec
        self.seed = seed
        self.prefix = prefix
        self.head_rate = head_rate
        self.strict_loading = spec.base is None  # otherwise checkpoints hold what is trained alone
        self.settings: dict[str, Any] = {}  # what a resumed run must share, see resume.py
        self.history: list[dict[str, float]] = []  # what the curves are drawn from
        self.start: dict[str, Any] = {}  # the splits before training, if they were measured
        self.examples_seen = 0
        self.evaluation: dict[str, Metrics] = {}  # of the splits that were measured last
        self.predictions: dict[str, SplitPredictions] = {}
        self._outputs: dict[str, Outputs] = {}
        self._window = torch.zeros(3)  # sums of loss, correct and messages since they were last logged
        self._epoch = torch.zeros(3)  # and of the epoch

    def forward(self, batch: Batch) -> Tensor:
        if self.prefix is None or batch.hidden is None:
            return self.model(batch.ids, batch.lengths)
        return self.model.suffix(self.prefix.unpack(batch.hidden), batch.lengths, self.prefix.key.depth, batch.ids)

    def features(self, batch: Batch) -> Tensor:
        """What the head reads, `(B, D)`."""
        if self.prefix is None or batch.hidden is None:
            return self.model.prefix(batch.ids, batch.lengths, self.model.pooled_depth)
        return self.model.features(self.prefix.unpack(batch.hidden), batch.lengths, self.prefix.key.depth)

    def configure_model(self) -> None:
        # Under FSDP this makes the classifier a unit of its own, which later stages find as it is; elsewhere nothing.
        # Left to wrap the whole module, Lightning would do so anew for each of measuring, training, measuring.
        if not isinstance(self.model, FullyShardedDataParallel):
            self.model = cast(Classifier, wrap(self.model))

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if self.prefix is None:
            return batch
        return batch._replace(hidden=self.prefix.gather(batch.split, batch.indices.tolist()))

    def configure_optimizers(self) -> Any:
        head = set(self.model.head.parameters()) if self.head_rate != 1 else set()
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        others = [parameter for parameter in trainable if parameter not in head]
        if others and len(others) < len(trainable):
            slow = [parameter for parameter in trainable if parameter in head]
            optimizer = self.make_optimizer([{"name": "blocks", "params": others}, {"name": "head", "params": slow}])
            for group in optimizer.param_groups:
                if group.get("name") == "head":
                    group["lr"] *= self.head_rate
        else:
            optimizer = self.make_optimizer(trainable)
        if self.make_scheduler is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.make_scheduler(optimizer, total_steps=total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # training

    def on_fit_start(self) -> None:
        self._window = self._window.to(self.device)
        self._epoch = self._epoch.to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:  # on_train_epoch_start is not called for the first epoch of a resumed run
            torch.manual_seed((self.seed * 1_000_003 + self.current_epoch) * 4096 + self.global_rank)
            self._epoch = torch.zeros(3, device=self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self(batch)
        loss = self.task.loss(logits, batch.labels, batch.weights)
        with torch.no_grad():
            correct = self.task.correct(logits, batch.labels).sum()
            messages = torch.full_like(loss, len(batch.labels))
            sums = torch.stack([loss * messages, correct, messages])
            self._window += sums
            self._epoch += sums
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.examples_seen += len(batch.labels) * self.trainer.world_size
        if self.trainer.is_last_batch:
            loss, accuracy = self._means(self._epoch)
            self.log_dict(
                {"train/epoch_loss": loss, "train/epoch_accuracy": accuracy},
                on_step=False,
                on_epoch=True,
                batch_size=1,
            )
        done = self.trainer.fit_loop.total_batch_idx + 1
        at_the_end = self.trainer.is_last_batch and self.current_epoch + 1 == self.trainer.max_epochs
        if done % self.trainer.log_every_n_steps and not at_the_end:  # type: ignore[attr-defined]
            return
        loss, accuracy = self._means(self._window)
        self._window.zero_()
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True, logger=False, batch_size=1)
        running = {"train/running_loss": loss, "train/running_accuracy": accuracy}
        for logger in self.loggers:
            logger.log_metrics(running, step=self.global_step)
        self.history.append({**self._where(), **running})

    def _over_all_processes(self, sums: Tensor) -> list[float]:
        return self.trainer.strategy.reduce(sums.clone(), reduce_op="sum").tolist()

    def _means(self, sums: Tensor) -> tuple[float, float]:
        """Mean loss and accuracy."""
        loss, correct, messages = self._over_all_processes(sums)
        return loss / messages, correct / messages

    def _where(self) -> dict[str, float]:
        batches = self.trainer.fit_loop.batch_idx + 1
        epoch = self.current_epoch + batches / self.trainer.num_training_batches
        return {"epoch": epoch, "step": self.global_step, "examples": self.examples_seen}

    def begin(self) -> None:
        """Keep what was measured before training."""
        self.start = {"epoch": 0, "step": 0, **self.evaluation}
        val = self.evaluation.get("val")
        if val is None:
            return
        where = {"epoch": 0.0, "step": 0, "examples": 0}
        self.history.append({**where, "val/loss": val["loss"], "val/accuracy": val["accuracy"]})

    # evaluation

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._predict(batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._predict(batch)

    def _predict(self, batch: Batch) -> None:
        logits = self(batch)
        if batch.split not in self._outputs:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            self._outputs[batch.split] = Outputs(self.task, len(data.datasets[batch.split]))
        self._outputs[batch.split].add(batch.indices.cpu(), logits.cpu(), batch.labels.cpu())

    @property
    def measured(self) -> bool:
        """Whether validation goes over the whole split: before training it may be a few batches, which say nothing."""
        return not self.trainer.sanity_checking or self.trainer.num_sanity_val_steps == float("inf")

    def on_validation_epoch_end(self) -> None:
        if not self.measured:
            self._outputs.clear()
            return
        metrics = self._measure("val")
        self.evaluation = {"val": metrics}
        drawn = scalars(metrics, "val")
        if self.trainer.sanity_checking:
            if not self.start:
                self.begin()
                for logger in self.loggers:
                    logger.log_metrics(drawn, step=0)
            return
        shown = ("val/loss", "val/accuracy")
        self.log_dict({name: drawn.pop(name) for name in shown}, prog_bar=True, batch_size=1)
        self.log_dict(drawn, batch_size=1)
        self.history.append({**self._where(), "val/loss": metrics["loss"], "val/accuracy": metrics["accuracy"]})

    def on_test_epoch_end(self) -> None:
        self.evaluation = {split: self._measure(split) for split in list(self._outputs)}

    def _measure(self, split: str) -> Metrics:
        self.predictions.pop(split, None)  # before there are new ones
        found = self._outputs.pop(split).gather(self.trainer.world_size)
        self.predictions[split] = found
        return found.metrics(self.task)

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.spec.plain()
        checkpoint["state_dict"] = self.kept(checkpoint["state_dict"])
        checkpoint["progress"] = {
            "history": self.history,
            "start": self.start,
            "examples_seen": self.examples_seen,
            "settings": self.settings,
            "window": self._over_all_processes(self._window),
        }

    def kept(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a checkpoint holds of a state dict: all, or what was fitted to the data, where a file has the rest."""
        if self.strict_loading:
            return state
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        fitted = ("model.head.", "model.words.")
        return {name: tensor for name, tensor in state.items() if name in trained or name.startswith(fitted)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.state.fn != "fit":  # the best weights are evaluated within a run that has its own progress
            return
        progress = checkpoint["progress"]
        self.history = list(progress["history"])
        self.start = progress["start"]
        self.examples_seen = progress["examples_seen"]
        if self.global_rank == 0:
            self._window = torch.tensor(progress["window"], device=self.device)
