"""The head before the first step: a linear probe of the pretrained features, from which fine-tuning goes on.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022).
"""

import logging
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor

from gpt_classifier.data.batching import EvaluationBatches
from gpt_classifier.tasks import Task

log = logging.getLogger(__name__)

MOST_TEXTS = 5_000  # of a split: a head to start from needs no more
MOST_LOGITS = 5_000_000  # texts times classes, beyond which the probe would take longer than it saves
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
UNVALIDATED = 3.0
"""Inverse strengths of the penalty, as C of scikit-learn's LogisticRegression, and the one where nothing chooses."""
ITERATIONS = 100


class Seen(NamedTuple):
    """Messages of a split as the head sees them.

    Args:
        features: `(N, F)` float32.
        targets: `(N, …)`, the task's.
        weights: `(N,)`, or `None` for 1.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor | None


class FitHead(Callback):
    """Fits a fresh head to the features of the training messages before the first pass.

    A resumed run has a head, as has a file of a fine-tuned classifier; sharded weights and very many classes keep a
    random one, which a line says.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit(trainer, pl_module)

    @torch.inference_mode(False)
    def _fit(self, trainer: Trainer, module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        fresh, module.model.head_is_fresh = module.model.head_is_fresh, False
        if trainer.ckpt_path is not None or not fresh:
            return
        texts = min(len(data.datasets["train"]), MOST_TEXTS)
        if isinstance(trainer.strategy, FSDPStrategy) or texts * len(module.task.classes) > MOST_LOGITS:
            log.info("head     random: no linear probe of sharded weights or of so many classes")
            return
        began = time.perf_counter()
        validated = trainer.limit_val_batches and "val" in data.splits
        val = _see(trainer, module, "val") if validated else None
        weight, bias = probe(_see(trainer, module, "train"), val, module.task)
        weight, bias = trainer.strategy.broadcast((weight.cpu(), bias.cpu()))
        with torch.no_grad():
            module.model.head.weight.copy_(weight)
            module.model.head.bias.copy_(bias)
        log.info("head     linear probe of %d messages, %.1f s", texts, time.perf_counter() - began)


def probe(train: Seen, val: Seen | None, task: Task) -> tuple[Tensor, Tensor]:
    """A linear model with an L2 penalty, whose strength validation chooses.

    It is the strongest one whose loss is within a standard error of the lowest (Breiman et al., "Classification and
    Regression Trees", 1984): with few messages the lowest itself is chance, and a weak penalty is too sure.

    Args:
        train: what it is fitted to.
        val: what chooses, if there is any.
        task: for its loss.

    Returns:
        Weight `(C, F)` and bias `(C,)` for features as they come, although they are standardised for the penalty.
    """
    features = train.features
    mean, scale = features.mean(dim=0), features.std(dim=0, correction=0) * features.shape[1] ** 0.5  # (F,)
    scale = torch.where(scale > 0, scale, 1.0)
    weight = features.new_zeros(len(task.classes), features.shape[1], requires_grad=True)
    bias = features.new_zeros(len(task.classes), requires_grad=True)

    def folded() -> tuple[Tensor, Tensor]:
        return weight.detach() / scale, bias.detach() - weight.detach() @ (mean / scale)

    standard = (features - mean) / scale
    found: list[tuple[Tensor, Tensor]] = []
    losses: list[Tensor] = []  # of each validation message
    for strength in (UNVALIDATED,) if val is None else STRENGTHS:
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def closure(penalty: float = 0.5 / (strength * len(features))) -> Tensor:
            weight.grad = bias.grad = None
            logits = standard @ weight.T + bias
            total = task.loss(logits, train.targets, train.weights) + penalty * weight.square().sum()
            total.backward()
            return total

        with torch.enable_grad():
            optimizer.step(closure)
        found.append(folded())
        if val is not None:
            losses.append(task.losses(val.features @ found[-1][0].T + found[-1][1], val.targets))
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
    """At most `MOST_TEXTS` messages of a split, drawn by the run's seed."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    dataset = data.datasets[split]
    chosen = np.random.default_rng(module.seed).permutation(len(dataset))[:MOST_TEXTS]
    parts = EvaluationBatches(dataset.lengths[chosen], data.batch_size, data.pad_to, budget=data.evaluation_tokens)
    features, targets, weights = [], [], []
    module.eval()
    for places, length in parts:
        batch = module.on_before_batch_transfer(dataset[chosen[places].tolist(), length], 0)
        batch = move_data_to_device(batch, module.device)
        with trainer.precision_plugin.forward_context():
            features.append(module.features(batch).float())
        targets.append(batch.labels)
        weights.append(batch.weights)
    module.train()
    return Seen(torch.cat(features), torch.cat(targets), None if weights[0] is None else torch.cat(weights))
