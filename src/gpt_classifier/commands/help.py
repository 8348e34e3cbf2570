"""What `--help` says of a Hydra application: groups, their files and common keys, with the comments of `conf/`."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt_classifier.commands.arguments import started_as
from gpt_classifier.config import conf_folder, conf_folders, files_in

LINE = re.compile(r"^(?P<indent> *)(?:- )?(?P<key>[\w@/]+):(?: (?P<value>[^#]*?))?(?: +# (?P<comment>.*))?$")


@dataclass(frozen=True)
class Application:
    """What no file of `conf/` says of an application.

    Args:
        what: it does, in a sentence.
        examples: arguments.
        keys: the common ones: by file of `conf/`, as the command line has them.
        first: groups that come first; the others keep the order of the defaults list.
        sweeps: whether it takes `-m`.
    """

    what: str
    examples: Sequence[str]
    keys: dict[str, Sequence[str]]
    first: Sequence[str] = ()
    sweeps: bool = True


APPLICATIONS = {
    "config": Application(
        "Fine-tune GPT-2 into a text classifier.",
        (
            "experiment=quickstart",
            "model=gpt2-nano data=csv data.path=reviews.csv data.label_column=stars",
            "-m seed=1,2,3 freeze=head_only,last_block",
        ),
        {
            "data/csv": ("data.path", "data.text_column", "data.label_column"),
            "data/base": (
                *("data.balance", "data.split", "data.val_fraction", "data.test_fraction", "data.train_size"),
                *("data.batch_size", "data.max_length"),
            ),
            "model/base": ("model.weights",),
            "optimizer/adamw": ("optimizer.lr",),
            "trainer/auto": ("trainer.precision",),
            "config": (
                *("trainer.max_epochs", "monitor", "evaluate", "seed", "ckpt_path", "cache.enabled", "cache.dir"),
                "cache_dir",
            ),
        },
        first=("data", "model", "freeze", "pooling", "recipe", "optimizer", "scheduler"),
    ),
    "crossfit": Application(
        "Predict every message by a model that was not trained on it; all options of train can be set.",
        (
            "model=gpt2-nano data=csv data.path=reviews.csv",
            "model=gpt2-nano data=csv data.path=reviews.csv data.group_column=customer data.folds=10",
        ),
        {"crossfit": ("baselines", "data.folds"), "data/base": ("data.split_seed",)},
    ),
    "search": Application(
        "Search for the settings of train that are best on validation; all options of train can be set for all trials.",
        (
            "model=gpt2-nano data=csv data.path=reviews.csv",
            "model=gpt2-nano data=csv data.path=reviews.csv freeze=last_block hparams_search.trials=50",
            "data=csv data.path=reviews.csv 'hparams_search.space.pooling=[mean,max]' hydra.run.dir=outputs/reviews",
        ),
        {"hparams_search/optuna": ("hparams_search.trials", "hparams_search.seed", "hparams_search.space")},
        sweeps=False,
    ),
    "adapt": Application(
        "Let a pretrained GPT learn from texts without labels, for model.weights of train.",
        (
            "data.path=messages.txt",
            "model=gpt2-small data.path='reviews/*.csv' data.text_column=body",
            "data.path=reviews.parquet adaptation.passes=3 adaptation.lr=5e-4",
        ),
        {
            "adapt": ("data.path", "data.text_column", "data.separator", "trainer.accelerator", "trainer.precision"),
            "model/base": ("model.weights",),
            "adaptation/default": (
                *("adaptation.passes", "adaptation.patience", "adaptation.val_fraction", "adaptation.batch_tokens"),
                *("adaptation.lr", "adaptation.seed"),
            ),
        },
    ),
    "pretrain": Application(
        "Train a small GPT to continue text of your own.",
        (
            "data.path=english.txt.xz",
            "data.path=english.txt.xz tokens=100_000_000 model.backbone.n_layer=12",
            "data.path=letters.txt vocabulary=gpt2 pretraining@optimizer=adamw",
        ),
        {
            "pretrain": (
                *("data.path", "data.val_every", "vocabulary", "tokens", "batch_tokens", "windows"),
                *("masked.batches", "compile", "model.weights", "ckpt_path", "seed"),
            )
        },
    ),
}


def page(name: str, config_dir: Path | None = None) -> str:
    """The text of `--help`.

    Args:
        name: of the primary file in `conf/`, without `.yaml`.
        config_dir: a folder of the user's with further files.

    Raises:
        UserError: there is no such folder.
    """
    folders, about = conf_folders(config_dir), APPLICATIONS[name]
    command = started_as({"config": "train"}.get(name, name))
    lines = [f"usage: {command} [GROUP=FILE …] [KEY=VALUE …]", "", about.what, "", "Examples:"]
    lines += [f"  {command} {example}" for example in about.examples]
    lines += ["", "Groups and their files (* is the default; each is conf/GROUP/FILE.yaml):"]
    for group, (default, what) in _groups(name).items():
        lines += ["", *_told(group, what, indent=2, width=24), *_files(folders, group, default)]
    lines += ["", "Common keys:", ""]
    for file, keys in about.keys.items():
        known = commented(conf_folder() / f"{file}.yaml")
        for key in keys:
            value, what = known[key if file == name else key.partition(".")[2]]
            lines += _told(key, f"{what}{_default(value)}", indent=2, width=20)
    lines += ["", "Flags:", ""]
    for flag, what in FLAGS.items():
        if flag == "-m" and not about.sweeps:
            continue
        lines += _told(flag, what, indent=2, width=20)
    return "\n".join(lines)


FLAGS = {
    "-m": "run every combination of values with commas, such as seed=1,2,3",
    "--cfg job": "print the configuration with all its keys, and do nothing else",
    "--config-dir FOLDER": "a folder like conf/ with further files for its groups",
    "-h, --help": "print this",
}


def files_of(group: str, folders: Sequence[Path] | None = None) -> dict[str, str]:
    """The files of a group that can be chosen (`config.files_in`), each with the first line of its comment."""
    return {name: _first_comment(path) for name, path in files_in(group, folders).items()}


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ") and not line.startswith("# @")), "")


def commented(path: Path) -> dict[str, tuple[str, str]]:
    """The keys of a file that have a comment in their line, dotted, each with its value as it is written and that."""
    found, place = {}, [(-1, "")]
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := LINE.match(line):
            indent = len(match["indent"])
            while place[-1][0] >= indent:
                place.pop()
            key = f"{place[-1][1]}{match['key']}"
            place.append((indent, f"{key}."))
            if match["comment"]:
                found[key] = (match["value"] or "", match["comment"])
    return found


def _groups(name: str) -> dict[str, tuple[str, str]]:
    """The groups of a primary file's defaults list that are chosen from, with default and comment."""
    known = commented(conf_folder() / f"{name}.yaml")
    groups = {key.removeprefix("defaults."): told for key, told in known.items() if key.startswith("defaults.")}
    return {group: groups[group] for group in (*APPLICATIONS[name].first, *groups)}


