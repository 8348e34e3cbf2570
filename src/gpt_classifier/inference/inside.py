"""What a classifier does with one message: the class probabilities after each token, and where it attends."""

import codecs
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt_classifier.errors import UserError
from gpt_classifier.inference.text_classifier import TextClassifier


@dataclass(frozen=True)
class Trace:
    """A message, token by token.

    Args:
        tokens: T pieces of the text; a character of several tokens stands with the last of them.
        probabilities: `(T, C)`, what the classifier would say of the text up to each token.
    """

    tokens: list[str]
    probabilities: np.ndarray


def has_trace(classifier: TextClassifier) -> bool:
    """Whether one pass tells the probabilities after each token: it reads on, and sees earlier tokens alone."""
    return classifier.model.causal and classifier.model.pooling.name != "first_token"


def trace(classifier: TextClassifier, text: str) -> Trace:
    """Class probabilities after each token, from one pass: under a causal mask a token's state knows the text so far.

    A classifier that reads padding is asked without any.

    Raises:
        UserError: the text is empty, or the classifier can't be asked so.
    """
    model = classifier.model
    if not has_trace(classifier):
        what = "it sees the whole message at once" if not model.causal else "it reads the first token alone"
        raise UserError(f"This classifier has no probability after each token: {what}.")
    row = classifier.token_rows([text])[0]
    with classifier.computing():
        hidden = model.backbone(torch.from_numpy(row)[None].to(classifier.device)).float()  # (1, T, D)
        if model.pooling.name in ("mean", "padded_mean"):
            counts = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
            hidden = hidden.cumsum(dim=1) / counts[:, None]
        with torch.autocast(classifier.device.type, enabled=False):
            logits = classifier.in_order(model.head(hidden)[0])  # (T, C)
    probabilities = (logits / classifier.temperature).softmax(dim=-1).cpu().numpy()
    return Trace(pieces(classifier, row), probabilities)


def pieces(classifier: TextClassifier, row: np.ndarray) -> list[str]:
    """The part of the text that each token stands for."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a text may be cut within a character
    parts = classifier.encoding.decode_tokens_bytes(row.tolist())
    return [decoder.decode(part, final=i == len(parts) - 1) for i, part in enumerate(parts)]


def attention(classifier: TextClassifier, text: str, most_tokens: int = 128) -> tuple[list[str], Tensor]:
    """How much each token attends to each other one, in all heads of all layers.

    Args:
        classifier: of any kind.
        text: not empty.
        most_tokens: the beginning of a longer text is taken.

    Returns:
        T pieces of the text, and weights `(layers, heads, T, T)`: row i is what token i looks at, and sums to 1.

    Raises:
        UserError: the text is empty.
    """
    model = classifier.model
    row = classifier.token_rows([text])[0][:most_tokens]
    T = len(row)
    allowed = torch.ones(T, T, dtype=torch.bool, device=classifier.device)
    allowed = allowed.tril() if model.causal else allowed
    visible = None if model.causal else allowed[:1]
    layers = []
    block: Any
    with classifier.computing():
        x = model.backbone.embed(torch.from_numpy(row)[None].to(classifier.device))
        for block in model.backbone.h:
            q, k, _ = block.attn.c_attn(block.ln_1(x)).float().chunk(3, dim=2)
            q, k = (part.view(T, block.attn.n_head, -1).transpose(0, 1) for part in (q, k))  # (H, T, D/H)
            with torch.autocast(classifier.device.type, enabled=False):
                scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
                layers.append(scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1).cpu())
            x = block(x, visible=visible)
    return pieces(classifier, row), torch.stack(layers)
