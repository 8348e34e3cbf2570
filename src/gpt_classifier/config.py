"""Hydra for everything that is no command: where `conf/` is, composing it, and building what it names."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt_classifier.errors import UserError, with_causes
from gpt_classifier.paths import cache_folder
from gpt_classifier.schema import check_types

__all__ = [
    "InstantiationException",
    "compose",
    "conf_folder",
    "conf_folders",
    "explain",
    "files_in",
    "in_place",
    "instantiate",
    "meant",
    "names_of",
    "quote_paths",
    "search_path",
]

OmegaConf.register_new_resolver("cache_folder", lambda: str(cache_folder()), replace=True)  # ${cache_folder:}


def conf_folder() -> Path:
    """The folder `conf/`: beside the modules of an installed package, at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def conf_folders(config_dir: Path | None = None) -> list[Path]:
    """Where files of groups are looked for; of two with the same name the first counts.

    Args:
        config_dir: a user's own folder, as `--config-dir` names it.

    Raises:
        UserError: there is no such folder.
    """
    if config_dir is None:
        return [conf_folder()]
    folder = config_dir.expanduser().resolve()
    if not folder.is_dir():
        raise UserError(
            f"--config-dir: expected a folder with files such as freeze/mine.yaml, but there is no {folder}."
        )
    return [conf_folder(), folder]


def search_path(config_dir: Path | None) -> list[str]:
    """The override that lets Hydra find a user's own files; none without a folder.

    Args:
        config_dir: as `conf_folders` takes it.

    Raises:
        UserError: there is no such folder.
    """
    further = conf_folders(config_dir)[1:]
    places = ",".join("'file://{}'".format(str(folder).replace("'", r"\'")) for folder in further)
    return [f"hydra.searchpath=[{places}]"] if further else []


FREE = re.compile(r"ckpt_path|model\.weights|data\.corrections|data\.(\w+_)?(path|column|sheet)")
"""Options that take a path, or the name of a column or a sheet, as somebody else has written it."""

PLAIN = re.compile(r"[\w./\\+$%*@?|: -]*", re.ASCII)
"""Values that Hydra's grammar takes without quotation marks."""

MEANT = re.compile(r"['\",]|\$\{|\w+\(.*\)$")
"""Values that are written for this grammar: quoted, choices of a sweep, interpolations, and functions."""


def quote_paths(overrides: Sequence[str]) -> list[str]:
    """Overrides of which paths and names of columns are quoted where Hydra's grammar asks for it.

    Such as `~/a.csv`, `reviews (1).csv`, `ä.csv`, `data.label_column=Größe`.

    Args:
        overrides: as a shell leaves them, flags among them.
    """
    quoted = []
    for override in overrides:
        key, _, value = override.partition("=")
        if FREE.fullmatch(key) and not PLAIN.fullmatch(value) and not MEANT.search(value):
            override = f"{key}='{value}'"
        quoted.append(override)
    return quoted


SPACE = re.compile(r"hparams_search\.space(\.[\w.]+)?(?<!\.low)(?<!\.high)(?<!\.log)(?<!\.step)=")
"""An option of a search space as a whole, not one end of its range."""


def in_place(overrides: Sequence[str]) -> list[str]:
    """Overrides of which those of a search space take the place of what is there.

    Hydra would merge them, and merges no list into a range. New options need no plus. The list of a group's files, such
    as `pooling`, makes room for the options of one of them, such as `pooling.size`.

    Args:
        overrides: as a shell leaves them, flags among them.
    """
    replaced: list[str] = []
    listed = _listed()
    for override in overrides:
        name = override.partition("=")[0]
        for group in [group for group in listed if name.startswith(f"{group}.")]:
            replaced.append(f"++{group}=null")
            listed.remove(group)
        if SPACE.match(override):
            replaced.append(f"++{name}=null")
        replaced.append(f"++{override}" if override.startswith("hparams_search.space") else override)
    return replaced


