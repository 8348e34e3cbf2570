"""Lightning callbacks."""

import logging
import math
import sys
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from torch import Tensor

from gpt_classifier.signals import take_back
from gpt_classifier.training.report import AGREEMENT

log = logging.getLogger(__name__)


class OwnSignals(Callback):
    """Lets SIGTERM end a run as Ctrl-C does, not with Lightning's status 0 and, under Slurm, not queued again.

    What Lightning would save for that is from the middle of an epoch, and can't be resumed exactly.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        take_back()


class FillPrefix(Callback):
    """Computes the activations of the frozen blocks before the first pass that needs them."""

    def __init__(self) -> None:
        self._filled: object = None  # for which prefix

    def _fill(self, trainer: Trainer, module: LightningModule) -> None:
        prefix = getattr(module, "prefix", None)
        if prefix is None or prefix is self._filled:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        with trainer.precision_plugin.forward_context():
            prefix.fill(
                data.token_rows(),
                module.model,
                data.pad_id,
                trainer.global_rank,
                trainer.world_size,
                trainer.strategy.reduce_boolean_decision,
            )
        data.announce = prefix.announce
        self._filled = prefix

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fill(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fill(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fill(trainer, pl_module)


class BestWeights(Callback):
    """Keeps the weights of the best epoch: by the task's metric on validation, ties decided by the lower loss.

    Args:
        path: checkpoint to write, with weights and what prediction needs, but no optimizer; `None` keeps what is
            trained in memory, for one process.

    Attributes:
        best: `epoch`, `step`, and all `metrics` of the best epoch's validation, of which 0 is the one before training;
            empty as long as there is none.
        predictions: of that validation; `None` where an earlier process made it.
    """

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        self.best: dict[str, Any] = {}
        self.predictions: Any = None
        self._trained: dict[str, Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.path = trainer.strategy.broadcast(self.path)  # processes that torchrun started may disagree

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # without the file that a record is about, a run resumed elsewhere starts a record of its own; the first
        # process decides, as others may not see its disk
        if not trainer.strategy.broadcast(self.path is not None and self.path.exists()):
            self.best = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        if trainer.state.fn != "fit" or trainer.fast_dev_run or not module.measured:  # type: ignore[attr-defined]
            return
        metrics = module.evaluation["val"]
        monitor, sign = module.task.monitor, 1 if module.task.mode == "max" else -1

        def rank(found: dict[str, Any]) -> tuple[float, float]:
            value, loss = sign * found[monitor], found["loss"]
            return (-math.inf if math.isnan(value) else value, -math.inf if math.isnan(loss) else -loss)

        better = not self.best or rank(metrics) > rank(self.best["metrics"])
        if trainer.strategy.broadcast(better):  # saving takes all processes, so they must agree
            epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
            self.best = {"epoch": epoch, "step": trainer.global_step, "metrics": metrics}
            self.predictions = module.predictions["val"]
            self._keep(trainer, module)

    def keep_last_if_none(self, trainer: Trainer) -> None:
        """After a run without any validation the last weights are the best that there are."""
        if not self.best and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._keep(trainer, trainer.lightning_module)

    def _keep(self, trainer: Trainer, module: Any) -> None:
        if self.path is not None:
            trainer.save_checkpoint(self.path, weights_only=True)
        else:
            trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
            state = module.state_dict()
            self._trained = {name: state[name].detach().clone() for name in trained}

    def restore(self, module: LightningModule) -> None:
        """Put the best weights that are kept in memory back into the module."""
        module.load_state_dict(self._trained, strict=False)

    def state_dict(self) -> dict[str, Any]:
        return self.best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = dict(state_dict)


class Progress(TQDMProgressBar):
    """A bar with running loss and accuracy on a terminal, and a line for each epoch wherever output goes."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=5 if sys.stderr.isatty() or "ipykernel" in sys.modules else 0)
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._validated = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            last = next((c.last_model_path or c.best_model_path for c in trainer.checkpoint_callbacks), "")  # type: ignore[attr-defined]
            how = f"ckpt_path={last} goes on from the last whole epoch" if last else "no epoch was finished"
            log.info("interrupted in epoch %d; %s", trainer.current_epoch + 1, how)

    def init_train_tqdm(self) -> Tqdm:
        return _vanishing(super().init_train_tqdm())

    def init_validation_tqdm(self) -> Tqdm:
        return _vanishing(super().init_validation_tqdm())

    def init_test_tqdm(self) -> Tqdm:
        return _vanishing(super().init_test_tqdm())

    @property
    def test_description(self) -> str:
        return "Measuring"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        parts = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        measured = [("training", "train", "epoch_")] + [("validation", "val", "")] * self._validated
        self._validated = False
        taught = trainer.datamodule.report.taught  # type: ignore[attr-defined]
        for name, split, of in measured:
            loss, accuracy = (trainer.callback_metrics.get(f"{split}/{of}{what}") for what in ("loss", "accuracy"))
            if loss is not None and accuracy is not None:
                called = AGREEMENT if split in taught else "accuracy"
                parts.append(f"{name} loss {float(loss):.3f}, {called} {float(accuracy):.2%}")
        with Tqdm.external_write_mode(file=sys.stdout):
            log.info("   ".join(parts))


def _vanishing(bar: Tqdm) -> Tqdm:
    """The lines that are logged stay; the bar between them goes."""
    bar.leave = False
    return bar
