"""Let a pretrained GPT learn from texts without labels: gpt-classifier adapt model=gpt2-nano data.path=texts.txt"""

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from gpt_classifier.commands.application import run_context, run_hydra
from gpt_classifier.config import quote_paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Adapt once, or once for each combination of a sweep (`-m`).

    Args:
        arguments: Hydra overrides and flags; `None` takes those of the process.
    """
    run_hydra(_adapt, "adapt", quote_paths(sys.argv[1:] if arguments is None else arguments))


def _adapt(cfg: DictConfig) -> float:
    from gpt_classifier.device import prepare_process  # seconds of imports that --help does not need
    from gpt_classifier.pretraining.adaptation import adapt

    prepare_process(training=True)
    return adapt(cfg, run_context())
