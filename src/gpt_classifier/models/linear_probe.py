"""A linear model of pooled features and bags of tokens, with a penalty that validation chooses."""

from functools import reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_classifier.tasks import Task

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
UNVALIDATED = 3.0
"""Inverse strengths of the penalty, as C of scikit-learn's LogisticRegression, and the one where nothing chooses."""
SHARES = (1.0, 0.5, 0.25)
"""Of the features, beside the tokens: a narrow model's are worth less the more classes there are."""
FEWEST = 50  # texts of which a fifth can choose
LEAST_SPREAD = 0.01
"""Standard deviation, in root mean squares of all features, below which a feature is not stretched to unit variance.

A start that all texts share leaves features constant up to rounding, which differs with precision and batch.
"""
ITERATIONS, HISTORY = 30, 10  # of L-BFGS, and steps that it remembers; 100 change the loss by 0.001 at most


class Bags(NamedTuple):
    """The `BagOfTokens` of N texts, or the n-grams of N tokens, one after the other.

    Args:
        ids: `(M,)` of tokens, or of n-grams.
        values: `(M,)` of each.
        starts: `(N,)`, where each text or token begins.
    """

    ids: Tensor
    values: Tensor
    starts: Tensor

    def logits(self, weight: Tensor) -> Tensor:
        """`(N, C)` with a weight of `(V, C)`."""
        return F.embedding_bag(self.ids, weight, self.starts, per_sample_weights=self.values, mode="sum")

    def counts(self) -> Tensor:
        """How many ids each has, `(N,)`."""
        return torch.diff(self.starts, append=self.starts.new_tensor([len(self.ids)]))

    def owners(self) -> Tensor:
        """Of each id the one that has it, `(M,)`."""
        return torch.arange(len(self.starts), device=self.ids.device).repeat_interleave(self.counts())

    def only(self, places: Tensor) -> "Bags":
        """Some of them."""
        counts = self.counts()[places]
        starts = counts.cumsum(dim=0) - counts
        within = torch.arange(int(counts.sum()), device=self.ids.device) - starts.repeat_interleave(counts)
        taken = self.starts[places].repeat_interleave(counts) + within
        return Bags(self.ids[taken], self.values[taken], starts)

    def transposed(self, number: int) -> "Bags":
        """Of each of a number of ids the bags that have it."""
        order = self.ids.argsort(stable=True)
        counts = self.ids.bincount(minlength=number)
        return Bags(self.owners()[order], self.values[order], counts.cumsum(dim=0) - counts)


