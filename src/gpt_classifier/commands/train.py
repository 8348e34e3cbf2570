"""Fine-tune a GPT into a text classifier: gpt-classifier train model=gpt2-medium freeze=last_block"""

import logging
import os
import sys
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gpt_classifier.commands.application import run_context, run_hydra
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.commands.sweep import look_at_sweep
from gpt_classifier.config import quote_paths
from gpt_classifier.look import look

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train once, or once for each combination of a sweep (`-m`).

    Args:
        arguments: Hydra overrides and flags; `None` takes those of the process.
    """
    given = quote_paths(sys.argv[1:] if arguments is None else arguments)
    if {"-m", "--multirun"} & set(given) and not {"-h", "--help"} & set(given):
        with readable_exit():
            look_at_sweep(given)
    run_hydra(_train, "config", given, ranked=True)


def _train(cfg: DictConfig) -> float:
    look(cfg)
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes the first tells
        log.info("folder   %s", HydraConfig.get().runtime.output_dir)
    from gpt_classifier.config import instantiate
    from gpt_classifier.device import prepare_process  # seconds of imports that --help does not need

    prepare_process(training=True)
    return instantiate(cfg.procedure)(cfg, run_context()).score
