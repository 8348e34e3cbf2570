"""What is known of a text's tokens."""

import numpy as np
import pytest
import torch

from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.letters import TokenLetters

ROWS = [np.array(row, dtype=np.int32) for row in ([3, 1, 3, 2], [1], [2, 2, 5, 1, 6], [4, 1])]


def bag() -> BagOfTokens:
    words = BagOfTokens(8, 3)
    words.idf.copy_(TokenLetters([""] * 8).weigh(ROWS)[0])
    words.weight.copy_(torch.randn(8, 3))
    return words


def padded(rows: list[np.ndarray], length: int, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.full((len(rows), length), pad_id, dtype=torch.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.from_numpy(row)
    return ids, torch.tensor([len(row) for row in rows])


def test_values_are_those_of_scikit_learn() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    vectorizer = text.TfidfVectorizer(analyzer=list, binary=True)
    expected = vectorizer.fit_transform([row.tolist() for row in ROWS]).toarray()
    known = [int(name) for name in vectorizer.get_feature_names_out()]
    words = bag()
    found = words(*padded(ROWS, 6, 0))
    np.testing.assert_allclose(found.numpy(), expected @ words.weight[known].numpy(), atol=1e-5)


def test_padding_and_unknown_tokens_do_not_matter() -> None:
    words = bag()
    alone = words(*padded(ROWS, 5, 0))
    torch.testing.assert_close(words(*padded(ROWS, 9, 3)), alone)
    torch.testing.assert_close(words(*padded([np.append(row, 7) for row in ROWS], 6, 1)), alone)
    assert not words(*padded([np.array([7, 7])], 2, 0)).any()


def test_running_is_what_the_text_so_far_has() -> None:
    words = bag()
    ids, _ = padded(ROWS[2:3], 5, 0)
    for t, found in enumerate(words.running(ids)[0], 1):
        torch.testing.assert_close(found[None], words(ids, torch.tensor([t])))
