"""scikit-learn's classifiers at their best: what a fine-tuned model has to beat."""

import copy
import logging
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.ngrams import WORD

log = logging.getLogger(__name__)

Labelled = tuple[Sequence[str], Sequence[str]]
"""Texts and their labels."""

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
MARGINS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # C of LinearSVC

FEW = 300_000  # characters of training texts: below, starting other processes takes longer than they save
MANY = 5_000_000  # above, each vectorizer takes seconds, and only those that are best with many texts are tried
MOST_MEMORY = 4e9  # bytes that fitting a family may take; above, words are hashed
WORD_BYTES, CHARACTER_BYTES = 45, 80
"""What fitting takes for each character of the training texts, as measured on film reviews; characters beside words."""

BEST = "linear"
TOGETHER, HASHED = "words_and_characters", "hashed"


@dataclass(frozen=True)
class Family:
    """Pipelines of a vectorizer and a classifier, each vectorizer with each classifier, the simpler ones first.

    Args:
        name: of the family.
        vectorizers: each with its hyperparameters in words.
        classifier: fitted to the features of each vectorizer.
        settings: hyperparameters of the classifier that are tried.
        memory: bytes that fitting takes for each character of the training texts.
    """

    name: str
    vectorizers: Sequence[tuple[str, Any]]
    classifier: Any
    settings: Sequence[dict[str, float]]
    memory: int = WORD_BYTES


@dataclass(frozen=True)
class Baseline:
    """A fitted pipeline.

    Args:
        name: of its family.
        chosen: the hyperparameters that validation chose, in words.
        model: with `predict`, and `predict_proba` where its kind has probabilities.
        val_accuracy: on the messages that chose.
        candidates: that were fitted.
        seconds: that fitting them all took.
    """

    name: str
    chosen: str
    model: Any
    val_accuracy: float
    candidates: int
    seconds: float

    def __str__(self) -> str:
        right = f"{self.val_accuracy:.2%} of validation right"
        chosen = f" ({self.chosen})" if self.chosen else ""
        return f"{self.name}: the best of {self.candidates}{chosen} has {right}, {self.seconds:.0f} s"


@dataclass(frozen=True)
class _Features:
    """What a fitted vectorizer makes of training and validation texts, sparse matrices."""

    vectorizer: Any
    train: Any
    val: Any


