"""What is kept of a text that has more tokens than a model reads, and how a long one becomes windows."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from gpt_classifier.errors import OptionError, option_group

Truncate = Literal["head", "tail", "head_tail", "error"]
TRUNCATES: tuple[str, ...] = get_args(Truncate)


class TextTooLong(ValueError):
    """A text that `truncate=error` does not cut.

    Args:
        index: its place among the texts.
        tokens: that it has, special ones included.
    """

    def __init__(self, index: int, tokens: int) -> None:
        super().__init__(index, tokens)
        self.index = index
        self.tokens = tokens


class Windows:
    """How a long text is read: in pieces that overlap, each with the special tokens of a text of its own.

    Args:
        size: tokens of each window but the last, special ones included.
        overlap: tokens of the text that a window shares with the one before.

    Raises:
        OptionError: the size is below 1, or the overlap is not below the size.
    """

    def __init__(self, size: int, overlap: int) -> None:
        self.size = size
        self.overlap = overlap
        self.stride(special=0)  # refuses what does not fit

    def stride(self, special: int) -> int:
        """Tokens of the text from the beginning of one window to that of the next.

        Args:
            special: tokens that the tokenizer adds to each window.

        Raises:
            OptionError: windows would not get on.
        """
        if self.size <= special:
            raise OptionError("size", f"more than {special} tokens", self.size)
        if not 0 <= self.overlap < self.size - special:
            raise OptionError(
                "overlap",
                f"0 to {self.size - special - 1} tokens, fewer than a window has of the text",
                self.overlap,
                f"A window has {self.size} tokens ({{group}}size){f', {special} of them special' if special else ''}.",
            )
        return self.size - special - self.overlap

    def pieces(self, ids: np.ndarray, special: int) -> list[np.ndarray]:
        """The tokens of a text in each of its windows, which overlap; a text that fits in one is one."""
        stride = self.stride(special)
        starts = range(0, max(len(ids) - self.overlap, 1), stride)
        return [ids[start : start + self.size - special] for start in starts]

    def new(self, tokens: int) -> np.ndarray:
        """Which positions of a row of so many tokens are no repeats of the window before, `(tokens,)` booleans.

        Only for tokenizers that add no special tokens.
        """
        positions = np.arange(tokens)
        return (positions < self.size) | (positions % self.size >= self.overlap)


def cut_rows(
    texts: Iterable[Sequence[int]],
    max_length: int,
    truncate: Truncate,
    windows: Windows | None = None,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
) -> tuple[list[np.ndarray], int]:
    """Token rows of texts, cut and with the special tokens around them: what every tokenizer does last.

    Args:
        texts: token ids of each text, without the special ones.
        max_length: most tokens that are kept of a text, special ones included, but not those that windows repeat.
        truncate: what is kept of a longer one: its beginning (`head`), its end (`tail`), or the first quarter of what
            fits from the beginning and the rest from the end (`head_tail`; Sun et al., "How to Fine-Tune BERT for Text
            Classification?", 2019, keep 128 and 382 tokens); `error` refuses it.
        windows: how a text is read that has more tokens than one; `None` for all at once.
        before: special tokens in front of each window.
        after: special tokens behind it.

    Returns:
        An int32 array for each text, the windows one after another, and how many texts were cut.

    Raises:
        TextTooLong: with `truncate=error`.
        OptionError: the special tokens leave no room, of `max_length` or of `windows`.
    """
    special = len(before) + len(after)
    room = max_length - special
    if room < 1:
        raise OptionError("max_length", f"more than the {special} special tokens of each text", max_length)
    if windows is not None:
        with option_group("windows"):
            windows.stride(special)
    around = [np.array(ids, dtype=np.int32) for ids in (before, after)]
    rows: list[np.ndarray] = []
    cut = 0
    for index, text in enumerate(texts):
        ids = np.array(text, dtype=np.int32)
        if len(ids) > room:
            if truncate == "error":
                raise TextTooLong(index, len(ids) + special)
            ids = _ends(ids, room, truncate)
            cut += 1
        pieces = [ids] if windows is None else windows.pieces(ids, special)
        rows.append(np.concatenate([part for piece in pieces for part in (around[0], piece, around[1])]))
    return rows, cut


def beginning(text: str) -> str:
    """Of a text that a message is about, short enough to be part of it."""
    words = " ".join(text[:200].split())
    return repr(words if len(words) <= 40 else f"{words[:40]}…")


def _ends(ids: np.ndarray, room: int, truncate: Truncate) -> np.ndarray:
    first = {"head": room, "tail": 0, "head_tail": (room + 2) // 4}[truncate]
    return np.concatenate([ids[:first], ids[len(ids) - (room - first) :]])
