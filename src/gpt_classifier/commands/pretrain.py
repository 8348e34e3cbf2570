"""Pretrain a small GPT on text of your own: gpt-classifier pretrain data.path=english.txt.xz"""

from collections.abc import Sequence

from omegaconf import DictConfig

from gpt_classifier.commands.application import run_context, run_hydra


def main(arguments: Sequence[str] | None = None) -> None:
    """Pretrain once, or once for each combination of a sweep (`-m`).

    Args:
        arguments: Hydra overrides and flags; `None` takes those of the process.
    """
    run_hydra(_pretrain, "pretrain", arguments)


def _pretrain(cfg: DictConfig) -> float:
    from gpt_classifier.device import prepare_process  # seconds of imports that --help does not need
    from gpt_classifier.pretraining.run import pretrain

    prepare_process(training=True)
    return pretrain(cfg, run_context())
