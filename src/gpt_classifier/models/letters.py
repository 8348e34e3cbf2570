"""What the tokens of a vocabulary have in common: the letters with which they are written.

Without it, a linear model of tokens takes ` transfer` and ` transfers` for as different as any two.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from gpt_classifier.models.linear_probe import Bags
from gpt_classifier.tokenizers.interface import Tokenizer

LENGTHS = (2, 5)  # letters, the space before a word and the end of a token included
END = "\0"


class TokenLetters:
    """Letter n-grams of each token, in lower case, and the token itself as one more.

    Args:
        spellings: of V tokens, as `Tokenizer.spellings` gives them; a token without letters is nothing but itself.
    """

    def __init__(self, spellings: Sequence[str]) -> None:
        numbers: dict[str, int] = {}
        ids: list[int] = []
        starts = [0]
        for spelling in spellings:
            written = spelling.lower() + END if spelling else ""
            lengths = range(LENGTHS[0], LENGTHS[1] + 1)
            grams = {written[i : i + n] for n in lengths for i in range(len(written) - n + 1)}
            ids.extend(numbers.setdefault(gram, len(numbers)) for gram in sorted(grams))
            starts.append(len(ids))
        own = np.arange(len(spellings)) + len(numbers)
        self._starts = np.array(starts[:-1]) + np.arange(len(spellings))  # of each token its n-grams, and itself
        self._ids = np.insert(np.array(ids, dtype=np.int64), starts[1:], own)
        self._tokens = np.repeat(np.arange(len(spellings)), np.diff(starts) + 1)
        self._number = len(numbers) + len(spellings)

    def weigh(self, rows: Iterable[np.ndarray]) -> tuple[Tensor, Bags]:
        """How much each token says, and by which n-grams, in TF-IDF of n-grams.

        Args:
            rows: token ids of N texts.

        Returns:
            `(V,)` float32, the Euclidean norm of the idf of a token's n-grams, which is `1 + ln((1 + N) / (1 + n))` for
            one of n texts and 0 for one of none; and the n-grams of each token that any text has, their idf divided by
            that norm. They are numbered without gaps.
        """
        counts = np.zeros(self._number, dtype=np.int64)
        ends = np.append(self._starts[1:], len(self._ids))
        number = 0
        for row in rows:
            grams = [self._ids[self._starts[token] : ends[token]] for token in np.unique(row).tolist()]
            counts[np.unique(np.concatenate(grams))] += 1
            number += 1
        idf = np.where(counts > 0, 1 + np.log((1 + number) / (1 + counts)), 0.0)
        values = idf[self._ids]
        norms = np.sqrt(np.bincount(self._tokens, values**2, minlength=len(self._starts)))
        known = values > 0
        renumbered = np.cumsum(counts > 0) - 1
        per_token = np.bincount(self._tokens[known], minlength=len(self._starts))
        bags = Bags(
            torch.from_numpy(renumbered[self._ids[known]]),
            torch.from_numpy(values[known] / norms[self._tokens[known]]).float(),
            torch.from_numpy(np.cumsum(per_token) - per_token),
        )
        return torch.from_numpy(norms).float(), bags


def letters_of(tokenizer: Tokenizer, vocab_size: int) -> TokenLetters:
    """The n-grams of a model's tokens, of which it may have more than its tokenizer."""
    spellings = tokenizer.spellings()
    return TokenLetters([*spellings, *[""] * (vocab_size - len(spellings))])