def families(characters: int = 0) -> dict[str, Family]:
    """From simple to less so, by the name that `procedure.family` has for it.

    Args:
        characters: of all training texts; with many the slow candidates are left out.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.dummy import DummyClassifier
        from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise UserError('Baselines need scikit-learn: pip install -e ".[compare]"') from error
    many = characters > MANY
    words: dict[str, Any] = {"token_pattern": WORD}
    frequent: dict[str, Any] = {"min_df": 2 if many else 1}  # what occurs once is most of the memory
    return {
        "majority": Family("majority class", [("", CountVectorizer(**words))], DummyClassifier(), [{}]),
        "logistic_regression": Family(
            "bag of words, logistic regression",
            [
                (f"1-{n} words, binary={binary}", CountVectorizer(ngram_range=(1, n), binary=binary, **words))
                for n, binary in product((1,) if many else (1, 2), (False, True))
            ],
            LogisticRegression(max_iter=2000),
            [{"C": c} for c in (STRENGTHS[:3] if many else STRENGTHS)],
        ),
        "naive_bayes": Family(
            "bag of words, naive Bayes",
            [(f"1-{n} words", CountVectorizer(ngram_range=(1, n), **words)) for n in (1, 2)],
            MultinomialNB(),
            [{"alpha": a} for a in (1.0, 0.1, 0.01)],
        ),
        "words": Family(
            "word n-grams, TF-IDF, LinearSVC",
            [
                (
                    f"1-{n} words, sublinear={sublinear}",
                    TfidfVectorizer(ngram_range=(1, n), sublinear_tf=sublinear, **words, **frequent),
                )
                for n, sublinear in product((2, 3) if many else (1, 2, 3), (True,) if many else (False, True))
            ],
            LinearSVC(random_state=0),
            [{"C": c} for c in MARGINS],
        ),
        "characters": Family(
            "character n-grams, TF-IDF, LinearSVC",
            [
                (
                    f"{analyzer} {low}-{high}, sublinear={sublinear}",
                    TfidfVectorizer(analyzer=analyzer, ngram_range=(low, high), sublinear_tf=sublinear, **frequent),
                )
                for analyzer, (low, high), sublinear in (
                    [("char_wb", (2, 5), True)]
                    if many
                    else product(("char", "char_wb"), ((1, 4), (2, 5), (3, 5)), (False, True))
                )
            ],
            LinearSVC(random_state=0),
            [{"C": c} for c in MARGINS],
            CHARACTER_BYTES,
        ),
    }


def fit_baselines(train: Labelled, val: Labelled, only: Collection[str] = ()) -> Iterator[Baseline]:
    """The best candidate of each family by validation accuracy, ties by the simpler one.

    A vectorizer is fitted once for all classifiers that read it, and vectorizers in as many processes as there are
    cores and as memory allows. The best words and the best characters are then read together. A family of which nothing
    can be fitted to these texts is left out; so is one that takes too much memory, and words are hashed instead.

    Args:
        train: texts and labels to fit on.
        val: texts and labels to choose by.
        only: names of families, those of `families`, `words_and_characters` and `hashed`, which are fitted whatever
            memory they take; empty for all that fit.

    Raises:
        OptionError: there is no family of a name.
        UserError: scikit-learn is not installed.
    """
    characters = sum(map(len, train[0]))
    known = families(characters)
    for name in only:
        if name not in (*known, TOGETHER, HASHED):
            raise OptionError("family", ", ".join([BEST, *known, TOGETHER, HASHED]), repr(name))
    wanted = set(only) | ({"words", "characters"} if TOGETHER in only else set())
    kept: dict[str, tuple[Baseline, _Features]] = {}
    too_large = []
    for name, family in known.items():
        if wanted and name not in wanted:
            continue
        if not wanted and family.memory * characters > MOST_MEMORY:
            too_large.append(family)
            log.warning("%s is left out: it %s", family.name, _needed(family.memory, characters))
            continue
        fitted = fit_family(family, train, val)
        if fitted is None:
            continue
        if not only or name in only:
            yield fitted[0]
        if name in ("words", "characters") and (not only or TOGETHER in only):
            kept[name] = fitted
    if len(kept) == 2:
        together = fit_together(kept["words"], kept["characters"], train, val)
        parts = [fitted[0] for name, fitted in kept.items() if only and name not in only]  # which nobody was given
        candidates, seconds = ([getattr(one, name) for one in (together, *parts)] for name in ("candidates", "seconds"))
        yield replace(together, candidates=sum(candidates), seconds=sum(seconds))
    if HASHED in only or any(family.memory == WORD_BYTES for family in too_large):
        yield fit_hashed(train, val, "" if HASHED in only else f"counting words {_needed(WORD_BYTES, characters)}")


def _needed(memory: int, characters: int) -> str:
    return f"would take {memory * characters / 1e9:,.1f} GB for {characters / 1e6:,.1f} million characters"


def fit_best(train: Labelled, val: Labelled, name: str = BEST) -> Baseline | None:
    """The best baseline by validation accuracy, ties by the simpler one; `None` where none can be fitted.

    Args:
        train: as `fit_baselines` takes it.
        val: likewise.
        name: of a family; `linear` for the best of all that fit in memory.

    Raises:
        OptionError: there is no family of that name.
        UserError: scikit-learn is not installed.
    """
    found = list(fit_baselines(train, val, () if name == BEST else (name,)))
    if not found:
        return None
    best = max(found, key=lambda baseline: baseline.val_accuracy)
    return replace(best, candidates=sum(one.candidates for one in found), seconds=sum(one.seconds for one in found))


def fit_family(family: Family, train: Labelled, val: Labelled) -> tuple[Baseline, _Features] | None:
    """The best candidate of one family and what it reads; `None` where none can be fitted."""
    from joblib import Parallel, delayed

    began = time.perf_counter()
    vectorizers, tried = family.vectorizers, 0
    jobs = _processes(family, sum(map(len, train[0])))
    if jobs > 1:
        scored = Parallel(n_jobs=jobs)(delayed(val_accuracies)(one, family, train, val) for _, one in vectorizers)
        best = max(range(len(scored)), key=lambda i: max(scored[i], default=0.0))  # the first of equals
        # fitted again: cheaper than to send the features of all processes
        vectorizers, tried = [vectorizers[best]], sum(map(len, scored)) - len(scored[best])
    found: tuple[Baseline, _Features] | None = None
    for words, vectorizer in vectorizers:
        try:
            features = features_of(vectorizer, train, val)
            baseline = _fit_settings(family, words, features, train, val)
        except ValueError:  # these texts have no words, or one class
            continue
        tried += len(family.settings)
        if found is None or baseline.val_accuracy > found[0].val_accuracy:
            found = baseline, features
    if found is None:
        return None
    return replace(found[0], candidates=tried, seconds=time.perf_counter() - began), found[1]


def _processes(family: Family, characters: int) -> int:
    """In how many processes a family's vectorizers are tried."""
    from joblib import cpu_count

    if characters < FEW:
        return 1
    return max(1, min(len(family.vectorizers), cpu_count(), int(MOST_MEMORY / (family.memory * characters))))


