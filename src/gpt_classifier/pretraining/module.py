"""The LightningModule: a GPT, the loss of its next token, and what it measures."""

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import tiktoken
import torch
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gpt_classifier.models.generate import generate
from gpt_classifier.models.gpt import GPT
from gpt_classifier.pretraining.corpus import Windows

log = logging.getLogger(__name__)

CHUNK = 512  # positions whose logits over the vocabulary are held at a time
PROMPTS = ("Every effort moves you", "The movie was", "Call me when")


class PretrainingModule(LightningModule):
    """Trains a GPT to predict the next token.

    Validation logs the mean loss in nats per token and in bits per byte of text, and writes continuations.

    Args:
        model: all of it is trained.
        optimizer: makes an optimizer from the model.
        scheduler: makes a per-step learning-rate scheduler from the optimizer and `total_steps`, or `None`.
        encoding: its vocabulary.
        bytes_per_token: of the validation text.
        spec: plain values that a resumed run must share, kept in every checkpoint under `pretraining`.
        part: what sums a chunk's loss, see `next_token_loss`.
    """

    def __init__(
        self,
        model: GPT,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None,
        encoding: tiktoken.Encoding,
        bytes_per_token: float,
        spec: dict[str, Any],
        part: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.encoding = encoding
        self.bytes_per_token = bytes_per_token
        self.spec = spec
        self.part = part
        self.tokens_seen = 0
        self.seconds = 0.0  # of training, over all runs that were resumed
        self.val: dict[str, float] = {}
        self.samples: list[str] = []  # of the last validation
        self._sums = torch.zeros(2)
        self._since = (0.0, 0)  # time and tokens when the rate was last shown

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.model)
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer, total_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _loss(self, batch: Windows, reduction: str) -> Tensor:
        ids, targets = batch
        return next_token_loss(self.model, ids, targets, reduction, self.part)

    # training

    def on_train_start(self) -> None:
        self._since = (time.perf_counter(), self.tokens_seen)

    def training_step(self, batch: Windows, batch_idx: int) -> Tensor:
        loss = self._loss(batch, "mean")
        self.tokens_seen += batch[0].numel() * self.trainer.world_size
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Windows, batch_idx: int) -> None:
        if self.global_step % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        now = time.perf_counter()
        before, tokens = self._since
        rate = (self.tokens_seen - tokens) / (now - before)
        self.seconds += now - before
        self._since = (now, self.tokens_seen)
        shown = {"train/loss": outputs["loss"], "tokens/s": rate}
        self.log_dict(shown, prog_bar=True, batch_size=1)
        self.log("tokens", float(self.tokens_seen), batch_size=1)

    # validation

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self.seconds += time.perf_counter() - self._since[0]
        self._sums = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Windows, batch_idx: int) -> None:
        loss = self._loss(batch, "sum")
        self._sums += torch.stack([loss, torch.full_like(loss, batch[0].numel())])

    def on_validation_end(self) -> None:
        self._since = (time.perf_counter(), self.tokens_seen)

    def on_validation_epoch_end(self) -> None:
        loss, tokens = self.trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
        nats = loss / tokens
        self.val = {"loss": nats, "bits_per_byte": nats / math.log(2) / self.bytes_per_token}
        self.log_dict({f"val/{name}": value for name, value in self.val.items()}, prog_bar=True, batch_size=1)
        if not self.trainer.is_global_zero:
            return
        self.samples = self.continuations()
        continued = "\n\n".join(self.samples)
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("samples", continued, self.global_step)
        log.info(
            "step %d   %.1f million tokens   validation loss %.3f nats per token, %.3f bits per byte   %r",
            self.global_step,
            self.tokens_seen / 1e6,
            nats,
            self.val["bits_per_byte"],
            self.samples[0],
        )

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


def next_token_loss(
    model: GPT, ids: Tensor, targets: Tensor, reduction: str = "mean", part: Callable[..., Tensor] | None = None
) -> Tensor:
    """Cross-entropy in nats; logits over the vocabulary are made and left a chunk of positions at a time.

    Args:
        model: a GPT.
        ids: `(B, T)`.
        targets: `(B, T)`, the id that follows each.
        reduction: `mean` or `sum` over all positions.
        part: what sums a chunk's loss, such as a compiled `chunk_loss`; by default `chunk_loss` itself, computed
            once more in the backward pass instead of keeping its logits.
    """
    hidden = model.hidden(ids).flatten(0, 1).split(CHUNK)  # (CHUNK, D) each
    part = part or partial(checkpoint, chunk_loss, use_reentrant=False)
    pairs = zip(hidden, targets.flatten().split(CHUNK), strict=True)
    loss = torch.stack([part(h, model.wte.weight, following) for h, following in pairs]).sum()
    return loss / targets.numel() if reduction == "mean" else loss


def chunk_loss(hidden: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy: `(N, D)`, `(V, D)` and `(N,)`."""
    return F.cross_entropy(F.linear(hidden, embedding).float(), targets, reduction="sum")
