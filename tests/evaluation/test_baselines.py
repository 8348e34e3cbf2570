"""scikit-learn's classifiers: what is tried, what validation chooses, and what happens with too many texts."""

from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.svm import LinearSVC

from gpt_classifier.errors import OptionError
from gpt_classifier.evaluation import baselines
from gpt_classifier.evaluation.baselines import Labelled, families, fit_baselines, fit_best


def messages(number: int, first: int = 0, classes: int = 2) -> Labelled:
    words = ["see you at home", "win cash prize", "the match was lost", "parcel is late"]
    places = range(first, first + number)
    return [f"{words[i % classes]} {i}" for i in places], [f"class {i % classes}" for i in places]


TRAIN, VAL = messages(80), messages(40, 80)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often a vectorizer of each setting was fitted in this process."""
    counts: Counter = Counter()
    original = CountVectorizer.fit_transform

    def fit_transform(self: CountVectorizer, *arguments: object, **options: object) -> object:
        counts[type(self).__name__, str(sorted(self.get_params().items(), key=str))] += 1
        return original(self, *arguments, **options)

    monkeypatch.setattr(CountVectorizer, "fit_transform", fit_transform)
    return counts


def test_each_vectorizer_is_fitted_once_also_for_words_and_characters_together(fitted: Counter) -> None:
    found = list(fit_baselines(TRAIN, VAL))
    assert found[-1].name == "words and characters, TF-IDF, LinearSVC"
    tried = [vectorizer for family in families().values() for _, vectorizer in family.vectorizers]
    assert len(tried) > 20
    assert sum(fitted.values()) == len(tried)


def test_words_and_characters_together_are_what_scikit_learn_fits_from_both() -> None:
    words, characters, both = fit_baselines(TRAIN, VAL, ["words", "characters", "words_and_characters"])
    parts = [(str(i), one.model[0]) for i, one in enumerate((words, characters))]
    assert isinstance(parts[0][1], TfidfVectorizer)
    strength = float(both.chosen.rpartition("C=")[2])
    whole = make_pipeline(FeatureUnion(parts), LinearSVC(C=strength, random_state=0)).fit(*TRAIN)
    np.testing.assert_allclose(both.model.decision_function(VAL[0]), whole.decision_function(VAL[0]))
    assert both.candidates == len(baselines.MARGINS)


def test_together_alone_gives_one_baseline() -> None:
    (both,) = fit_baselines(TRAIN, VAL, ["words_and_characters"])
    assert both.name == "words and characters, TF-IDF, LinearSVC"
    parts = [families()[name] for name in ("words", "characters")]
    assert both.candidates == len(baselines.MARGINS) * (1 + sum(len(family.vectorizers) for family in parts))


def test_words_are_hashed_where_counting_them_takes_too_much_memory(
    monkeypatch: pytest.MonkeyPatch, fitted: Counter
) -> None:
    monkeypatch.setattr(baselines, "MOST_MEMORY", 1.0)
    monkeypatch.setattr(baselines, "COLUMNS", 64)
    monkeypatch.setattr(baselines, "AT_ONCE", 30)
    monkeypatch.setattr(baselines, "HASHED_BYTES", 0)
    (hashed,) = fit_baselines(TRAIN, VAL)
    assert not fitted
    assert hashed.name == "hashed words, linear SVM"
    assert hashed.val_accuracy == 1.0 == hashed.model.score(*VAL)
    assert "; counting words would take 0.0 GB for 0.0 million characters" in hashed.chosen


def test_a_family_that_takes_too_much_memory_is_left_out_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    characters = sum(map(len, TRAIN[0]))
    monkeypatch.setattr(baselines, "MOST_MEMORY", baselines.WORD_BYTES * characters + 1)
    names = [baseline.name for baseline in fit_baselines(TRAIN, VAL)]
    assert "word n-grams, TF-IDF, LinearSVC" in names
    assert not any("character" in name or "hashed" in name for name in names)
    assert "character n-grams, TF-IDF, LinearSVC is left out: it would take 0.0 GB" in caplog.text


def test_hashed_words_take_fewer_columns_with_more_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_MEMORY", 4 * 3 * baselines.HASHED_BYTES * 2**10)
    (hashed,) = fit_baselines(messages(80, classes=4), messages(40, 80, classes=4), ["hashed"])
    assert hashed.model[0].n_features == 2**10
    assert "in 1,024 columns" in hashed.chosen
    assert sorted(hashed.model.classes_) == [f"class {i}" for i in range(4)]
    assert hashed.val_accuracy == 1.0


def test_many_texts_leave_out_slow_candidates() -> None:
    few, many = families(), families(baselines.MANY + 1)
    assert list(few) == list(many)
    for name in ("logistic_regression", "words", "characters"):
        assert len(many[name].vectorizers) < len(few[name].vectorizers)


def test_best_of_all_families_is_chosen_on_validation() -> None:
    best = fit_best(TRAIN, VAL)
    assert best is not None
    assert best.val_accuracy == max(baseline.val_accuracy for baseline in fit_baselines(TRAIN, VAL))
    assert best.name == "bag of words, logistic regression"  # the simplest of equals
    named = fit_best(TRAIN, VAL, "naive_bayes")
    assert named is not None
    assert named.name == "bag of words, naive Bayes"


def test_unknown_family_is_refused() -> None:
    with pytest.raises(OptionError, match=r"family: expected linear, majority, .*, hashed, but it is 'forest'"):
        fit_best(TRAIN, VAL, "forest")


def test_texts_without_words_have_no_baseline_but_the_majority() -> None:
    empty: Labelled = (["", ""], ["a", "b"])
    assert fit_best(empty, empty, "words") is None
