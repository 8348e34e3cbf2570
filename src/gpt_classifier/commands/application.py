"""Commands that are Hydra applications: overrides, `-m`, `--config-dir` and all."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from gpt_classifier.commands.arguments import see_working_directory
from gpt_classifier.commands.exit import HYDRA_DEBUG, debugging, readable_exit, told_when_interrupted
from gpt_classifier.commands.help import page
from gpt_classifier.commands.overrides import explain, folder_given, refuse_dashes
from gpt_classifier.commands.sweep import SweepFolder, finish, recorded, tell_what_is_fixed, varied
from gpt_classifier.config import conf_folder
from gpt_classifier.errors import UserError
from gpt_classifier.faults import DEBUG, keep_traceback, paragraph_of
from gpt_classifier.schema import check_types
from gpt_classifier.training.loggers import own_wandb_run

if TYPE_CHECKING:
    from gpt_classifier.training.context import RunContext

log = logging.getLogger(__name__)


def run_hydra(
    task: Callable[[DictConfig], Any], name: str, arguments: Sequence[str] | None, ranked: bool = False
) -> None:
    """Run a task as a Hydra application.

    Args:
        task: takes the composed configuration.
        name: of the primary file in `conf/`, without `.yaml`.
        arguments: of the command; `None` takes those of the process.
        ranked: rank the runs of a sweep at its end.

    Raises:
        SystemExit: instead of an error that a user can fix, or that Hydra has with the command line.
    """
    own = sys.argv
    given = own[1:] if arguments is None else list(arguments)
    began = False

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=name)
    def application(cfg: DictConfig) -> Any:
        nonlocal began
        began = True
        sys.argv = own  # Lightning starts further processes with the command line of this one
        with recorded(), readable_errors(), own_wandb_run():
            check_types(cfg)
            return task(cfg)

    see_working_directory()  # for modules that a configuration names
    try:
        if {"-h", "--help"} & set(given):
            with readable_exit():
                print(page(name, folder_given(given)), flush=True)
            return
        sys.argv = own[:1] + given + tell_what_is_fixed(given)
        refuse_dashes(given)
        with hydra_raises(), told_when_interrupted(), ranking(given) if ranked else nullcontext():
            application()
    except Exception as error:
        told = paragraph_of(error, f"{DEBUG}=1 shows the traceback.")
        of_hydra = isinstance(error, HydraException) or not isinstance(error, OSError | UserError)
        if not began and of_hydra:  # which fails in many ways over what it is given
            told = explain(error, given, name)
        if told is None or debugging():
            raise
        print(f"\n{told}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        sys.argv = own


@contextmanager
def ranking(arguments: Sequence[str]) -> Iterator[None]:
    """Inside, a sweep may run: at its end, however it ends, its runs are ranked.

    Args:
        arguments: of the command.

    Raises:
        UserError: a run failed in a way that was told when it failed.
    """
    SweepFolder.current = None
    try:
        yield
    except Exception as error:
        failed = finish(SweepFolder.current, arguments, whole=True) if SweepFolder.current else 0
        if failed and isinstance(error, UserError) and not debugging():
            raise UserError(f"{failed} of the runs failed, as the table says. The first: {error}") from None
        raise
    except BaseException:
        if SweepFolder.current:
            finish(SweepFolder.current, arguments, whole=False)
        raise
    if SweepFolder.current:
        finish(SweepFolder.current, arguments, whole=True)


@contextmanager
def hydra_raises() -> Iterator[None]:
    """Inside, Hydra's applications raise their errors instead of printing them, each in its way, and exiting."""
    before = {name: os.environ.get(name) for name in (DEBUG, HYDRA_DEBUG)}
    raising = logging.raiseExceptions
    logging.raiseExceptions = False  # a log file on a full disk is no reason for a traceback at each line
    os.environ |= {DEBUG: str(int(debugging())), HYDRA_DEBUG: "1"}
    try:
        yield
    finally:
        logging.raiseExceptions = raising
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def run_context() -> "RunContext":
    """What the application that is running tells a run."""
    from gpt_classifier.training.context import RunContext  # with what reads data, which --help does not need

    hydra_config = HydraConfig.get()
    sweep = hydra_config.mode == RunMode.MULTIRUN
    return RunContext(
        folder=Path(hydra_config.runtime.output_dir),
        choices={group: str(choice) for group, choice in hydra_config.runtime.choices.items()},
        sweep=sweep,
        varied=varied() if sweep else {},
    )


@contextmanager
def readable_errors() -> Iterator[None]:
    """Inside a job: a user's mistake becomes a paragraph, and its traceback is in `error.log` of the job's folder.

    In a multirun each failed job says so when it fails, and the others go on.

    Raises:
        UserError: instead of an error that `paragraph_of` can tell.
    """
    try:
        yield
    except Exception as error:
        told = paragraph_of(error, keep_traceback(error, Path(HydraConfig.get().runtime.output_dir)))
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            overrides = " ".join(HydraConfig.get().overrides.task)
            log.error("job failed (%s): %s", overrides, told or error, exc_info=told is None)
        if told is None or debugging():
            raise
        raise UserError(told) from None
