"""A linear model of n-grams as numbers and text."""

import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from gpt_classifier.errors import UserError
from gpt_classifier.ngrams import WORD, Counted, NGrams, Part

TEXTS = [
    "Call now, win £500",
    "see you at five",
    "win\ncash\nNOW",
    "naïve \ud83d x\0y",
    "lunch at five?",
    "win win win",
]
WORDS, CHARACTERS = Counted("word", 1, 2), Counted("char", 2, 4, False)


def made(labels: list[str], names: list[str]) -> tuple[NGrams, LinearSVC]:
    """As numbers, and as a pipeline of scikit-learn that was fitted by itself."""
    vectorizers = [counted.vectorizer() for counted in (WORDS, CHARACTERS)]
    features = np.hstack([vectorizer.fit_transform(TEXTS).toarray() for vectorizer in vectorizers])
    parts = [Part.of(*pair) for pair in zip((WORDS, CHARACTERS), vectorizers, strict=True)]
    ours = NGrams.of(parts, LinearSVC(random_state=0).fit(features, labels), names)
    union = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD),
        TfidfVectorizer(analyzer="char", ngram_range=(2, 4)),
    )
    return ours, make_pipeline(union, LinearSVC(random_state=0)).fit(TEXTS, labels)


def test_margins_are_those_of_scikit_learn() -> None:
    ours, theirs = made(["a", "b", "c", "a", "b", "c"], ["c", "a", "b"])
    expected = theirs.decision_function([*TEXTS, "unknown", "…"])[:, [2, 0, 1]]
    np.testing.assert_allclose(ours.margins([*TEXTS, "unknown", "…"]), expected, atol=2e-3)  # float16


def test_of_two_classes_the_difference_is_the_margin_of_scikit_learn() -> None:
    ours, theirs = made(["no", "yes"] * 3, ["no", "yes"])
    found = ours.margins(TEXTS)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], theirs.decision_function(TEXTS), atol=2e-3)


def test_a_class_that_was_not_fitted_is_improbable() -> None:
    ours, _ = made(["a", "b", "c", "a", "b", "c"], ["a", "b", "c", "d"])
    assert (ours.margins(TEXTS).argmin(axis=1) == 3).all()


def test_it_survives_what_files_do_to_it_whatever_characters_it_counts() -> None:
    ours = made(["no", "yes"] * 3, ["no", "yes"])[0].scaled(0.5, 2.0)
    again = NGrams.from_state(*ours.state())
    logits = np.ones((6, 2), np.float32)
    np.testing.assert_array_equal(again.joined(logits, TEXTS), ours.joined(logits, TEXTS))
    assert again.parts[1].terms == ours.parts[1].terms
    assert again.scales == (0.5, 2.0)


def test_no_texts_have_no_margins() -> None:
    assert made(["no", "yes"] * 3, ["no", "yes"])[0].margins([]).shape == (0, 2)


def test_without_scikit_learn_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = NGrams.from_state(*made(["no", "yes"] * 3, ["no", "yes"])[0].state())
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(UserError, match=r'with_ngrams=true.*pip install "gpt-classifier\[compare\]"'):
        ours.margins(TEXTS)
