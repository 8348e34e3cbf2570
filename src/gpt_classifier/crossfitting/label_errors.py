"""Messages whose label is probably wrong, that contradict another, or that are like no other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gpt_classifier.crossfitting.folds import inseparable
from gpt_classifier.crossfitting.out_of_fold import OWN, OutOfFold
from gpt_classifier.data.prepare import text_hash
from gpt_classifier.data.sources import EXTRA, extra_columns
from gpt_classifier.errors import UserError, expect_number
from gpt_classifier.tables.corrections import ACTION, ACTIONS, HASH, HASHED, ROW, SUGGESTED

IMPROBABLE, CONTRADICTION, OUTLIER = "improbable label", "contradiction", "outlier"
"""Reasons, in the order in which suspects are told."""

NEIGHBOURS = 10
COMPARED = 10_000  # texts that each is compared with, at most
LONGEST = 1000  # characters of a text that are compared
AT_ONCE = 500  # texts that are compared at a time


@dataclass(frozen=True)
class Suspect:
    """A message that somebody should look at.

    Args:
        place: in the out-of-fold predictions.
        suggested: the class that it may belong to; its own where nothing says another.
        reason: `IMPROBABLE`, `CONTRADICTION` or `OUTLIER`.
        why: in words.
    """

    place: int
    suggested: str
    reason: str
    why: str


def find_suspects(found: OutOfFold, outliers: int = 10) -> list[Suspect]:
    """All suspects, those with improbable labels first, then contradictions and outliers; each message once.

    Args:
        found: out-of-fold predictions.
        outliers: how many of the messages that are least like others.

    Raises:
        UserError: cleanlab or scikit-learn is not installed.
    """
    every = [*improbable_labels(found), *contradictions(found), *unlike_others(found, outliers)]
    first: dict[int, Suspect] = {}
    for one in every:
        first.setdefault(one.place, one)
    return list(first.values())


def improbable_labels(found: OutOfFold) -> list[Suspect]:
    """Confident learning: labels that out-of-fold probabilities speak against, the least probable first.

    For each pair of classes it is estimated how many messages of the one have the label of the other, from those that
    are given a class with more than the mean probability that messages with its label have for it; and as many are
    taken, those with the largest margin (Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in
    Dataset Labels", JAIR 2021; `prune_by_noise_rate` of cleanlab).

    Raises:
        UserError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise UserError('Confident learning needs cleanlab: pip install "gpt-classifier[labels]"') from error

    names, labels = found.class_names, found.predictions.labels
    probabilities = found.probabilities.astype(np.float64)
    places = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    predicted = found.predictions.predicted
    suspects = []
    for place in map(int, places):
        best = predicted[place]
        why = f"{names[best]} {probabilities[place, best]:.4f}, its label {probabilities[place, labels[place]]:.4f}"
        suspects.append(Suspect(place, names[best], IMPROBABLE, why))
    return suspects


def contradictions(found: OutOfFold) -> list[Suspect]:
    """Near-duplicates with another label than most of their kind; of as many, the model's mean probability decides.

    Near-duplicates are equal but for case, digits and punctuation.
    """
    labels, rows = found.predictions.labels, found.frame["row"].to_numpy()
    alike = inseparable(found.frame[["text"]])
    suspects = []
    for places in _sets(alike):
        if len(set(labels[places])) < 2:
            continue
        counts = np.bincount(labels[places], minlength=len(found.class_names))
        best = int(
            np.argmax(counts + found.probabilities[places].mean(axis=0) * 0.999)
        )  # below the weight of a message
        like = next(place for place in places if labels[place] == best) if counts[best] else places[0]
        for place in places[labels[places] != best]:
            why = f"like row {rows[like]}, whose label is {found.class_names[labels[like]]}"
            suspects.append(Suspect(int(place), found.class_names[best], CONTRADICTION, why))
    return suspects


def _sets(numbers: np.ndarray) -> list[np.ndarray]:
    """The places of each number that occurs more than once."""
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return [part for part in parts if len(part) > 1]


def unlike_others(found: OutOfFold, number: int) -> list[Suspect]:
    """Messages that are least like others: another language, gibberish, texts that belong elsewhere.

    By the mean cosine similarity to the ten most similar ones (Kuan and Mueller, "Back to the Basics: Revisiting
    Out-of-Distribution Detection Baselines", 2022), of TF-IDF of 3-5 characters.

    Args:
        found: out-of-fold predictions.
        number: of messages.

    Raises:
        OptionError: it is no such number.
        UserError: scikit-learn is not installed.
    """
    expect_number("outliers", number, 0, whole=True)
    if not number:
        return []
    similarity = similarities(found.frame["text"].tolist())
    suspects = []
    for place in np.argsort(similarity, kind="stable")[:number].tolist():
        why = (
            f"similarity {similarity[place]:.3f} to its {NEIGHBOURS} nearest; the median is {np.median(similarity):.3f}"
        )
        suspects.append(Suspect(place, str(found.frame["label"].iloc[place]), OUTLIER, why))
    return suspects


def similarities(texts: Sequence[str]) -> np.ndarray:
    """How like its nearest neighbours each text is, `(N,)`, from 0 to 1.

    Args:
        texts: N of them; each is compared with all, or with 10,000 drawn from them.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise UserError('Outliers need scikit-learn: pip install "gpt-classifier[labels]", or --outliers 0.') from error

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, max_features=200_000)
    try:
        features = vectorizer.fit_transform([text[:LONGEST] for text in texts])
    except ValueError:  # no text has three characters
        return np.zeros(len(texts))
    drawn = np.random.default_rng(0).permutation(len(texts))[:COMPARED]
    others = features[drawn].T.tocsr()
    own = np.full(len(texts), -1)
    own[drawn] = np.arange(len(drawn))
    nearest = min(NEIGHBOURS, len(drawn) - 1)
    found = np.zeros(len(texts))
    for start in range(0, len(texts), AT_ONCE):
        block = (features[start : start + AT_ONCE] @ others).toarray()
        for row, column in enumerate(own[start : start + AT_ONCE].tolist()):
            if column >= 0:
                block[row, column] = -1  # a text is no neighbour of its own
        found[start : start + AT_ONCE] = np.sort(np.partition(block, -nearest, axis=1)[:, -nearest:]).mean(axis=1)
    return found


def table(found: OutOfFold, suspects: Sequence[Suspect], action: str = "keep") -> pd.DataFrame:
    """A row for each suspect, which a person decides about: `data.corrections` reads it.

    Args:
        found: out-of-fold predictions.
        suspects: some of their messages.
        action: what the column `action` says until somebody changes it: `keep`, `relabel` or `remove`. Outliers, and
            whatever has no other label suggested, are kept where it is `relabel`.

    Returns:
        `row`, `action`, `label`, `suggested`, `confidence` (the probability of the suggested class), `reason`, `why`,
        `text`, other columns of the source, and `hash`, by which the text is known again.
    """
    assert action in ACTIONS
    places = [one.place for one in suspects]
    frame = found.frame.iloc[places]
    suggested = [one.suggested for one in suspects]
    ids = [found.class_names.index(name) for name in suggested]
    columns = {
        ROW: frame["row"].to_numpy(),
        ACTION: [
            "keep" if action == "relabel" and name == label else action
            for name, label in zip(suggested, frame["label"], strict=True)
        ],
        "label": frame["label"].to_numpy(),
        SUGGESTED: suggested,
        "confidence": found.probabilities[places, ids].round(6),
        "reason": [one.reason for one in suspects],
        "why": [one.why for one in suspects],
        "text": frame["text"].to_numpy(),
    }
    taken = {*columns, HASH, *OWN}
    names = {name: name.removeprefix(EXTRA) for name in extra_columns(frame)}
    others = {name if other in taken else other: frame[name].to_numpy() for name, other in names.items()}
    return pd.DataFrame({**columns, **others, HASH: [HASHED + text_hash(text) for text in frame["text"]]})
