"""What can be said of a model's options before torch is imported, which takes seconds."""

from pathlib import Path

from gpt_classifier.errors import OptionError


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
    """Refuse a path of weights where nothing is.

    Args:
        weights: `random`, `pretrained` or a path.

    Raises:
        OptionError: of `weights`: there is nothing.
    """
    if weights not in ("random", "pretrained") and not Path(weights).expanduser().exists():
        raise OptionError("weights", "pretrained, random or a path", weights, f"{weights} does not exist.")
