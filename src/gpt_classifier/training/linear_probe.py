"""The head before the first step: a linear probe, from which fine-tuning goes on.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022).
"""

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor

from gpt_classifier.data.batching import EvaluationBatches
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.tasks import Task

log = logging.getLogger(__name__)

MOST_CLASSES = 500  # beyond which a probe would take longer than it saves
MOST_TEXTS, MOST_LOGITS = 20_000, 2_000_000  # texts of a split, and texts times classes: a start needs no more
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
UNVALIDATED = 3.0
"""Inverse strengths of the penalty, as C of scikit-learn's LogisticRegression, and the one where nothing chooses."""
ITERATIONS = 100


class Bags(NamedTuple):
    """`BagOfTokens` of N texts, one after the other.

    Args:
        ids: `(M,)` token ids.
        values: `(M,)` of each.
        starts: `(N,)`, where each text begins.
    """

    ids: Tensor
    values: Tensor
    starts: Tensor

    def logits(self, weight: Tensor) -> Tensor:
        """`(N, C)` with a weight of `(V, C)`."""
        return F.embedding_bag(self.ids, weight, self.starts, per_sample_weights=self.values, mode="sum")


class Seen(NamedTuple):
    """Messages of a split as the head sees them.

    Args:
        features: `(N, D)` float32.
        bags: of tokens, if they are read.
        targets: `(N, …)`, the task's.
        weights: `(N,)`, or `None` for 1.
    """

    features: Tensor
    bags: Bags | None
    targets: Tensor
    weights: Tensor | None


class Fit(NamedTuple):
    """A linear model.

    Args:
        weight: `(C, D)`, of features as they come.
        bias: `(C,)`.
        words: `(V, C)`, if bags of tokens are read.
    """

    weight: Tensor
    bias: Tensor
    words: Tensor | None

    def logits(self, seen: Seen) -> Tensor:
        """`(N, C)`."""
        logits = seen.features @ self.weight.T + self.bias
        return logits if seen.bags is None or self.words is None else logits + seen.bags.logits(self.words)


def can_probe(trainer: Trainer, data: MessageDataModule, model: Classifier) -> bool:
    """Whether the head is fitted: not that of a file, not under FSDP, and not for very many classes."""
    sharded = isinstance(trainer.strategy, FSDPStrategy)
    return model.head_is_fresh and not sharded and len(data.task.classes) <= MOST_CLASSES