class Product(torch.autograd.Function):
    """`Bags.logits` whose gradient takes no sorting: it is the product with the transposed bags."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bags: Bags, transposed: Bags) -> Tensor:
        ctx.transposed = transposed
        return bags.logits(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed.logits(grad.contiguous()), None, None


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

    def only(self, places: Tensor) -> "Seen":
        """Some of them."""
        bags = None if self.bags is None else self.bags.only(places)
        weights = None if self.weights is None else self.weights[places]
        return Seen(self.features[places], bags, self.targets[places], weights)


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


def probe(train: Seen, val: Seen | None, task: Task, ngrams: Bags | None = None) -> Fit:
    """A linear model with an L2 penalty, whose strength validation chooses, on features and on tokens.

    Args:
        train: what it is fitted to. Features are standardised for the penalty, to vectors whose length is the share on
            average; bags of tokens have length 1.
        val: what chooses, if there is any.
        task: for its loss.
        ngrams: of each of V tokens, by which what is learned of one token holds for others.
    """
    regression = Regression(train, task, ngrams)
    if val is None:
        return regression.fit(SHARES[0], UNVALIDATED)
    return _choose(regression, val)[-1]


def probe_by_part(train: Seen, task: Task, ngrams: Bags | None, seed: int) -> Fit:
    """The same where there is no validation: a fifth of the texts chooses, then it is fitted to all of them.

    With fewer than `FEWEST` texts nothing chooses.
    """
    texts = len(train.targets)
    if texts < FEWEST:
        return probe(train, None, task, ngrams)
    order = torch.randperm(texts, generator=torch.Generator().manual_seed(seed)).to(train.targets.device)
    held_out, others = train.only(order[: texts // 5]), train.only(order[texts // 5 :])
    share, strength, _ = _choose(Regression(others, task, ngrams), held_out)
    return Regression(train, task, ngrams).fit(share, strength)


def _choose(regression: "Regression", val: Seen) -> tuple[float, float, Fit]:
    """Share of the features, inverse strength of the penalty, and the fit with both.

    Each share is tried, from the largest on and as long as the next one is better, with all strengths. Of the best
    share it is the strongest penalty whose loss is within a standard error of the lowest (Breiman et al.,
    "Classification and Regression Trees", 1984): with few messages the lowest itself is chance, and a weak penalty is
    too sure.
    """
    best: list[Tried] = []
    for share in SHARES if regression.ngrams is not None else SHARES[:1]:
        path: list[Tried] = []  # from the strongest penalty on
        for strength in STRENGTHS:
            fit = regression.fit(share, strength, goes_on=bool(path))
            losses = regression.task.losses(fit.logits(val), val.targets)
            path.append(Tried(share, strength, fit, losses))
            if len(path) > 1 and not path[-1].losses.mean() < path[-2].losses.mean():
                break
        if best and not lowest(path).mean() < lowest(best).mean():
            break
        best = path
    more = ((tried, tried.losses - lowest(best)) for tried in best)
    close = (tried for tried, loss in more if loss.mean() <= standard_error(loss))
    return next(close, best[0])[:3]  # no loss is close to one that is no number


class Tried(NamedTuple):
    """A share and a strength, the fit with both, and its loss `(N,)` of each text that chooses."""

    share: float
    strength: float
    fit: Fit
    losses: Tensor


def lowest(path: list[Tried]) -> Tensor:
    """The losses `(N,)` whose mean is lowest."""
    return min((tried.losses for tried in path), key=lambda each: float(each.mean()))


class Regression:
    """A linear model of pooled features and bags of tokens.

    Args:
        train: what it is fitted to.
        task: for its loss.
        ngrams: of each of V tokens.
    """

    def __init__(self, train: Seen, task: Task, ngrams: Bags | None) -> None:
        self.train, self.task, self.ngrams = train, task, ngrams
        features, outputs = train.features, len(task.classes)
        self.mean = features.mean(dim=0)
        spread = features.std(dim=0, correction=0).clamp(min=LEAST_SPREAD * features.square().mean().sqrt())  # (D,)
        self.scale = torch.where(spread > 0, spread, 1.0) * features.shape[1] ** 0.5
        self.weight = features.new_zeros(outputs, features.shape[1], requires_grad=True)
        self.bias = features.new_zeros(outputs, requires_grad=True)
        self.products: list[tuple[Bags, Bags]] = []  # n-grams to tokens, tokens to texts
        number = 0
        if train.bags is not None and ngrams is not None:
            number = int(ngrams.ids.max()) + 1
            known, ids = train.bags.ids.unique(return_inverse=True)  # few tokens of a vocabulary occur
            occurring, bags = ngrams.only(known), train.bags._replace(ids=ids)
            self.products = [(occurring, occurring.transposed(number)), (bags, bags.transposed(len(known)))]
        self.words = features.new_zeros(number, outputs, requires_grad=True)  # of n-grams

    def fit(self, share: float, strength: float, goes_on: bool = False) -> Fit:
        """Fit it.

        Args:
            share: of the features, see `probe`.
            strength: inverse strength of the penalty.
            goes_on: begin where the last fit ended, not at zero.
        """
        parameters = [self.weight, self.bias, self.words]
        if not goes_on:
            for parameter in parameters:
                parameter.detach().zero_()
        standard = (self.train.features - self.mean) * (share / self.scale)
        penalty = 0.5 / (strength * len(standard))
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=ITERATIONS, history_size=HISTORY, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = standard @ self.weight.T + self.bias
            if self.products:
                logits = logits + reduce(lambda x, bags: Product.apply(x, *bags), self.products, self.words)
            total = self.task.loss(logits, self.train.targets, self.train.weights)
            total = total + penalty * (self.weight.square().sum() + self.words.square().sum())
            total.backward()
            return total

        with torch.enable_grad():
            optimizer.step(closure)
        weight = self.weight.detach() * (share / self.scale)
        table = None if self.ngrams is None else self.ngrams.logits(self.words.detach())
        return Fit(weight, self.bias.detach() - weight @ self.mean, table)


def standard_error(values: Tensor) -> Tensor:
    """Of the mean of `(N,)` values; 0 of a single one."""
    return values.std(correction=len(values) > 1) / len(values) ** 0.5
