"""Which linear model of n-grams is taken."""

import numpy as np
import pytest

from gpt_classifier.errors import UserError
from gpt_classifier.ngrams import Counted
from gpt_classifier.stacking import linear
from gpt_classifier.stacking.linear import Candidate, Counts, Examples, Search

TRAIN = Examples(["win cash now", "see you at five", "cash prize", "lunch at five"], ["spam", "ham", "spam", "ham"])
OTHERS = ["cash at five", "prize now", "…"]
WORDS, CHARACTERS = Counted("word", 1, 2), Counted("char_wb", 2, 5)


def test_the_lowest_loss_is_taken_be_it_of_one_kind_or_of_the_best_of_both() -> None:
    loss = {"word": 0.3, "char": 0.4, "char_wb": 0.2}

    def of(candidate: Candidate, together: float) -> float:
        total = sum(loss[one.analyzer] for one in candidate.counted) + abs(candidate.C - 1)
        return total * together if len(candidate.counted) > 1 else total

    alone = Search(TRAIN.texts).best(lambda tried: [of(one, 1.0) for one in tried])
    assert (alone.counted[0].analyzer, len(alone.counted), alone.C) == ("char_wb", 1, 1.0)
    both = Search(TRAIN.texts).best(lambda tried: [of(one, 0.1) for one in tried])
    assert ([one.analyzer for one in both.counted], both.C) == (["word", "char_wb"], 1.0)


def test_margins_of_several_candidates_are_those_of_each_alone() -> None:
    tried = [Candidate(counted, C) for counted in [(WORDS,), (CHARACTERS,), (WORDS, CHARACTERS)] for C in (0.1, 10.0)]
    together = Counts(TRAIN, ["ham", "spam"]).margins(tried, OTHERS)
    for candidate, found in zip(tried, together, strict=True):
        np.testing.assert_array_equal(found, Counts(TRAIN, ["ham", "spam"]).fit(candidate).margins(OTHERS))


def test_a_message_without_weight_is_not_learned() -> None:
    weighted = Examples([*TRAIN.texts, "cash prize"], [*TRAIN.labels, "ham"], np.array([1, 1, 1, 1, 0.0]))
    candidate = Candidate((WORDS,), 1.0)
    found = Counts(weighted, ["ham", "spam"]).fit(candidate).margins(["cash prize"])
    assert found.argmax() == 1


def test_texts_that_would_take_too_much_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MOST_MEMORY", 1000)
    with pytest.raises(UserError, match=r"with_ngrams: expected training texts of at most .* data\.train_size"):
        Search(TRAIN.texts)
    monkeypatch.setattr(linear, "MOST_MEMORY", 3000)  # words alone
    assert len(Search(TRAIN.texts).kinds) == 1


def test_texts_without_words_are_told() -> None:
    with pytest.raises(UserError, match="with_ngrams: the training texts have no 1-2 words"):
        Counts(Examples(["…", "!", "?"], ["a", "b", "a"]), ["a", "b"]).fit(Candidate((WORDS,), 1.0))
