"""Text as windows of tokens."""

import lzma
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import torch

from gpt_classifier.errors import UserError
from gpt_classifier.pretraining.corpus import TrainWindows, Windows, read_documents, tokenize
from gpt_classifier.pretraining.vocabulary import save_vocabulary, train_vocabulary
from gpt_classifier.tokenizers.byte_level import GPT2_SPLIT

TEXT = "one\n\nline\n#\ntwo <|endoftext|> in a line\n#\n\n#\nthree\n#\nfour".replace("#", "<|endoftext|>")


@pytest.mark.parametrize("name", ["text.txt", "text.txt.xz"])
def test_documents_are_separated_by_lines_and_some_are_held_out(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(lzma.compress(TEXT.encode()) if name.endswith("xz") else TEXT.encode())
    documents = read_documents(path, val_every=2)
    assert documents.train == ["one\n\nline", "three"]
    assert documents.val == ["two <|endoftext|> in a line", "four"]


def test_a_text_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for name, content in (("cut.xz", lzma.compress(TEXT.encode())[:-8]), ("latin.txt", "café".encode("latin-1"))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.*can't be read as text|{name}.*utf-8"):
            read_documents(tmp_path / name, 2)
    (tmp_path / "one.txt").write_text("one document")
    with pytest.raises(UserError, match="has 1 documents"):
        read_documents(tmp_path / "one.txt", 100)


def test_vocabulary_of_a_text(tmp_path: Path) -> None:
    documents = ["the cat sat on the mat, the end – naïve"] * 20
    ranks = train_vocabulary(documents, 270)
    assert sorted(ranks.values()) == list(range(269))
    assert all(ranks[bytes([value])] == value for value in range(256))
    assert b" the" in ranks
    save_vocabulary(ranks, tmp_path / "v.tiktoken")
    from gpt_classifier.tokenizers.byte_level import load_encoding

    encoding = load_encoding(str(tmp_path / "v.tiktoken"))
    assert encoding.eot_token == 269 == encoding.n_vocab - 1
    assert encoding.decode(encoding.encode_ordinary(documents[0])) == documents[0]
    assert len(encoding.encode_ordinary(documents[0])) < len(documents[0].encode())
    with pytest.raises(UserError, match=r"model\.backbone\.vocab_size is 5000"):
        train_vocabulary(documents, 5000)


def test_documents_end_with_end_of_text() -> None:
    ranks = {bytes([value]): value for value in range(256)}
    encoding = tiktoken.Encoding("b", pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 256})
    assert tokenize(["ab", "c"], encoding).tolist() == [97, 98, 256, 99, 256]


def batches(n: int, **options: float) -> list[Windows]:
    tokens = np.arange(1000, dtype=np.uint16)
    return list(islice(TrainWindows(tokens, 16, 64, [4, 16], seed=3, **options), n))


def test_a_pass_learns_each_token_once_in_windows_of_all_lengths() -> None:
    a_pass = batches((999 // 16 - 1) // 4)
    seen = torch.cat([ids.flatten() for ids, *_ in a_pass])
    assert len(seen) == len(seen.unique()) > 900
    assert {ids.shape for ids, *_ in a_pass} == {(16, 4), (4, 16)}
    assert all(torch.equal(targets, ids + 1) for ids, targets, _ in a_pass)


def test_a_batch_depends_on_its_number_alone() -> None:
    whole = batches(40)  # almost three passes
    for first in (1, 15, 33):
        for batch, expected in zip(batches(5, first=first), whole[first:], strict=False):
            assert torch.equal(batch.ids, expected.ids)
    assert not torch.equal(whole[0].ids.sort().values, whole[15].ids.sort().values)


def test_processes_share_a_batch() -> None:
    for whole, *shares in zip(
        batches(20), batches(20, rank=0, world_size=2), batches(20, rank=1, world_size=2), strict=True
    ):
        together = torch.cat([ids.flatten() for ids, *_ in shares])
        assert torch.equal(together.sort().values, whole.ids.flatten().sort().values)
