"""What a tokenizer is: texts to token ids, and token ids to the parts of the text that they are."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gpt_classifier.tokenizers.cutting import Truncate, Windows


class Tokenizer(Protocol):
    """A vocabulary and how texts are cut into its tokens.

    Attributes:
        pad_id: the token that pads a row.
        vocab_size: number of token ids.
    """

    pad_id: int
    vocab_size: int

    def encode(
        self, texts: Sequence[str], max_length: int, truncate: Truncate, windows: Windows | None = None
    ) -> tuple[list[np.ndarray], int]:
        """Token ids of each text, special tokens of the vocabulary's own included; no text can spell one.

        Args:
            texts: none of them empty.
            max_length: most tokens that are kept of a text, special ones included.
            truncate: what is kept of a longer one, see `cutting.cut_rows`, which does it.
            windows: how a long text is read; given only where there are any.

        Returns:
            An int32 array for each text, and how many texts were cut.

        Raises:
            ValueError: a text without tokens; `TextTooLong`: with `truncate=error`.
        """

    def pieces(self, row: np.ndarray, text: str | None = None) -> list[str]:
        """The part of the text that each token of a row is: as many strings, empty for special tokens.

        A character of several tokens is in the piece of its last one.

        Args:
            row: token ids, as `encode` makes them.
            text: what was encoded. A tokenizer that loses something of a text, such as capital letters, needs it to
                give the text itself; without it, it gives what its tokens stand for.
        """

    def spellings(self) -> list[str]:
        """How each token id is written, with a space or a mark where a word begins; empty for special tokens."""

    def state(self) -> dict[str, Any]:
        """All of it as plain values, for `tokenizer_from_state`."""