def val_accuracies(vectorizer: Any, family: Family, train: Labelled, val: Labelled) -> list[float]:
    """The accuracy of each setting of a family's classifier on one vectorizer's features.

    Empty where these texts can't be fitted: they have no words, or one class.
    """
    try:
        features = features_of(vectorizer, train, val)
        return [accuracy for _, accuracy in _each_setting(family, features, train, val)]
    except ValueError:
        return []


def features_of(vectorizer: Any, train: Labelled, val: Labelled) -> _Features:
    """A vectorizer fitted to the training texts, and its features.

    Raises:
        ValueError: there are none.
    """
    from sklearn.base import clone

    vectorizer = clone(vectorizer)
    return _Features(vectorizer, vectorizer.fit_transform(train[0]), vectorizer.transform(val[0]))


def _each_setting(family: Family, features: _Features, train: Labelled, val: Labelled) -> Iterator[tuple[Any, float]]:
    """A fitted classifier and its accuracy in validation for each of a family's settings."""
    from sklearn.base import clone

    for settings in family.settings:
        classifier = clone(family.classifier).set_params(**settings)
        with warnings.catch_warnings(action="ignore"):  # one that has not converged: validation judges it
            classifier.fit(features.train, train[1])
        yield classifier, float(classifier.score(features.val, val[1]))


def _fit_settings(family: Family, words: str, features: _Features, train: Labelled, val: Labelled) -> Baseline:
    """The best setting of a family's classifier on features; how many were tried and how long is for the caller."""
    from sklearn.pipeline import make_pipeline

    began = time.perf_counter()
    fitted = list(_each_setting(family, features, train, val))
    j = max(range(len(fitted)), key=lambda j: fitted[j][1])  # the first of equals
    chosen = ", ".join([words] * bool(words) + [f"{name}={value:g}" for name, value in family.settings[j].items()])
    model = make_pipeline(features.vectorizer, fitted[j][0])
    return Baseline(family.name, chosen, model, fitted[j][1], len(fitted), time.perf_counter() - began)


