"""What tokens have in common."""

import numpy as np
import pytest
import torch

from gpt_classifier.models.letters import TokenLetters

SPELLINGS = [" transfer", " Transfers", " money", "s", " xyz", ""]
ROWS = [np.array(row) for row in ([0, 2], [0, 3], [2, 5])]


def test_a_token_of_no_text_is_known_by_its_letters() -> None:
    norms, bags = TokenLetters(SPELLINGS).weigh(ROWS)
    dense = torch.zeros(len(SPELLINGS), int(bags.ids.max()) + 1)
    owners = torch.repeat_interleave(
        torch.arange(len(SPELLINGS)), torch.diff(bags.starts, append=torch.tensor([len(bags.ids)]))
    )
    dense[owners, bags.ids] = bags.values
    alike = dense @ dense.T
    torch.testing.assert_close(alike.diag(), torch.tensor([1.0, 1, 1, 1, 0, 1]))
    assert alike[0, 1] > 0.8 > 0.3 > alike[0, 2]
    assert alike[4].tolist() == [0] * 6
    assert norms[1] > 0 == norms[4]
    assert alike[5, :5].tolist() == [0] * 5  # it has no letters, but itself


def test_rare_letters_weigh_more_as_in_scikit_learn() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    norms, _ = TokenLetters(SPELLINGS).weigh(ROWS)
    words = [" transfer\0", " money\0", "s\0"]
    documents = ["".join(words[i] for i in row) for row in ([0, 1], [0, 2], [1])]

    def grams(document: str) -> list[str]:  # of each token, and the token
        parts = [part + "\0" for part in document.split("\0") if part]
        return [*parts, *(p[i : i + n] + "|" for p in parts for n in (2, 3, 4, 5) for i in range(len(p) - n + 1))]

    vectorizer = text.TfidfVectorizer(analyzer=grams, binary=True)
    vectorizer.fit(documents)
    for word, token in zip(words, (0, 2, 3), strict=True):
        expected = np.linalg.norm([vectorizer.idf_[vectorizer.vocabulary_[gram]] for gram in set(grams(word))])
        assert norms[token].item() == pytest.approx(expected, rel=1e-5)
