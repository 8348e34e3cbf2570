"""What a person meant with options that can't be composed."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gpt_classifier.commands.help import files_of
from gpt_classifier.config import compose, conf_folder
from gpt_classifier.errors import UserError, with_causes

FLAGS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun"),
)
"""Hydra's own, which have two dashes."""

INTERNAL = ("Config search path", "provider=", "hydra.cc/docs", "full_key:", "object_type=")
"""In lines of Hydra's messages that help nobody."""


def refuse_dashes(arguments: Sequence[str]) -> None:
    """Refuse `--model x`, which other programs take, with what to write.

    Raises:
        UserError: there is such an argument.
    """
    for place, argument in enumerate(arguments):
        name, given, value = argument.partition("=")
        if not name.startswith("--") or name in FLAGS:
            continue
        following = arguments[place + 1] if place + 1 < len(arguments) else "VALUE"
        value = value if given else following
        raise UserError(f"{name}: options of this command have no dashes. Write {name[2:].replace('-', '_')}={value}.")


def folder_given(arguments: Sequence[str]) -> Path | None:
    """The value of `--config-dir`, if it is there."""
    for place, argument in enumerate(arguments):
        name, given, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            return Path(value if given else "".join(arguments[place + 1 : place + 2]))
    return None


def explain(error: BaseException, arguments: Sequence[str], name: str) -> str:
    """One line about an error of Hydra's, with the option that was probably meant.

    Args:
        error: as it was caught.
        arguments: of the command.
        name: of the primary file in `conf/`, without `.yaml`.
    """
    lines = [line for link in with_causes(error) for line in str(link).splitlines() or [type(link).__name__]]
    told = " ".join(
        dict.fromkeys(line.strip() for line in lines if line.strip() and not any(w in line for w in INTERNAL))
    )
    if found := re.search(r"Could not override '([^']+)'", told):
        key = found[1]
        return f"{key}: there is no such option.{_meant(key, known_keys(arguments, name))} +{key}=… adds one."
    if found := re.search(r"Could not find '([^'/]+)/([^']+)'", told):
        group, file = found[1], found[2]
        files = sorted(files_of(group))
        return f"{group}={file}: conf/{group} has no such file.{_meant(file, files)} There are: {', '.join(files)}."
    wrong = [argument for argument in arguments if re.match(r"[\w/]+=-?[\d.]+$", argument) and _is_group(argument)]
    if wrong:
        group = wrong[0].partition("=")[0]
        return f"{wrong[0]}: expected the name of a file of conf/{group}, but it is a number."
    return f"The options can't be composed: {told}"


def _is_group(argument: str) -> bool:
    return (conf_folder() / argument.partition("=")[0]).is_dir()


def _meant(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def known_keys(arguments: Sequence[str], name: str) -> list[str]:
    """Keys of the configuration that the chosen files compose, without the other options."""
    groups = [argument for argument in arguments if _is_group(argument)]
    for chosen in (groups, []):
        try:
            cfg = compose(chosen, name)
        except UserError:
            continue
        return list(_keys(OmegaConf.to_container(cfg, resolve=False), ""))
    return []


def _keys(node: Any, place: str) -> Iterator[str]:
    for key, value in node.items():
        if not str(key).startswith("_"):
            yield f"{place}{key}"
            if isinstance(value, dict):
                yield from _keys(value, f"{place}{key}.")
