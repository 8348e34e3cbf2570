"""Where Hydra is: `conf/` from any working directory, and errors that a person can read."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from gpt_classifier.errors import UserError, first_line

log = logging.getLogger(__name__)


def conf_folder() -> Path:
    """The folder `conf/`: beside the modules of an installed package, at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def compose(overrides: Sequence[str], name: str = "config", hydra_too: bool = False) -> DictConfig:
    """The configuration of a file such as `config.yaml` with Hydra overrides such as `model=gpt2-medium`.

    Args:
        overrides: as on the command line of `train.py`.
        name: of the file, without `.yaml`.
        hydra_too: keep the node `hydra`, which tells what was chosen of each group.

    Raises:
        UserError: an override that does not fit.
    """
    try:
        with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return hydra.compose(name, overrides=list(overrides), return_hydra_config=hydra_too)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(str(error)) from error


def user_error_behind(error: BaseException) -> UserError | None:
    """The `UserError` that `hydra.utils.instantiate` or another layer has wrapped, if any.

    A value that does not fit the configuration, or a part that refuses its values, is one too.
    """
    link: BaseException | None = error
    while link is not None and not isinstance(link, UserError):
        if isinstance(link, OmegaConfBaseException):
            return UserError(str(link))
        if isinstance(link, OSError) and link.errno == errno.ENOSPC and link.filename is None:
            return UserError(f"{link.strerror}. Make room, or set another place.")
        if isinstance(link, OSError) and link.filename is not None:  # a full disk, a folder that can't be written
            return UserError(f"{link.filename}: {link.strerror}. Set another place, or make this one fit.")
        if type(link).__name__ == "MisconfigurationException":  # Lightning's, seconds of imports away
            return UserError(f"trainer: Lightning refuses these settings: {first_line(link)}")
        if isinstance(link, InstantiationException) and isinstance(link.__cause__, TypeError | ValueError):
            return UserError(f"{first_line(link)} {first_line(link.__cause__)}")
        link = link.__cause__
    return link


@contextmanager
def readable_errors() -> Iterator[None]:
    """Inside a Hydra application: a user's mistake is told in a paragraph, without a traceback.

    In a multirun each failed job says so when it fails, and the others go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit("\nInterrupted.") from None
    except Exception as error:
        cause = user_error_behind(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            overrides = " ".join(HydraConfig.get().overrides.task)
            log.error("job failed (%s): %s", overrides, cause or error, exc_info=cause is None)
        if cause is None or "HYDRA_FULL_ERROR" in os.environ:
            raise
        raise CompactHydraException(f"\n{cause}") from None


def run_hydra(task: Callable[[DictConfig], Any], name: str, arguments: Sequence[str] | None) -> None:
    """Run a task as a Hydra application: overrides, `-m`, `--help`, `--config-dir` and all.

    Args:
        task: takes the composed configuration.
        name: of the primary file in `conf/`, without `.yaml`.
        arguments: of the command; `None` takes those of the process.
    """
    own = sys.argv

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=name)
    def application(cfg: DictConfig) -> Any:
        sys.argv = own  # Lightning starts further processes with the command line of this one
        with readable_errors():
            return task(cfg)

    try:
        sys.argv = own[:1] + (own[1:] if arguments is None else list(arguments))
        application()
    finally:
        sys.argv = own


@contextmanager
def readable_exit() -> Iterator[None]:
    """Inside a command without Hydra: the same."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit("\nInterrupted.") from None
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        cause = user_error_behind(error)
        if cause is None or "HYDRA_FULL_ERROR" in os.environ:
            raise
        _exit(cause)


def _exit(error: UserError) -> NoReturn:
    raise SystemExit(f"\n{error}")
