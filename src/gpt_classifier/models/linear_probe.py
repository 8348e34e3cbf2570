"""A linear model of pooled features and bags of tokens, with a penalty that validation chooses."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_classifier.tasks import Task

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
    close = (fit for fit, loss in zip(found, more, strict=True) if loss.mean() <= standard_error(loss))
    return next(close, found[0])  # no loss is close to one that is no number


def standard_error(values: Tensor) -> Tensor:
    """Of the mean of `(N,)` values; 0 of a single one."""
    return values.std(correction=len(values) > 1) / len(values) ** 0.5