def fit_together(
    words: tuple[Baseline, _Features], characters: tuple[Baseline, _Features], train: Labelled, val: Labelled
) -> Baseline:
    """Words and characters side by side, read by one classifier, C chosen anew; no text is counted again.

    Args:
        words: the best of its family, and its features.
        characters: likewise.
        train: texts and labels to fit on.
        val: texts and labels to choose by.
    """
    from scipy.sparse import hstack
    from sklearn.pipeline import FeatureUnion

    both = (words[1], characters[1])
    union = FeatureUnion([("words", both[0].vectorizer), ("characters", both[1].vectorizer)])
    features = _Features(
        union,
        hstack([one.train for one in both], format="csr"),
        hstack([one.val for one in both], format="csr"),
    )
    family = replace(families()["words"], name="words and characters, TF-IDF, LinearSVC")
    told = " and ".join(one.chosen.rpartition(", C=")[0] for one, _ in (words, characters))
    return _fit_settings(family, told, features, train, val)


COLUMNS = 2**20  # that words are hashed to
ALPHAS = (1e-4, 1e-5, 1e-6)
PASSES = 3  # over the training texts
AT_ONCE = 10_000  # texts whose features are held
HASHED_BYTES = 24  # for a class and a column: the coefficients, those of plain SGD, and their average


def fit_hashed(train: Labelled, val: Labelled, reason: str = "") -> Baseline:
    """A linear SVM on hashed words, fitted by passes over the texts: its memory does not grow with their number.

    After each pass every strength of regularisation is measured in validation, and the best of all is kept.

    Args:
        train: texts and labels to fit on.
        val: texts and labels to choose by.
        reason: why nothing better is fitted, for the table; empty for none.
    """
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    began = time.perf_counter()
    classes = np.unique(train[1])
    columns = COLUMNS
    while columns * len(classes) * len(ALPHAS) * HASHED_BYTES > MOST_MEMORY:
        columns //= 2
    vectorizer = HashingVectorizer(
        ngram_range=(1, 2), n_features=columns, binary=True, alternate_sign=False, token_pattern=WORD
    )
    models = {alpha: SGDClassifier(alpha=alpha, average=True, random_state=0) for alpha in ALPHAS}
    texts, labels = np.asarray(train[0], dtype=object), np.asarray(train[1], dtype=object)
    best: tuple[float, Any, str] = (-1.0, None, "")
    for number in range(1, PASSES + 1):
        order = np.random.default_rng(number).permutation(len(texts))
        for start in range(0, len(order), AT_ONCE):
            chosen = order[start : start + AT_ONCE]
            features = vectorizer.transform(texts[chosen])
            for model in models.values():
                model.partial_fit(features, labels[chosen], classes=classes)
        for alpha, accuracy in _hashed_accuracies(vectorizer, models, val).items():
            if accuracy > best[0]:
                best = accuracy, copy.deepcopy(models[alpha]), f"alpha={alpha:g}, passes={number}"
    told = f"1-2 words in {columns:,} columns, {best[2]}" + (f"; {reason}" if reason else "")
    pipeline = make_pipeline(vectorizer, best[1])
    candidates = len(ALPHAS) * PASSES
    return Baseline("hashed words, linear SVM", told, pipeline, best[0], candidates, time.perf_counter() - began)


def _hashed_accuracies(vectorizer: Any, models: Mapping[float, Any], val: Labelled) -> dict[float, float]:
    """Of each model in validation, whose texts are hashed once for all."""
    texts, labels = np.asarray(val[0], dtype=object), np.asarray(val[1], dtype=object)
    right = dict.fromkeys(models, 0)
    for start in range(0, len(texts), AT_ONCE):
        features = vectorizer.transform(texts[start : start + AT_ONCE])
        for alpha, model in models.items():
            right[alpha] += int((model.predict(features) == labels[start : start + AT_ONCE]).sum())
    return {alpha: count / max(1, len(texts)) for alpha, count in right.items()}
