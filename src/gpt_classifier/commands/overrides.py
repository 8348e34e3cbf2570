"""What a person meant with options that can't be composed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gpt_classifier.config import compose, conf_folder, files_in, meant, names_of
from gpt_classifier.config import explain as explain_composing
from gpt_classifier.errors import UserError
from gpt_classifier.tables.reading import KINDS, ending_of

FLAGS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun"),
)
"""Hydra's own, which have two dashes."""


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
    told = explain_composing(error)
    if found := re.search(r"Could not override '([^']+)'", told):
        key = found[1]
        encoders = _files_with("model.backbone.architecture", "config") if name == "pretrain" else []
        chosen = [file for given in arguments if given.startswith("model=") for file in given[6:].split(",")]
        if refused := [file for file in chosen if file in encoders]:
            gpts = ", ".join(file for file in files_in("model") if file not in encoders)
            return f"model={refused[0]}: expected a GPT, as encoders can't be pretrained here. Set one of {gpts}."
        if elsewhere := _files_with(key, name):
            given = ", ".join(f"{key.partition('.')[0]}={file}" for file in elsewhere)
            return f"{key}: there is no such option without {given}. Add {'that' if len(elsewhere) == 1 else 'one'}."
        return f"{key}: there is no such option.{meant(key, known_keys(arguments, name))} +{key}=… adds one."
    if found := re.search(r"Error parsing override '([^'=]+)'\s+missing EQUAL", told):
        own = KINDS.get(ending_of(Path(found[1]))) and name == "config"
        hint = f" For a file of your own write data=csv data.path={found[1]}." if own else ""
        return f"{found[1]}: expected KEY=VALUE or GROUP=FILE.{hint}"
    wrong = [argument for argument in arguments if re.match(r"[\w/]+=-?[\d.]+$", argument) and _is_group(argument)]
    if wrong:
        group = wrong[0].partition("=")[0]
        return f"{wrong[0]}: expected the name of a file of conf/{group}, but it is a number."
    return told if "has no such file" in told or "needs the extra" in told else f"The options can't be composed: {told}"


def _is_group(argument: str) -> bool:
    return (conf_folder() / argument.partition("=")[0]).is_dir()


def _files_with(key: str, name: str) -> list[str]:
    """The files of an option's group that have it."""
    group, _, rest = key.partition(".")
    if not rest or not _is_group(group):
        return []
    return [file for file in files_in(group) if key in known_keys([f"{group}={file}"], name)]


def known_keys(arguments: Sequence[str], name: str) -> list[str]:
    """Keys of the configuration that the chosen files compose, without the other options."""
    groups = [argument for argument in arguments if _is_group(argument)]
    for chosen in (groups, []):
        try:
            cfg = compose(chosen, name)
        except UserError:
            continue
        plain: Any = OmegaConf.to_container(cfg, resolve=False)
        return list(names_of(plain))
    return []