def _listed() -> list[str]:
    """Options of the search space of `conf/` that are lists of files of a group."""
    space = OmegaConf.load(conf_folder() / "hparams_search" / "optuna.yaml").space
    return [f"hparams_search.space.{key}" for key in space if OmegaConf.is_list(space[key]) and files_in(key)]


NOT_CHOSEN = ("base", "texts", "in_memory", "unlabelled")
"""Files of groups that nobody chooses on a command line: others build on them, or `fit` and `distil` do."""

LAUNCHERS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""What runs the jobs of a sweep side by side, and the extra that brings it."""

INTERNAL = ("Config search path", "provider=", "hydra.cc/docs", "full_key:", "object_type=")
"""In lines of Hydra's messages that help nobody."""


def files_in(group: str, folders: Sequence[Path] | None = None) -> dict[str, Path]:
    """A group's files that can be chosen, by name without `.yaml`.

    Args:
        group: such as `model`.
        folders: where to look; `None` for `conf/` alone. Of two files with the same name the first counts.
    """
    found: dict[str, Path] = {}
    for folder in folders or [conf_folder()]:
        for path in sorted((folder / group).rglob("*.yaml")):
            name = path.relative_to(folder / group).with_suffix("").as_posix()
            if name not in NOT_CHOSEN:
                found.setdefault(name, path)
    return found


def meant(word: str, known: Sequence[str]) -> str:
    """A sentence with the known word that is most like another; empty where none is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def explain(error: BaseException) -> str:
    """One line about an error of Hydra's in composing a configuration."""
    for link in with_causes(error):
        if isinstance(link, MissingConfigException) and "/" in (link.missing_cfg_file or ""):
            group, _, file = str(link.missing_cfg_file).partition("/")
            if group == "hydra":
                return _missing_launcher(str(link.missing_cfg_file))
            files = list(files_in(group))
            return f"{group}={file}: conf/{group} has no such file.{meant(file, files)} There are: {', '.join(files)}."
    lines = [line for link in with_causes(error) for line in str(link).splitlines() or [type(link).__name__]]
    told = (line.strip() for line in lines if line.strip() and not any(word in line for word in INTERNAL))
    return " ".join(dict.fromkeys(told))


def names_of(node: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """The names of all options of a configuration, as plain values, groups among them."""
    for key, value in node.items():
        if not str(key).startswith("_"):
            yield f"{place}{key}"
            if isinstance(value, dict):
                yield from names_of(value, f"{place}{key}.")


def _missing_launcher(name: str) -> str:
    group, _, launcher = name.rpartition("/")
    if group == "hydra/launcher" and (extra := LAUNCHERS.get(launcher)):
        return f'{group}={launcher} needs the extra {extra}: pip install ".[{extra}]"'
    return f"{group}={launcher}: Hydra has no such file.{meant(launcher, list(LAUNCHERS))}"


def compose(
    overrides: Sequence[str], name: str = "config", hydra_too: bool = False, config_dir: Path | None = None
) -> DictConfig:
    """The configuration of a file such as `config.yaml` with Hydra overrides such as `model=gpt2-medium`.

    Args:
        overrides: as on the command line of `gpt-classifier train`.
        name: of the file, without `.yaml`.
        hydra_too: keep the node `hydra`, which tells what was chosen of each group.
        config_dir: a user's own folder beside `conf/`.

    Raises:
        UserError: an override that does not fit, or a value of another type than its option.
    """
    state = GlobalHydra.instance()
    application = state.hydra  # of the command that is running, if it is one of Hydra's; there can only be one
    state.clear()
    try:
        with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
            all_overrides = [*search_path(config_dir), *quote_paths(overrides)]
            cfg = hydra.compose(name, overrides=all_overrides, return_hydra_config=hydra_too)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    finally:
        state.hydra = application
    check_types(cfg)
    return cfg
