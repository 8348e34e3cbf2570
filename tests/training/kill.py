"""Callbacks that end a training before its time."""

import os
import signal
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Kill(Callback):
    """Ends a process as a power cut would."""

    def __init__(self, epoch: int, batch: int, rank: int = 0) -> None:
        self.when = (epoch, batch)
        self.rank = rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.when and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


class Interrupt(Kill):
    """Presses Ctrl-C."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.when:
            raise KeyboardInterrupt
