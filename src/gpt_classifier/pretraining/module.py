"""The LightningModule: a GPT, what it learns, and what it measures."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import tiktoken
import torch
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from gpt_classifier.models.generate import generate
from gpt_classifier.models.gpt import GPT
from gpt_classifier.pretraining.corpus import HeldOut, Windows
from gpt_classifier.pretraining.loss import masked_token_loss, next_token_loss

log = logging.getLogger(__name__)

PROMPTS = ("Every effort moves you", "The movie was", "Call me when")


class PretrainingModule(LightningModule):
    """Trains a GPT to predict the next token, and hidden ones where a batch has such.

    Validation logs for each held-out text the mean loss of the next token in nats per token and in bits per byte, the
    loss of hidden tokens in nats, and writes continuations.

    Args:
        model: all of it is trained.
        optimizer: makes an optimizer from the model.
        scheduler: makes a per-step learning-rate scheduler from the optimizer and `total_steps`, or `None`.
        encoding: its vocabulary.
        held_out: the texts that are measured on, in the order of the validation loaders.
        spec: plain values that a resumed run must share, kept in every checkpoint under `pretraining`.
    """

    def __init__(
        self,
        model: GPT,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None,
        encoding: tiktoken.Encoding,
        held_out: Sequence[HeldOut],
        spec: dict[str, Any],
    ) -> None:
        super().__init__()
        self.model = model
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.encoding = encoding
        self.held_out = held_out
        self.spec = spec
        self.tokens_seen = 0
        self.seconds = 0.0  # of training, over all runs that were resumed
        self.val: dict[str, float] = {}
        self.samples: list[str] = []  # of the last validation
        self._sums = torch.zeros(0)
        self._since = (0.0, 0)  # time and tokens when the rate was last shown

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.model)
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer, total_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # training

    def on_train_start(self) -> None:
        self._since = (time.perf_counter(), self.tokens_seen)

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        self.tokens_seen += batch.ids.numel() * self.trainer.world_size
        if batch.hide is None:
            return next_token_loss(self.model, batch) / batch.ids.numel()
        return masked_token_loss(self.model, batch) / batch.hide.sum()

    def on_train_batch_end(self, outputs: Any, batch: Windows, batch_idx: int) -> None:
        if self.global_step % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        now = time.perf_counter()
        before, tokens = self._since
        rate = (self.tokens_seen - tokens) / (now - before)
        self.seconds += now - before
        self._since = (now, self.tokens_seen)
        shown = {f"train/{'loss' if batch.hide is None else 'masked_loss'}": outputs["loss"], "tokens/s": rate}
        self.log_dict(shown, prog_bar=True, batch_size=1)
        self.log("tokens", float(self.tokens_seen), batch_size=1)

    # validation

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self.seconds += time.perf_counter() - self._since[0]
        self._sums = torch.zeros(len(self.held_out), 2, 2, device=self.device)  # text; next, hidden; loss, tokens

    def validation_step(self, batch: Windows, batch_idx: int, dataloader_idx: int = 0) -> None:
        following, hidden = self._sums[dataloader_idx]
        following += torch.stack([loss := next_token_loss(self.model, batch), torch.full_like(loss, batch.ids.numel())])
        if batch.hide is not None:
            hidden += torch.stack([masked_token_loss(self.model, batch), batch.hide.sum()])

    def on_validation_end(self) -> None:
        self._since = (time.perf_counter(), self.tokens_seen)

    def on_validation_epoch_end(self) -> None:
        sums = self.trainer.strategy.reduce(self._sums, reduce_op="sum").double().cpu()
        self.val = {}
        for text, (following, hidden) in zip(self.held_out, sums, strict=True):
            self.val[f"loss/{text.name}"] = nats = (following[0] / following[1]).item()
            self.val[f"bits_per_byte/{text.name}"] = nats / math.log(2) / text.bytes_per_token
            if hidden[1]:
                self.val[f"masked_loss/{text.name}"] = (hidden[0] / hidden[1]).item()
        loss, tokens = sums[:, 0].sum(dim=0).tolist()
        self.val["loss"] = loss / tokens
        self.log_dict({f"val/{name}": value for name, value in self.val.items()}, batch_size=1)
        if not self.trainer.is_global_zero:
            return
        self.samples = self.continuations()
        continued = "\n\n".join(self.samples)
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("samples", continued, self.global_step)
        log.info("step %d   %.1f million tokens   %s", self.global_step, self.tokens_seen / 1e6, self._measured())
        log.info("         %r", self.samples[0])

    def _measured(self) -> str:
        """Validation in words."""
        parts = []
        for text in self.held_out:
            part = f"{text.name} {self.val[f'bits_per_byte/{text.name}']:.3f} bits per byte"
            masked = self.val.get(f"masked_loss/{text.name}")
            parts.append(part if masked is None else f"{part}, hidden tokens {masked:.3f} nats")
        return "   ".join([f"validation loss {self.val['loss']:.3f} nats per token", *parts])

    def continuations(self) -> list[str]:
        """Some prompts and what the model adds to them, sampled with a fixed seed."""
        prompts = [self.encoding.encode_ordinary(prompt) for prompt in PROMPTS]
        ids = generate(
            self.model,
            prompts,
            max_new_tokens=30,
            temperature=0.7,
            top_k=50,
            stop_id=self.encoding.eot_token,
            generator=torch.Generator().manual_seed(0),
        )
        return [prompt + self.encoding.decode(row) for prompt, row in zip(PROMPTS, ids, strict=True)]

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["pretraining"] = {**self.spec, "tokens_seen": self.tokens_seen, "seconds": self.seconds}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.tokens_seen = checkpoint["pretraining"]["tokens_seen"]
        self.seconds = checkpoint["pretraining"]["seconds"]
