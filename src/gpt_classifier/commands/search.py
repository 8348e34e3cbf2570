"""Search for hyperparameters: gpt-classifier search model=gpt2-nano data=csv data.path=reviews.csv"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from gpt_classifier.commands.application import run_hydra
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.commands.overrides import folder_given
from gpt_classifier.commands.sweep import repeat
from gpt_classifier.config import compose, conf_folders, in_place, instantiate, quote_paths
from gpt_classifier.errors import UserError
from gpt_classifier.look import look
from gpt_classifier.paths import near
from gpt_classifier.training.loggers import own_wandb_run

if TYPE_CHECKING:
    from gpt_classifier.sweeps.search import Search
    from gpt_classifier.training.context import RunContext


SEARCH = re.compile(r"[+~]*hparams_search\b")
"""Overrides that say how to search; all others are of the runs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, or go on with a search that was broken off.

    Args:
        arguments: Hydra overrides and flags; `None` takes those of the process.
    """
    given = quote_paths(sys.argv[1:] if arguments is None else arguments)
    if {"-m", "--multirun"} & set(given):
        with readable_exit():
            raise UserError("-m: a search runs many trials by itself. Leave it out, or use train for a sweep.")
    run_hydra(partial(_search, given), "search", in_place(given))


def _search(arguments: Sequence[str], cfg: DictConfig) -> None:
    look(cfg)
    if cfg.evaluate not in ("auto", "val"):
        raise UserError(
            f"evaluate={cfg.evaluate}: a search measures validation, and test once at its end. Leave it out."
        )
    from gpt_classifier.device import prepare_process  # seconds of imports that --help does not need
    from gpt_classifier.sweeps.search import Search, Settings
    from gpt_classifier.sweeps.space import read_space

    given = [override for override in HydraConfig.get().overrides.task if not SEARCH.match(override)]
    set_for_all = {override.lstrip("+~").partition("=")[0] for override in given}
    space = read_space(cfg, set_for_all, conf_folders(folder_given(arguments)))
    prepare_process(training=True)
    options = cfg.hparams_search
    settings = Settings(given, space, options.seed, minimize=cfg.monitor == "loss")
    folder = Path(HydraConfig.get().runtime.output_dir)
    search = Search(folder, settings, partial(_train, arguments), options.sampler, options.pruner)
    try:
        search.run(options.trials)
    except (KeyboardInterrupt, SystemExit):
        _conclude(search, arguments, whole=False)
        raise
    _conclude(search, arguments, whole=True)


def _conclude(search: "Search", arguments: Sequence[str], whole: bool) -> None:
    from gpt_classifier.sweeps.report import conclude

    sweep = search.sweep()
    if not whole:
        sweep.note = (
            f"The search was broken off, and test was not measured. The same command goes on with it where it has "
            f"hydra.run.dir={near(search.folder)}"
        )
    command = repeat(sweep.best_run.record.overrides, arguments) if sweep.best_run else ""
    conclude(sweep, command, measure=whole)


def _train(arguments: Sequence[str], overrides: Sequence[str], context: "RunContext") -> None:
    """One trial, as `train` runs it, in the folder of its context."""
    places = [override for override in arguments if override.startswith("hydra.searchpath=")]
    cfg = compose([*places, *overrides], hydra_too=True, config_dir=folder_given(arguments))
    choices = {group: str(choice) for group, choice in cfg.hydra.runtime.choices.items()}
    with open_dict(cfg):
        del cfg["hydra"]
        cfg.run_dir = str(context.folder)
    look(cfg)
    with own_wandb_run():
        instantiate(cfg.procedure)(cfg, replace(context, choices=choices))
