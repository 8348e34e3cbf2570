"""Ends a trial that does worse than others did at the same epoch."""

import math
from collections.abc import Callable
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Pruning(Callback):
    """Tells each epoch's validation, and ends the run in order where that is not promising.

    Args:
        is_hopeless: called with the number of epochs and the monitored validation metric; `True` ends the run.

    Attributes:
        epoch: after which it was ended; 0 as long as it was not.
    """

    def __init__(self, is_hopeless: Callable[[int, float], bool]) -> None:
        self.epoch = 0
        self._is_hopeless = is_hopeless

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        if trainer.state.fn != "fit" or trainer.sanity_checking or not module.measured:
            return
        epoch = trainer.current_epoch + 1
        value = module.evaluation["val"][module.task.monitor]
        last = epoch == trainer.max_epochs
        if not math.isnan(value) and self._is_hopeless(epoch, value) and not last:
            self.epoch = epoch
            trainer.should_stop = True
