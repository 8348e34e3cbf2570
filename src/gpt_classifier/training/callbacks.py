"""What happens beside a training."""

import logging
import math
import sys
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

log = logging.getLogger(__name__)


class BestCheckpoint(Callback):
    """Keeps the weights of the epoch with the highest validation accuracy, ties decided by the lower loss.

    Args:
        path: file to write; it holds weights and what prediction needs, but no optimizer.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.best: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.path = trainer.strategy.broadcast(self.path)  # processes that torchrun started may disagree

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        accuracy = float(trainer.callback_metrics["val/accuracy"])
        loss = float(trainer.callback_metrics["val/loss"])
        loss = math.inf if math.isnan(loss) else loss
        better = not self.best or (accuracy, -loss) > (self.best["accuracy"], -self.best["loss"])
        if trainer.strategy.broadcast(better):  # saving takes all processes, so they must agree
            self.best = {
                "accuracy": accuracy,
                "loss": loss,
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
            }
            trainer.save_checkpoint(self.path, weights_only=True)

    def keep_last_if_none(self, trainer: Trainer) -> None:
        """After a training without any validation the last weights are the best that there are."""
        if not self.best and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        return self.best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # without the file that the record is about, a run resumed elsewhere starts a record of its own
        self.best = dict(state_dict) if self.path.exists() else {}


class Progress(TQDMProgressBar):
    """A bar with running loss and accuracy on a terminal, and a line for each epoch wherever output goes."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=5 if sys.stderr.isatty() else 0)
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
        return "Measuring train, val and test"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        parts = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        measured = [("training", "train/epoch_")] + [("validation", "val/")] * self._validated
        self._validated = False
        for name, prefix in measured:
            loss, accuracy = (trainer.callback_metrics.get(prefix + what) for what in ("loss", "accuracy"))
            if loss is not None and accuracy is not None:
                parts.append(f"{name} loss {float(loss):.3f}, accuracy {float(accuracy):.2%}")
        with Tqdm.external_write_mode(file=sys.stdout):
            log.info("   ".join(parts))


def _vanishing(bar: Tqdm) -> Tqdm:
    """The lines that are logged stay; the bar between them goes."""
    bar.leave = False
    return bar
