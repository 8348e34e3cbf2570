"""scikit-learn's classifiers at their best: what a fine-tuned model has to beat."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gpt_classifier.errors import UserError

Labelled = tuple[Sequence[str], Sequence[str]]
"""Texts and their labels."""

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
FEW = 300_000  # characters of training texts: below, starting other processes takes longer than they save


@dataclass(frozen=True)
class Family:
    """Pipelines of a vectorizer and a classifier, each vectorizer with each classifier, the simpler ones first.

    Args:
        name: of the family.
        vectorizers: each with its hyperparameters in words.
        classifier: fitted to the features of each vectorizer.
        settings: hyperparameters of the classifier that are tried.
    """

    name: str
    vectorizers: Sequence[tuple[str, Any]]
    classifier: Any
    settings: Sequence[dict[str, float]]


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
        return f"{self.name}: the best of {self.candidates} has {right}, {self.seconds:.0f} s"


def families() -> list[Family]:
    """From simple to less so.

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
    # a pattern without a minimum of two letters: some texts have no longer word
    words = {"token_pattern": r"(?u)\b\w+\b"}
    return [
        Family("majority class", [("", CountVectorizer(**words))], DummyClassifier(), [{}]),
        Family(
            "bag of words, logistic regression",
            [
                (f"1-{n} words, binary={binary}", CountVectorizer(ngram_range=(1, n), binary=binary, **words))
                for n in (1, 2)
                for binary in (False, True)
            ],
            LogisticRegression(max_iter=2000),
            [{"C": c} for c in STRENGTHS],
        ),
        Family(
            "bag of words, naive Bayes",
            [(f"1-{n} words", CountVectorizer(ngram_range=(1, n), **words)) for n in (1, 2)],
            MultinomialNB(),
            [{"alpha": a} for a in (1.0, 0.1, 0.01)],
        ),
        Family(
            "character n-grams, TF-IDF, LinearSVC",
            [
                (
                    f"{analyzer} {low}-{high}, sublinear={sublinear}",
                    TfidfVectorizer(analyzer=analyzer, ngram_range=(low, high), sublinear_tf=sublinear),
                )
                for analyzer in ("char", "char_wb")
                for low, high in ((1, 4), (2, 5), (3, 5))
                for sublinear in (False, True)
            ],
            LinearSVC(random_state=0),
            [{"C": c} for c in (0.1, 1.0, 10.0)],
        ),
    ]


def fit_baselines(train: Labelled, val: Labelled) -> Iterator[Baseline]:
    """The best candidate of each family by validation accuracy, ties by the simpler one.

    A vectorizer is fitted once for all classifiers that read it, and vectorizers in as many processes as there are
    cores. A family of which nothing can be fitted to these texts is left out.

    Args:
        train: texts and labels to fit on.
        val: texts and labels to choose by.

    Raises:
        UserError: scikit-learn is not installed.
    """
    for family in families():
        baseline = fit_family(family, train, val)
        if baseline is not None:
            yield baseline


def fit_family(family: Family, train: Labelled, val: Labelled) -> Baseline | None:
    """The best candidate of one family; `None` where none can be fitted."""
    from joblib import Parallel, delayed
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline

    began = time.perf_counter()
    few = len(family.vectorizers) == 1 or sum(map(len, train[0])) < FEW
    scored = Parallel(n_jobs=1 if few else -1)(
        delayed(val_accuracies)(vectorizer, family, train, val) for _, vectorizer in family.vectorizers
    )
    places = [(i, j) for i, row in enumerate(scored) for j in range(len(row))]
    if not places:
        return None
    i, j = max(places, key=lambda place: scored[place[0]][place[1]])  # the first of equals
    settings, (words, vectorizer) = family.settings[j], family.vectorizers[i]
    # fitted again: cheaper than to send the models of all processes
    model = make_pipeline(clone(vectorizer), clone(family.classifier).set_params(**settings)).fit(*train)
    chosen = ", ".join([words] * bool(words) + [f"{name}={value:g}" for name, value in settings.items()])
    return Baseline(family.name, chosen, model, scored[i][j], len(places), time.perf_counter() - began)


def val_accuracies(vectorizer: Any, family: Family, train: Labelled, val: Labelled) -> list[float]:
    """The accuracy of each setting of a family's classifier on one vectorizer's features.

    Empty where these texts can't be fitted: they have no words, or one class.
    """
    from sklearn.base import clone

    vectorizer, classifier = clone(vectorizer), clone(family.classifier)
    try:
        fitted, asked = vectorizer.fit_transform(train[0]), vectorizer.transform(val[0])
        return [
            float(classifier.set_params(**settings).fit(fitted, train[1]).score(asked, val[1]))
            for settings in family.settings
        ]
    except ValueError:
        return []
