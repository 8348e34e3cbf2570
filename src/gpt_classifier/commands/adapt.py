"""Let a pretrained GPT learn from texts without labels: gpt-classifier adapt model=gpt2-nano data.path=texts.txt"""

import sys
from collections.abc import Sequence
from contextlib import suppress

from omegaconf import DictConfig

from gpt_classifier.commands.application import run_context, run_hydra
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.config import compose, quote_paths
from gpt_classifier.errors import UserError
from gpt_classifier.models.limits import expect_adaptable


def main(arguments: Sequence[str] | None = None) -> None:
    """Adapt once, or once for each combination of a sweep (`-m`).

    Args:
        arguments: Hydra overrides and flags; `None` takes those of the process.
    """
    given = quote_paths(sys.argv[1:] if arguments is None else arguments)
    with readable_exit():
        _expect_gpt([argument for argument in given if argument.startswith("model=")])
    run_hydra(_adapt, "adapt", given)


def _expect_gpt(chosen: Sequence[str]) -> None:
    """Refuse an encoder by name: Hydra would only tell that its file sets a pooling, and that there is none here."""
    model = None
    with suppress(UserError):  # Hydra tells what can't be composed
        model = compose(chosen).model if chosen else None
    if model is not None:
        expect_adaptable(model, "model")


def _adapt(cfg: DictConfig) -> float:
    from gpt_classifier.device import prepare_process  # seconds of imports that --help does not need
    from gpt_classifier.pretraining.adaptation import adapt

    prepare_process(training=True)
    return adapt(cfg, run_context())
