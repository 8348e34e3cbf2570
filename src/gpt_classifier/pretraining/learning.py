"""A pretrained GPT learns on from texts, as long as texts that are held out get likelier."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader

from gpt_classifier.models.gpt import GPT
from gpt_classifier.pretraining.corpus import Windows
from gpt_classifier.pretraining.loss import next_token_loss
from gpt_classifier.pretraining.optimizer import adamw
from gpt_classifier.pretraining.packing import Passes, held_out_batches, window_length
from gpt_classifier.training.callbacks import OwnSignals
from gpt_classifier.training.scheduler import cosine

log = logging.getLogger(__name__)

WEIGHT_DECAY, BETAS, CLIP = 0.01, (0.9, 0.95), 1.0
WARMUP, FINAL = 0.05, 0.1  # part of all steps; last rate, as a part of the highest
MOST_STEPS = 500  # between two measurements
TIMED = (2, 12)  # steps between which the speed is measured


@dataclass(frozen=True)
class Schedule:
    """How it learns.

    Args:
        passes: over the texts, at most.
        patience: passes without a new best after which it stops.
        batch_tokens: of a step.
        lr: peak learning rate of AdamW.
        seed: of the order of the texts.
    """

    passes: int
    patience: int
    batch_tokens: int
    lr: float
    seed: int


@dataclass(frozen=True)
class Learned:
    """What came of it.

    Args:
        before: loss of the held-out texts with the weights as they were, in nats per token.
        after: with the best weights, as they are kept.
        passes: after which the best weights were found; 0 for those that it began with.
        state: the best weights in bfloat16; `None` for those that it began with.
    """

    before: float
    after: float
    passes: float
    state: dict[str, Tensor] | None


def learn(
    model: GPT,
    rows: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    end: int,
    schedule: Schedule,
    accelerator: str,
    precision: str,
) -> Learned:
    """Train on texts, and find the weights that are best on others.

    Args:
        model: in float32; it is changed.
        rows: token ids of each text to learn from.
        held_out: token ids of the others.
        end: the id of `<|endoftext|>`.
        schedule: how.
        accelerator: Lightning's name of one; it computes on one device.
        precision: Lightning's name of one, not `auto`.

    Raises:
        KeyboardInterrupt: it was interrupted, and nothing is kept.
    """
    length = window_length([len(row) for row in rows], model.config.n_positions)
    passes = Passes(rows, end, length, schedule.batch_tokens, schedule.passes, schedule.seed)
    batches: Any = held_out_batches(held_out, end, length, schedule.batch_tokens)
    module = AdaptationModule(model, schedule, passes.batches_per_pass)
    log.info(
        "adapt    %s texts, %s tokens; held out %s texts; at most %d passes in windows of %d tokens, %s steps",
        *(f"{count:,}" for count in (len(rows), passes.tokens, len(held_out))),
        schedule.passes,
        passes.length,
        f"{schedule.passes * passes.batches_per_pass:,}",
    )
    with isolate_rng():  # what follows draws the same, whether this was computed or found in the cache
        torch.manual_seed(schedule.seed)
        trainer = _trainer(module, accelerator, precision)
        loaders = (DataLoader(passes, batch_size=None), DataLoader(batches, batch_size=None))
        _interruptible(trainer, lambda: trainer.fit(module, *loaders))
        if module.state is not None:
            model.load_state_dict(module.state)
            _interruptible(trainer, lambda: trainer.validate(module, loaders[1], verbose=False))
    if module.state is None or module.loss >= module.before:  # rounding may take away what was hardly gained
        return Learned(module.before, module.before, 0, None)
    return Learned(module.before, module.loss, module.best_step / module.steps_per_pass, module.state)


def _trainer(module: "AdaptationModule", accelerator: str, precision: str) -> Trainer:
    steps = module.steps_per_pass
    interval = -(-steps // -(-steps // MOST_STEPS))  # a pass, or an even part of it
    return Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        plugins=[LightningEnvironment()],  # one process, however many the run has
        max_epochs=-1,
        max_steps=module.schedule.passes * steps // interval * interval,  # the last are measured, too
        val_check_interval=interval,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=-1,  # all of it, before the first step
        gradient_clip_val=CLIP,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[OwnSignals(), TQDMProgressBar(refresh_rate=5 if sys.stderr.isatty() else 0, leave=False)],
    )


def _interruptible(trainer: Trainer, run: Callable[[], Any]) -> None:
    """Let Ctrl-C be a `KeyboardInterrupt`; Lightning leaves with a `SystemExit`, and ignores it from then on."""
    main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main_thread else None
    try:
        run()
    except SystemExit:
        if not trainer.interrupted:
            raise
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


class AdaptationModule(LightningModule):
    """Predicts next tokens, keeps the weights that do so best on held-out texts, and stops when these get no likelier.

    Args:
        model: all of it is trained.
        schedule: how.
        steps_per_pass: over the texts.

    Attributes:
        loss: of the last measurement, in nats per token.
        before: of the first.
        best_step: after which the best weights were found.
        state: these, in bfloat16; `None` as long as those that it began with are best.
    """

    def __init__(self, model: GPT, schedule: Schedule, steps_per_pass: int) -> None:
        super().__init__()
        self.model = model
        self.schedule = schedule
        self.steps_per_pass = steps_per_pass
        self.loss = self.before = self.best = float("nan")
        self.best_step = 0
        self.state: dict[str, Tensor] | None = None
        self._sums = torch.zeros(2)
        self._since = 0.0

    def configure_optimizers(self) -> Any:
        optimizer = adamw(self.model, self.schedule.lr, WEIGHT_DECAY, BETAS)
        scheduler = cosine(optimizer, self.trainer.max_steps, WARMUP, FINAL)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        return next_token_loss(self.model, batch) / batch.ids.numel()

    def on_train_batch_end(self, outputs: Any, batch: Windows, batch_idx: int) -> None:
        first, last = TIMED
        if self.global_step == first:
            self._since = time.perf_counter()
        elif self.global_step == last < self.trainer.max_steps:
            per_step = (time.perf_counter() - self._since) / (last - first)
            left = per_step * (self.trainer.max_steps - last)
            log.info("adapt    about %.0f s for all passes, measuring aside", left)

    def on_validation_epoch_start(self) -> None:
        self._sums = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Windows, batch_idx: int) -> None:
        loss = next_token_loss(self.model, batch)
        self._sums += torch.stack([loss, torch.full_like(loss, batch.ids.numel())])

    def on_validation_epoch_end(self) -> None:
        total, tokens = self._sums.tolist()
        self.loss = total / tokens
        if self.trainer.sanity_checking:
            self.before = self.best = self.loss
        elif self.trainer.state.fn == "fit":
            self._measured()

    def _measured(self) -> None:
        passes = self.global_step / self.steps_per_pass
        log.info("adapt    pass %.4g: held-out loss %.3f nats per token", passes, self.loss)
        if self.loss < self.best:
            self.best, self.best_step = self.loss, self.global_step
            state = self.model.state_dict().items()
            self.state = {name: tensor.detach().to("cpu", torch.bfloat16, copy=True) for name, tensor in state}
        self.trainer.should_stop = self.global_step - self.best_step >= self.schedule.patience * self.steps_per_pass
