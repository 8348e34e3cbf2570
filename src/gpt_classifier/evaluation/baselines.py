"""scikit-learn's classifiers at their best: what a fine-tuned model has to beat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gpt_classifier.errors import UserError

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Baseline:
    """A fitted pipeline.

    Args:
        name: of its family.
        chosen: the hyperparameters that validation chose, in words.
        model: with `predict`, and `predict_proba` where its kind has probabilities.
        val_accuracy: on the messages that chose.
    """

    name: str
    chosen: str
    model: Any
    val_accuracy: float


def families() -> dict[str, list[tuple[str, Any]]]:
    """Candidates of each family, from simple to less so.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.dummy import DummyClassifier
        from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise UserError('Baselines need scikit-learn: pip install -e ".[compare]"') from error
    # a pattern without a minimum of two letters: some texts have no longer word
    words = {"token_pattern": r"(?u)\b\w+\b"}
    return {
        "the larger class": [("", make_pipeline(CountVectorizer(**words), DummyClassifier()))],
        "bag of words, logistic regression": [
            (
                f"1-{n} words, binary={binary}, C={c:g}",
                make_pipeline(
                    CountVectorizer(ngram_range=(1, n), binary=binary, **words), LogisticRegression(C=c, max_iter=2000)
                ),
            )
            for n in (1, 2)
            for binary in (False, True)
            for c in STRENGTHS
        ],
        "bag of words, naive Bayes": [
            (
                f"1-{n} words, alpha={a:g}",
                make_pipeline(CountVectorizer(ngram_range=(1, n), **words), MultinomialNB(alpha=a)),
            )
            for n in (1, 2)
            for a in (1.0, 0.1, 0.01)
        ],
        "character n-grams, TF-IDF, LinearSVC": [
            (
                f"{analyzer} {low}-{high}, sublinear={sublinear}, C={c:g}",
                make_pipeline(
                    TfidfVectorizer(analyzer=analyzer, ngram_range=(low, high), sublinear_tf=sublinear), LinearSVC(C=c)
                ),
            )
            for analyzer in ("char", "char_wb")
            for low, high in ((1, 4), (2, 5), (3, 5))
            for sublinear in (False, True)
            for c in (0.1, 1.0, 10.0)
        ],
    }


def fit_baselines(
    train: tuple[Sequence[str], Sequence[str]], val: tuple[Sequence[str], Sequence[str]]
) -> Iterator[Baseline]:
    """The best candidate of each family by validation accuracy, ties by the simpler one.

    A family of which nothing can be fitted to these texts is left out.

    Args:
        train: texts and labels to fit on.
        val: texts and labels to choose by.

    Raises:
        UserError: scikit-learn is not installed.
    """
    for name, candidates in families().items():
        best: Baseline | None = None
        for chosen, model in candidates:
            try:
                model.fit(*train)
            except ValueError:  # no words at all in these texts, or one class
                continue
            accuracy = float(model.score(*val))
            if best is None or accuracy > best.val_accuracy:
                best = Baseline(name, chosen, model, accuracy)
        if best is not None:
            yield best
