"""The commands: arguments in, exit status out.

`gpt-classifier NAME`, `python -m gpt_classifier NAME` and, in a checkout, `python scripts/NAME.py` run the same code.
"""

import importlib
import sys
from collections.abc import Sequence

from gpt_classifier import __version__

COMMANDS = {
    "train": "fine-tune a model on labelled texts (Hydra overrides: model=gpt2-medium freeze=last_block)",
    "distil": "train a small model on what a fine-tuned one says of texts without labels",
    "crossfit": "predict every message by a model that was not trained on it",
    "find-label-errors": "list messages whose label is probably wrong, from what crossfit left",
    "search": "train many times, and find good settings on validation",
    "predict": "classify texts or the rows of a file",
    "evaluate": "measure a checkpoint and write a page about it",
    "compare": "put checkpoints and scikit-learn's classifiers side by side",
    "look-inside": "draw attention and the probability after each token of one text",
    "app": "try a classifier in the browser, and look at how good it is",
    "label": "label texts in the browser while a classifier learns",
    "export": "write a classifier as a bundle, a Hugging Face folder, ONNX or one HTML page",
    "serve": "answer requests over HTTP",
    "generate": "continue a prompt with a pretrained model",
    "zero-shot": "ask a pretrained model without any fine-tuning",
    "adapt": "let a pretrained model learn from texts without labels",
    "pretrain": "train a small GPT on text of your own",
    "experiments": "run a table of experiments",
    "examine": "measure how predictions depend on padding",
    "cache": "list or clear the cached activations of frozen blocks",
}
"""What each command does, in the order in which help lists them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command by name.

    Args:
        arguments: the command's name and its arguments; `None` takes those of the process.
    """
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name == "--version":
        print(f"gpt-classifier {__version__}")
    elif name in COMMANDS:
        importlib.import_module(f"gpt_classifier.commands.{name.replace('-', '_')}").main(rest)
    else:
        raise SystemExit(f"gpt-classifier: there is no command {name!r}.\n\n{_help()}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return (
        "usage: gpt-classifier COMMAND [ARGUMENTS]\n\nFine-tune GPT-2 into a text classifier.\n\n"
        f"{listed}\n\ngpt-classifier COMMAND --help explains a command; gpt-classifier --version prints the version."
    )