def _files(folders: Sequence[Path], group: str, default: str) -> Iterator[str]:
    """A line for each file, and one for each folder below the group."""
    below: dict[str, list[str]] = {}
    for file, what in files_of(group.partition("@")[0], folders).items():
        if "/" in file:
            below.setdefault(file.partition("/")[0], []).append(file.partition("/")[2])
            continue
        yield from _told(f"{'*' if file == default else ' '} {file}", what, indent=4, width=22)
    for folder, files in below.items():
        yield from _told(f"  {folder}/…", ", ".join(files), indent=4, width=22)


def _default(value: str) -> str:
    if value.startswith("${recipe."):
        return " (default: the recipe's)"
    if value == "???":
        return " (required)"
    return "" if value in ("", "null") or value.startswith("${") else f" (default: {value})"


def _told(name: str, what: str, indent: int, width: int) -> list[str]:
    """A name and what it means, as wide as the terminal."""
    start = f"{' ' * indent}{name:<{width}}"
    columns = max(60, min(120, shutil.get_terminal_size((100, 24)).columns))
    return textwrap.wrap(
        what,
        columns,
        initial_indent=f"{start} " if what else start,
        subsequent_indent=" " * (indent + width + 1),
        break_on_hyphens=False,
    ) or [start.rstrip()]
