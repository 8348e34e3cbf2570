"""What a classifier does with one message: the class probabilities after each token, and where it attends."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt_classifier.errors import UserError
from gpt_classifier.inference.predictor import Predictor


@dataclass(frozen=True)
class Trace:
    """A message, token by token.

    Args:
        tokens: T pieces of the text; a character of several tokens stands with the last of them.
        probabilities: `(T, C)`, what the classifier would say of the text up to each token.
    """

    tokens: list[str]
    probabilities: np.ndarray


def trace(predictor: Predictor, text: str) -> Trace:
    """Class probabilities after each token, from one pass: under a causal mask a token's state knows the text so far.

    A classifier that reads padding is asked without any. N-grams beside it are counted in the text up to each token,
    and in the whole text after the last one, whatever was cut.

    Raises:
        UserError: the text is empty, or the classifier can't be asked so.
    """
    row = predictor.token_rows([text])[0]
    if reason := _why_no_trace(predictor, text, row):
        raise UserError(f"This classifier has no probability after each token: {reason}.")
    model = predictor.model
    with predictor.computing():
        ids, lengths = _batch_of(predictor, row)
        hidden = model.hidden(ids, lengths).float()  # (1, T, D)
        with torch.autocast(predictor.device.type, enabled=False):
            found = model.head(model.pooling.running(hidden))  # (1, T, C)
            found = found if model.words is None else found + model.words.running(ids)
            logits = predictor.in_order(found[0]).cpu().numpy()  # (T, C)
    windows = model.pooling.windows
    if windows is not None:  # which repeat what stands at the end of the one before
        new = windows.new(len(row))
        row, logits = row[new], logits[new]
    pieces = predictor.tokenizer.pieces(row, text)
    if predictor.ngrams is not None:
        logits = predictor.joined(logits, [*list(accumulate(pieces))[:-1], text])
    return Trace(pieces, predictor.probabilities(logits))


def _why_no_trace(predictor: Predictor, text: str, row: np.ndarray) -> str:
    """Why one pass does not tell the probabilities after each token of a row; empty where it does."""
    model, spec = predictor.model, predictor.spec
    if not model.backbone.causal:
        return "it sees the whole text at once"
    if not model.pooling.has_trace:
        return f"it reads {model.pooling.name()}"
    if (windows := model.pooling.windows) is not None:
        truncate: Any = spec.truncate
        whole = predictor.tokenizer.encode([text], spec.max_length, truncate)[0][0]
        if windows.new(len(row)).sum() > len(whole):
            return "it reads this text in windows, and its tokenizer adds special tokens to each"
    return ""


def attention(predictor: Predictor, text: str, most_tokens: int = 128) -> tuple[list[str], Tensor]:
    """How much each token attends to each other one, in all heads of all layers.

    Args:
        predictor: of any kind.
        text: not empty.
        most_tokens: the beginning of a longer text is taken; of one that is read in windows, the first window at most.

    Returns:
        T pieces of the text, and weights `(layers, heads, T, T)`: row i is what token i looks at, and sums to 1.

    Raises:
        UserError: the text is empty, or the backbone can't tell.
    """
    windows = predictor.model.pooling.windows
    row = predictor.token_rows([text])[0][: most_tokens if windows is None else min(most_tokens, windows.size)]
    with predictor.computing():
        weights = predictor.model.backbone.attention(*_batch_of(predictor, row))
    return predictor.tokenizer.pieces(row, text), weights[:, 0].cpu()


def _batch_of(predictor: Predictor, row: np.ndarray) -> tuple[Tensor, Tensor]:
    """One row of tokens as ids `(1, T)` and lengths `(1,)`."""
    device = predictor.device
    return torch.from_numpy(row)[None].to(device), torch.tensor([len(row)], device=device)
