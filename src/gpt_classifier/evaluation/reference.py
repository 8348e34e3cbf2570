"""What a fine-tuned model is measured against: the majority class, and a linear model that takes seconds."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gpt_classifier.confusion import Confusion
from gpt_classifier.evaluation.metrics import Predictions, mcnemar
from gpt_classifier.ngrams import WORD

STRENGTHS = (0.1, 1.0, 10.0)  # of C
FEATURES: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("1-2 words", {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": WORD}, 120_000_000),
    ("2-5 characters", {"analyzer": "char_wb", "ngram_range": (2, 5)}, 40_000_000),
)
"""What is counted, and up to how many characters of training times 10 + classes: some eight seconds of one core."""


@dataclass(frozen=True)
class Reference:
    """A simple classifier's answers to the messages of a report.

    Args:
        name: of a few words.
        how: it was made, a sentence.
        right: messages that it is right about.
        accuracy: from 0 to 1.
        macro_f1: from 0 to 1.
        p_value: of McNemar's exact test beside the classifier that is reported.
    """

    name: str
    how: str
    right: int
    accuracy: float
    macro_f1: float
    p_value: float

    @classmethod
    def of(cls, name: str, how: str, predicted: np.ndarray, reported: Predictions) -> "Reference":
        """The reference whose answers are `(N,)` class ids."""
        macro_f1 = Confusion(reported.labels, predicted, len(reported.class_names)).macro_f1
        right = predicted == reported.labels
        p_value = mcnemar(int((right & ~reported.right).sum()), int((reported.right & ~right).sum()))
        return cls(name, how, int(right.sum()), float(right.mean()), macro_f1, p_value)


def references(reported: Predictions, run: pd.DataFrame | None, fresh: bool) -> tuple[list[Reference], str]:
    """The majority class and, if it takes seconds, a linear model.

    Args:
        reported: the messages.
        run: those of the run that trained the classifier, `text`, `label` and `split`; `None` if they are not known.
        fresh: whether the reported messages are others than those that train and choose a model.

    Returns:
        The references, and a sentence about one that is missing, or an empty string.
    """
    parts = {split: run[run["split"] == split] for split in ("train", "val")} if run is not None else {}
    labels = parts["train"]["label"].tolist() if parts else []
    found = [majority_class(reported, labels)]
    if not labels:
        return found, "No linear model was trained beside it: the training messages are not beside the checkpoint."
    if not fresh:
        return found, "No linear model was trained beside it: these messages would train or choose it."
    linear = linear_model(reported, parts["train"], parts["val"])
    return (found, linear) if isinstance(linear, str) else ([linear, *found], "")


def majority_class(reported: Predictions, labels: Sequence[str]) -> Reference:
    """The class that training had most often, for every message.

    Args:
        reported: the messages.
        labels: of the training messages; without any those of the reported ones decide.
    """
    names = reported.class_names
    if len(labels):
        counts, where = Counter(labels), "the training messages"
    else:
        counts, where = Counter(dict(zip(names, reported.confusion.support.tolist(), strict=True))), "these messages"
    name, most = counts.most_common(1)[0]
    which = "the most frequent class" if list(counts.values()).count(most) == 1 else "one of the most frequent classes"
    said = name if len(name) <= 40 else f"{name[:39]}…"
    how = f"“{said}” for every message, {which} of {where}"
    return Reference.of("majority class", how, np.full(len(reported.labels), names.index(name)), reported)


def linear_model(reported: Predictions, train: pd.DataFrame, val: pd.DataFrame) -> Reference | str:
    """A linear SVM on TF-IDF of words or of characters, whichever is right more often in validation.

    Args:
        reported: the messages.
        train: the training messages, `text` and `label`.
        val: those that choose features and C; without any the first features and C=1 are taken.

    Returns:
        The reference, or a sentence that says why there is none.
    """
    work = int(train["text"].str.len().sum()) * (10 + len(reported.class_names))
    affordable = {name: options for name, options, most in FEATURES if work <= most}
    if not affordable:
        return (
            "No linear model was trained beside it: with so many messages it takes more than some seconds. "
            "gpt-classifier compare --baselines trains several."
        )
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return 'No linear model was trained beside it: that needs scikit-learn, pip install "gpt-classifier[compare]".'
    fitted = [one for name, options in affordable.items() for one in _fit(name, options, train, val)]
    if not fitted:
        return "No linear model was trained beside it: its training messages have no words, or one class alone."
    best = max(fitted, key=lambda one: one.score)  # the first of equals
    place = {label: i for i, label in enumerate(reported.class_names)}
    predicted = np.array([place.get(label, -1) for label in best.pipeline.predict(list(reported.texts))])
    chosen = f"features and C chosen on {len(val):,} validation messages" if len(val) else "not tuned: no validation"
    how = f"a linear SVM on TF-IDF of {best.features}, C={best.C:g}, trained on the same {len(train):,} messages"
    return Reference.of("linear model", f"{how}; {chosen}", predicted, reported)


@dataclass(frozen=True)
class _Candidate:
    features: str
    C: float
    score: float  # accuracy in validation, 0 without any
    pipeline: Any


def _fit(name: str, options: dict[str, Any], train: pd.DataFrame, val: pd.DataFrame) -> Iterator[_Candidate]:
    """A model for each C, on features that are computed once."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(sublinear_tf=True, **options)
    tuned = len(val) > 0
    try:
        features = vectorizer.fit_transform(train["text"])
        choosing = vectorizer.transform(val["text"]) if tuned else None
        for C in STRENGTHS if tuned else (1.0,):
            with warnings.catch_warnings(action="ignore"):  # one that has not converged: validation judges it
                model = LinearSVC(C=C, random_state=0).fit(features, train["label"])
            score = float(model.score(choosing, val["label"])) if tuned else 0.0
            yield _Candidate(name, C, score, make_pipeline(vectorizer, model))
    except ValueError:  # no words at all, or one class alone
        return
