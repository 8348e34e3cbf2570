"""Predict every message by a model that was not trained on it: gpt-classifier crossfit data=csv data.path=all.csv"""

import logging
import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from gpt_classifier.commands.application import run_context, run_hydra
from gpt_classifier.config import quote_paths
from gpt_classifier.look import look
from gpt_classifier.paths import near

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Cross-fit once, or once for each combination of a sweep (`-m`).

    Args:
        arguments: Hydra overrides and flags; `None` takes those of the process.
    """
    run_hydra(_crossfit, "crossfit", quote_paths(sys.argv[1:] if arguments is None else arguments))


def _crossfit(cfg: DictConfig) -> float:
    look(cfg)
    from gpt_classifier.crossfitting import report  # seconds of imports that a wrong path does not need
    from gpt_classifier.crossfitting.run import crossfit_messages
    from gpt_classifier.device import prepare_process

    prepare_process(training=True)
    context = run_context()
    assert context.folder is not None
    found = crossfit_messages(cfg, context)
    report.write(context.folder, found, cfg.baselines, cfg.data.keep_texts is not False)
    log.info("\n%s\n%s", report.summary(found), f"{near(context.folder)} has the probabilities of each message")
    return found[0].spread("accuracy").mean