class FitHead(Callback):
    """Fits a fresh head, and `Classifier.words`, to the training messages before the first pass.

    A resumed run has a head, as has a file of a fine-tuned classifier.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit(trainer, pl_module)

    @torch.inference_mode(False)
    def _fit(self, trainer: Trainer, module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        model = module.model
        wanted = trainer.ckpt_path is None and model.head_is_fresh
        if wanted and not can_probe(trainer, data, model):
            log.info("head     random: no linear probe under FSDP or for more than %d classes", MOST_CLASSES)
        elif wanted:
            began = time.perf_counter()
            rows = data.datasets["train"].rows
            if model.words is not None:
                model.words.count(rows)
            train = _see(trainer, module, "train")
            validated = trainer.limit_val_batches and "val" in data.splits
            val = _see(trainer, module, "val") if validated else None
            fit = probe(train, val, module.task, model.backbone.vocab_size)
            fit = trainer.strategy.broadcast(move_data_to_device(fit, "cpu"))
            with torch.no_grad():
                model.head.weight.copy_(fit.weight)
                model.head.bias.copy_(fit.bias)
                if fit.words is not None:
                    model.words.weight.copy_(fit.words)
            log.info("head     linear probe of %d messages, %.1f s", len(train.targets), time.perf_counter() - began)
        model.head_is_fresh = False


def probe(train: Seen, val: Seen | None, task: Task, vocab_size: int = 0) -> Fit:
    """A linear model with an L2 penalty, whose strength validation chooses.

    It is the strongest one whose loss is within a standard error of the lowest (Breiman et al., "Classification and
    Regression Trees", 1984): with few messages the lowest itself is chance, and a weak penalty is too sure.

    Args:
        train: what it is fitted to. Features are standardised for the penalty, to vectors of length 1 on average, as
            bags of tokens have.
        val: what chooses, if there is any.
        task: for its loss.
        vocab_size: V.
    """
    features, outputs = train.features, len(task.classes)
    mean, scale = features.mean(dim=0), features.std(dim=0, correction=0) * features.shape[1] ** 0.5  # (D,)
    scale = torch.where(scale > 0, scale, 1.0)
    standard = (features - mean) / scale
    weight = features.new_zeros(outputs, features.shape[1], requires_grad=True)
    bias = features.new_zeros(outputs, requires_grad=True)
    known, bags = None, train.bags
    if bags is not None:  # few tokens of a vocabulary occur
        known, ids = bags.ids.unique(return_inverse=True)
        bags = bags._replace(ids=ids)
    words = features.new_zeros(0 if known is None else len(known), outputs, requires_grad=True)

    def logits() -> Tensor:
        found = standard @ weight.T + bias
        return found if bags is None else found + bags.logits(words)

    def fitted() -> Fit:
        table = None
        if known is not None:
            table = features.new_zeros(vocab_size, outputs)
            table[known] = words.detach()
        return Fit(weight.detach() / scale, bias.detach() - weight.detach() @ (mean / scale), table)

    found: list[Fit] = []
    losses: list[Tensor] = []  # of each validation message
    for strength in (UNVALIDATED,) if val is None else STRENGTHS:
        optimizer = torch.optim.LBFGS([weight, bias, words], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def closure(penalty: float = 0.5 / (strength * len(features))) -> Tensor:
            weight.grad = bias.grad = words.grad = None
            total = task.loss(logits(), train.targets, train.weights)
            total = total + penalty * (weight.square().sum() + words.square().sum())
            total.backward()
            return total

        with torch.enable_grad():
            optimizer.step(closure)
        found.append(fitted())
        if val is not None:
            losses.append(task.losses(found[-1].logits(val), val.targets))
            if len(losses) > 1 and not losses[-1].mean() < losses[-2].mean():
                break
    if not losses:
        return found[0]
    best = min(losses, key=lambda each: float(each.mean()))
    more = [each - best for each in losses]
    return next(fit for fit, loss in zip(found, more, strict=True) if loss.mean() <= standard_error(loss))


def standard_error(values: Tensor) -> Tensor:
    """Of the mean of `(N,)` values; 0 of a single one."""
    return values.std(correction=len(values) > 1) / len(values) ** 0.5


@torch.no_grad()
def _see(trainer: Trainer, module: Any, split: str) -> Seen:
    """Messages of a split, as many as are needed, drawn by the run's seed."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    dataset, words = data.datasets[split], module.model.words
    most = min(MOST_TEXTS, MOST_LOGITS // len(module.task.classes))
    chosen = np.random.default_rng(module.seed).permutation(len(dataset))[:most]
    parts = EvaluationBatches(dataset.lengths[chosen], data.batch_size, data.pad_to, budget=data.evaluation_tokens)
    found: list[tuple[Tensor | None, ...]] = []
    module.eval()
    for places, length in parts:
        batch = module.on_before_batch_transfer(dataset[chosen[places].tolist(), length], 0)
        batch = move_data_to_device(batch, module.device)
        with trainer.precision_plugin.forward_context():
            features = module.features(batch).float()
        ids = values = counts = None
        if words is not None:
            every = words.values(batch.ids, batch.lengths)  # (B, T)
            ids, values, counts = batch.ids[every > 0].long(), every[every > 0], (every > 0).sum(dim=1)
        found.append((features, batch.labels, batch.weights, ids, values, counts))
    module.train()
    features, targets, weights, ids, values, counts = (_joined(column) for column in zip(*found, strict=True))
    bags = None if counts is None else Bags(ids, values, counts.cumsum(dim=0) - counts)
    return Seen(features, bags, targets, weights)


def _joined(parts: Sequence[Tensor | None]) -> Any:
    """The concatenation of tensors, or `None` where there are none."""
    return None if parts[0] is None else torch.cat([part for part in parts if part is not None])
