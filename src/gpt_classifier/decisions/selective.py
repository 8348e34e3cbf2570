"""When to answer: a threshold that keeps a promise about the errors among what is answered.

The promise is that of Learn-then-Test (Angelopoulos et al., "Learn then Test: Calibrating Predictive Algorithms to
Achieve Risk Control", 2021): whatever threshold is chosen, the probability that the error rate above it is higher than
promised is at most `1 - confidence`. A threshold is taken if the exact binomial bound (Clopper and Pearson, 1934) of
the error rate above it is low enough. Candidates are tested in an order that is fixed before any label is seen, as long
as each passes.
"""

from dataclasses import dataclass
from math import ceil, log, log1p

import numpy as np

from gpt_classifier.errors import expect_number

FACTOR = 4  # how many times as many texts each start has as the one before
STEP = 1.005  # the same of the candidates after a start


@dataclass(frozen=True)
class Promise:
    """At most a part of what is answered is wrong.

    Args:
        rate: that part, above 0 and below 1.
        confidence: the probability that the chosen threshold keeps it, above 0 and below 1.
        tests: how many promises have to hold together with that confidence (Bonferroni): of several classes, or of all
            models that the same messages chose among.

    Raises:
        OptionError: a number is out of its range.
    """

    rate: float
    confidence: float = 0.95
    tests: int = 1

    def __post_init__(self) -> None:
        expect_number("abstain", self.rate, 1e-6, 0.5)
        expect_number("confidence", self.confidence, 0.5, 1 - 1e-9)

    @property
    def level(self) -> float:
        """The probability that one test may err."""
        return (1 - self.confidence) / self.tests

    @property
    def needed(self) -> int:
        """How many messages without an error it takes: 299 for 1 % with 95 % confidence."""
        return needed(self.rate, self.level)

    def __str__(self) -> str:
        return f"at most {self.rate:.4g} of what is answered is wrong, with {self.confidence:.4g} confidence"


@dataclass(frozen=True)
class Chosen:
    """A threshold, and what it does on the N messages that it was chosen on.

    Args:
        threshold: texts with a margin (`margins`) above it are answered; `None` where no threshold keeps the promise.
        messages: N.
        answered: that are above it.
        errors: among these.
        bound: of the error rate, by one Clopper-Pearson interval of the promise's level.
        why: it is `None`, a sentence; empty if it is not.
    """

    threshold: float | None
    messages: int
    answered: int = 0
    errors: int = 0
    bound: float = 1.0
    why: str = ""

    @property
    def probability(self) -> float:
        """The threshold as a probability of the decision."""
        return 1.0 if self.threshold is None else float(1 / (1 + np.exp(-self.threshold)))


def needed(rate: float, level: float) -> int:
    """The fewest messages that show an error rate of at most `rate` if none is wrong: `(1 - rate)^n <= level`."""
    return ceil(log(level) / log1p(-rate))


def at_most(errors: int, messages: int, rate: float) -> float:
    """The probability of that many errors or fewer among so many messages where each is wrong with `rate`."""
    if errors >= messages:
        return 1.0
    k = np.arange(errors)
    ratios = np.log(messages - k) - np.log(k + 1) + log(rate) - log1p(-rate)  # of each number's probability to the last
    logs = messages * log1p(-rate) + np.concatenate([[0.0], np.cumsum(ratios)])
    return min(1.0, float(np.exp(np.logaddexp.reduce(logs))))


def upper_bound(errors: int, messages: int, level: float) -> float:
    """The exact one-sided bound of an error rate (Clopper and Pearson, 1934), of confidence `1 - level`."""
    low, high = errors / max(1, messages), 1.0
    if errors >= messages:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(errors, messages, middle) > level else (low, middle)
    return high


def margins(probabilities: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """How sure decisions are: the log-odds of the decided class against all others, `(N,)` float64.

    Args:
        probabilities: `(N, C)`. Of one that is 1 as it is written, the others still tell how sure it is.
        decided: `(N,)` class ids.
    """
    own = np.zeros(probabilities.shape, dtype=bool)
    own[np.arange(len(decided)), decided] = True
    exact = probabilities.astype(np.float64)
    mine, others = (np.where(part, exact, 0).sum(axis=1) for part in (own, ~own))
    return np.log(np.maximum(mine, 1e-300)) - np.log(np.maximum(others, 1e-300))


def choose(sure: np.ndarray, wrong: np.ndarray, promise: Promise) -> Chosen:
    """The lowest threshold that keeps a promise.

    Candidates answer the 299, 300, … surest messages (for 1 % with 95 %), numbers that are fixed before a label is
    seen. From the first on each is tested, as long as all before it pass (fixed-sequence testing): no test costs
    another anything. Given its threshold, errors above it are binomial, so each test is exact; the sequence is, too,
    where answering more does not make errors rarer. One sequence would end at a single confident mistake, so with four
    times as many messages as are needed a second one starts there, and so on; these share the level (Bonferroni).

    Args:
        sure: `(N,)` margins of messages that neither trained nor chose the classifier.
        wrong: `(N,)` whether each is decided wrongly.
        promise: to keep.
    """
    messages = len(sure)
    if messages < promise.needed:
        why = f"{promise.needed:,} messages without an error are needed to promise it, and there are {messages:,}"
        return Chosen(None, messages, why=why)
    starts = 1 + int(np.log(messages / promise.needed) / np.log(FACTOR))
    level = promise.level / starts
    while needed(promise.rate, level) * FACTOR ** (starts - 1) > messages and starts > 1:
        starts -= 1  # a start beyond all messages would take its share of the level for nothing
        level = promise.level / starts
    order = np.argsort(-sure, kind="stable")
    ranked, errors = sure[order], np.concatenate([[0], np.cumsum(wrong[order])])
    best = (0, 0, np.inf)
    for start in range(starts):
        least = needed(promise.rate, level)
        for number in _numbers(least * FACTOR**start, messages):
            threshold = -np.inf if number == messages else float(ranked[number])
            above = int(np.searchsorted(-ranked, -threshold, side="left"))  # fewer than the number where some are equal
            if above < least:
                continue
            if at_most(int(errors[above]), above, promise.rate) > level:
                break
            best = max(best, (above, int(errors[above]), threshold))
    answered, found, threshold = best
    if not answered:
        first = int(errors[min(messages, needed(promise.rate, level))])
        why = f"of the {needed(promise.rate, level):,} surest of {messages:,} messages {first:,} are decided wrongly"
        return Chosen(None, messages, why=why)
    return Chosen(threshold, messages, answered, found, upper_bound(found, answered, promise.level))


def _numbers(first: int, last: int) -> list[int]:
    """From the first to the last, in steps that grow with them."""
    steps = int(np.log(max(1.0, last / first)) / np.log(STEP))
    return sorted({*(ceil(first * STEP**step) for step in range(steps + 1) if first * STEP**step <= last), last})
