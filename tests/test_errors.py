"""What a person reads: no bytes that a terminal obeys, and no advice to do what is dangerous."""

import pathlib
from pathlib import Path

import pytest
import torch

from gpt_classifier.errors import OptionError, UserError, first_line, printable


def test_messages_hold_nothing_that_a_terminal_obeys() -> None:
    harmful = "a\x1b[31m\r\x9b\x7f\u202e\u2066\ud800b"
    clean = r"a\x1b[31m\r\x9b\x7f\u202e\u2066\ud800b"
    assert str(UserError(harmful)) == clean
    assert clean in str(OptionError("field", "another", harmful))
    assert first_line(ValueError(harmful)) == r"a\x1b[31m"  # as splitlines takes a carriage return for an end
    kept = "naïve 😀\tand\nanother line, \u00a0 \u200b"
    assert printable(kept) == kept


@pytest.mark.parametrize("legacy", [False, True])
def test_torchs_advice_to_load_all_the_same_is_not_repeated(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": pathlib.PurePosixPath("x")}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(Exception, match="Weights only load failed") as error:
        torch.load(path, weights_only=True)
    assert first_line(error.value) == "it contains objects other than tensors and plain values, which are never loaded"
