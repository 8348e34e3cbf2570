"""What can be said of a model's options before torch is imported, which takes seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt_classifier.checkpoints import RESUME
from gpt_classifier.errors import OptionError, UserError


def expect_blocks(n: object, depth: int) -> None:
    """Refuse a number of last blocks that the model does not have.

    Args:
        n: how many are to be trained.
        depth: how many there are.

    Raises:
        OptionError: of `n`: it is not from 1 to `depth`.
    """
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= depth:
        raise OptionError(
            "n",
            f"1 to {depth}, the number of blocks of this model",
            n,
            "Set {field} in that range, or freeze=none to train everything, embeddings included.",
        )


def expect_weights(weights: str) -> None:
    """Refuse a path of weights where nothing is, or the checkpoint of a run.

    Args:
        weights: `random`, `pretrained` or a path.

    Raises:
        OptionError: of `weights`: there is nothing, or what a run wrote to go on from.
    """
    if weights in ("random", "pretrained"):
        return
    expected = "pretrained, random or a path"
    if Path(weights).suffix == ".ckpt":
        raise OptionError("weights", f"{expected} of pretrained weights", f"{weights}, a run's checkpoint", RESUME)
    if not Path(weights).expanduser().exists():
        raise OptionError("weights", expected, weights, f"{weights} does not exist.")


def expect_adaptable(model: Mapping[Any, Any], option: str) -> None:
    """Refuse a model that can't learn from texts without labels.

    Args:
        model: the group of a composed configuration; that of a GPT says whether it is `causal`.
        option: that asks for it, for messages.

    Raises:
        UserError: it is an encoder, or has random weights.
    """
    if "causal" not in model:
        raise UserError(
            f"{option}: expected a GPT, as a model learns from texts without labels by predicting next tokens, but it "
            f"is an encoder, which learns by predicting masked ones; that is not built. Choose model=gpt2-nano or "
            f"another GPT-2, or pretrain the encoder elsewhere and set model.weights to its folder."
        )
    if model["weights"] == "random":
        raise UserError(
            f"{option}: expected pretrained weights, but model.weights is random. Set model.weights=pretrained, or "
            f"train a model from scratch with gpt-classifier pretrain."
        )
