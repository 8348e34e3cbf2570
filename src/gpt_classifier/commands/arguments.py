"""Arguments that several commands share."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gpt_classifier.errors import UserError, first_line


def arguments_of(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows a module's docstring as it is written.

    Args:
        name: of the command.
        description: the docstring.
    """
    return argparse.ArgumentParser(
        started_as(name), description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def started_as(name: str) -> str:
    """A command as it was started: `gpt-classifier NAME`, `python -m gpt_classifier NAME`, `python scripts/NAME.py`."""
    started = Path(sys.argv[0])
    if started.name == f"{name.replace('-', '_')}.py":
        return f"python {started}"
    return f"{'python -m gpt_classifier' if started.name == '__main__.py' else 'gpt-classifier'} {name}"


def add_checkpoint(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """`--checkpoint` (or `--checkpoints`), and where to look for it and for what it builds on.

    Args:
        parser: to add them to.
        several: whether the command takes more than one.
    """
    if several:
        parser.add_argument("--checkpoints", nargs="+", default=["latest"], help="runs' best.ckpt, or latest (default)")
    else:
        parser.add_argument("--checkpoint", default="latest", help="a run's best.ckpt, or latest (default)")
    parser.add_argument("--weights", type=Path, help="the pretrained weights that it builds on, if they were moved")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all pretrained weights to check them, even if their file has not changed since the last time",
    )
    parser.add_argument(
        "--outputs", type=Path, default=Path("outputs"), help="where latest looks for runs (default: outputs)"
    )
    add_import(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """`--import`."""
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of your own that the checkpoint needs, such as one with its pooling",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model`."""
    parser.add_argument("--model", default="gpt2-small", help="a file of conf/model (default: gpt2-small)")


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """`--config-dir`, which Hydra's own commands have too."""
    parser.add_argument("--config-dir", type=Path, help="a folder like conf/ with further files for its groups")


def add_overrides(parser: argparse.ArgumentParser, what: str) -> None:
    """Hydra overrides after the flags, and `--config-dir`.

    Args:
        parser: to add them to. It must parse by `parse_intermixed_args`.
        what: they are, for the help.
    """
    add_config_dir(parser)
    parser.add_argument("overrides", nargs="*", help=what)


def see_working_directory() -> None:
    """Let modules of the working directory be imported, after all others of their name."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def import_modules(names: Sequence[str]) -> None:
    """Import modules that a person names with `--import`.

    Raises:
        UserError: there is no such module.
    """
    see_working_directory()
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"--import: {name} can't be imported from here: {first_line(error)}.") from error
