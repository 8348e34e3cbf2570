"""What a sweep varies, and what is told of all its runs at its end."""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.commands.arguments import started_as
from gpt_classifier.config import compose
from gpt_classifier.errors import UserError, first_line
from gpt_classifier.look import look
from gpt_classifier.paths import near

LONGEST_VALUE, LONGEST_NAME = 40, 120  # characters in the name of a run's folder


def tell_what_is_fixed(arguments: Sequence[str]) -> list[str]:
    """Further arguments of a sweep: Hydra keeps what is not varied out of the names of its runs.

    Each run knows its own values alone; with this, it knows which of them the sweep varies, in another process too.

    Args:
        arguments: of the command.
    """
    if not {"-m", "--multirun"} & set(arguments):
        return []
    swept: dict[str, bool] = {}
    for override in _parsed(arguments):
        swept[override.get_key_element()] = override.is_sweep_override()  # of the same key twice the last counts
    fixed = ",".join(f"'{key}'" for key, varies in swept.items() if not varies)
    remember = f"+hydra.callbacks.sweep_folder._target_={SweepFolder.__module__}.{SweepFolder.__qualname__}"
    return [f"hydra.job.config.override_dirname.exclude_keys=[{fixed}]", remember]


class SweepFolder(Callback):
    """Where the sweep that is running has its runs; jobs may run in other processes, which can't tell this one."""

    current: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        SweepFolder.current = Path(config.hydra.sweep.dir).absolute()


def _parsed(overrides: Sequence[str]) -> Iterator[Override]:
    parser = OverridesParser.create()
    for text in overrides:
        if not text.startswith("-"):
            with suppress(HydraException):  # which Hydra tells, or the value of a flag
                yield parser.parse_override(text)


def varied() -> dict[str, str]:
    """What the sweep of the job that is running varies, with the job's values as a person reads them."""
    config = HydraConfig.get()
    fixed = set(config.job.config.override_dirname.exclude_keys)
    found = {}
    for override in _parsed(config.overrides.task):
        if override.get_key_element() not in fixed:
            value = override.value()
            text = value if isinstance(value, str) else override.get_value_element_as_str()
            found[override.get_key_element().lstrip("+")] = text
    return found


def folder_name() -> str:
    """The folder of the job that is running: its number and what was varied, as `3_freeze-head_only+seed-1`.

    Every file system takes it, and so do overrides without quotation marks, such as `ckpt_path`.
    """
    parts = [f"{_plain(key)}-{_plain(value)[-LONGEST_VALUE:]}" for key, value in varied().items()]
    name = "_".join([str(HydraConfig.get().job.num), *(["+".join(parts)] if parts else [])])
    return name[:LONGEST_NAME].rstrip(".")  # which Windows drops


OmegaConf.register_new_resolver("sweep_folder_name", folder_name, replace=True)  # ${sweep_folder_name:}


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)


@contextmanager
def recorded() -> Iterator[None]:
    """Inside a job of a sweep: what becomes of it is written into its folder."""
    config = HydraConfig.get()
    if config.mode != RunMode.MULTIRUN:
        yield
        return
    from gpt_classifier.sweeps.results import Record  # pandas, which a mistake in a single run needs not wait for

    folder = Path(config.runtime.output_dir)
    record = Record(config.job.num, varied(), list(config.overrides.task))
    record.write(folder)
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
        with suppress(UserError):  # the disk may be full, which is why it failed
            replace(record, status="failed", reason=reason).write(folder)
        raise
    replace(record, status="finished").write(folder)


def finish(folder: Path, arguments: Sequence[str], whole: bool) -> int:
    """Rank the runs of a sweep: a table on the terminal, `sweep.csv` and `sweep.html`.

    Args:
        folder: of the sweep; earlier runs in it that were set otherwise than its last are left out.
        arguments: of the command.
        whole: the sweep was not broken off, and its best configuration is measured on test.

    Returns:
        How many of its runs did not finish.

    Raises:
        UserError: the files can't be written.
    """
    from gpt_classifier.sweeps.report import conclude
    from gpt_classifier.sweeps.results import Sweep

    sweep = Sweep.of_last(folder)
    if sweep is None:  # it failed before its first run began
        return 0
    if not whole:
        sweep.note = (
            f"The sweep was broken off, and test was not measured. -m with hydra.sweep.dir={near(folder)}, the same "
            f"options and the values that are missing goes on with it."
        )
    command = repeat(sweep.best_run.record.overrides, arguments) if sweep.best_run else ""
    conclude(sweep, command, measure=whole)
    return len(sweep.unfinished)


def repeat(overrides: Sequence[str], arguments: Sequence[str]) -> str:
    """The command that repeats one run of a sweep, as a shell takes it.

    Args:
        overrides: of the run.
        arguments: of the sweep; where configurations are looked for is kept.
    """
    kept = []
    for place, argument in enumerate(arguments):
        if argument.startswith(("--config-", "hydra.searchpath=")):
            kept.append(argument)
            if argument.startswith("--") and "=" not in argument:
                kept += arguments[place + 1 : place + 2]
    return " ".join([started_as("train"), *map(shlex.quote, [*kept, *overrides])])


MOST_JOBS = 20  # of a sweep that are looked at: composing one takes a tenth of a second


def look_at_sweep(arguments: Sequence[str]) -> None:
    """Look at the jobs of a sweep, before the first begins.

    Args:
        arguments: of the command. What can't be composed is left to Hydra, which says more.

    Raises:
        UserError: one of them would fail; which one is told.
    """
    for overrides in islice(_jobs(arguments), MOST_JOBS):
        try:
            cfg = compose(overrides)
        except UserError:
            return
        try:
            look(cfg)
        except UserError as error:
            raise UserError(f"{error} (in the job {' '.join(overrides)})") from error


def _jobs(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of each job of a sweep over choices and ranges; none where something else is swept over."""
    given = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    try:
        parsed = OverridesParser.create().parse_overrides(given)
        choices = [
            [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()]
            if one.is_sweep_override()
            else [text]
            for one, text in zip(parsed, given, strict=True)
            if not one.is_hydra_override()
        ]
    except (HydraException, AssertionError):
        return
    yield from map(list, product(*choices))
