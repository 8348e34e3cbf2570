"""The book's table of further experiments, its rows 1 to 19, and tables in folders of their own, such as `imdb`."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpt_classifier import experiments
from gpt_classifier.config import compose, conf_folders
from gpt_classifier.errors import OptionError
from gpt_classifier.experiments import Question, has_experiment
from gpt_classifier.hub import can_fetch

NOT_APPLICABLE = "not applicable: the row names its own backbone"
ALL = "/all"
"""How the name of a folder ends that stands for its numbered files."""


def numbered_rows() -> dict[str, str]:
    """Experiments of the book's table by row number: `{"1": "book/01_setting", …}`."""
    return {str(int(name.partition("/")[2][:2])): name for name in rows_of("book")}


def rows_of(folder: str, config_dir: Path | None = None) -> list[str]:
    """The experiments of a folder below `experiment/` whose files begin with two digits, in their order."""
    found = (
        path for place in conf_folders(config_dir) for path in place.glob(f"experiment/{folder}/[0-9][0-9]_*.yaml")
    )
    return sorted({f"{folder}/{path.stem}" for path in found})


def find_questions(
    rows: str, model: str | None = None, overrides: Sequence[str] = (), config_dir: Path | None = None
) -> list[Question]:
    """The questions of some rows.

    Args:
        rows: numbers of the book's table, `all` of them, names of other experiments, or `FOLDER/all` for the numbered
            ones of a folder, separated by commas.
        model: backbone for all rows; a row that names another one is not run. `None` leaves each row its own.
        overrides: further Hydra overrides for all rows.
        config_dir: as `gpt_classifier.experiments.find_questions`.

    Raises:
        UserError: a row that does not exist, or an override that does not fit.
    """
    table = numbered_rows()
    given = list(table) if rows == "all" else [row.strip() for row in rows.split(",") if row.strip()]
    names = [
        name for row in given for name in (row.endswith(ALL) and rows_of(row.removesuffix(ALL), config_dir)) or [row]
    ]
    for name in names or [rows]:
        if name not in table and not has_experiment(name, config_dir):
            raise OptionError(
                "rows",
                f"all, numbers from 1 to {len(table)}, FOLDER/all, or files of conf/experiment without .yaml",
                repr(name),
                "Separate rows by commas, as in 1,2,book/exercise_6_1.",
            )
    row_of: dict[str, str] = {}  # of each experiment
    for name in names:
        row_of.setdefault(table.get(name, name), name)
    overrides = [*([f"model={model}"] if model else []), *overrides]
    questions = experiments.find_questions(list(row_of), overrides, config_dir)
    default = _backbone([], config_dir)
    return [
        replace(
            question,
            row=question.row.replace(question.experiment, row_of[question.experiment], 1),
            not_run=_not_run(question, model, default, config_dir),
        )
        for question in questions
    ]


def _not_run(question: Question, model: str | None, default: str, config_dir: Path | None) -> str:
    """Why a question is not run; empty if it is."""
    if model is not None and _backbone([f"experiment={question.experiment}"], config_dir) not in (model, default):
        return NOT_APPLICABLE
    if question.released and not _can_fetch(question.released, question.revision):
        named = question.released + (f" --revision {question.revision}" if question.revision else "")
        where = "in the local cache, and the Hub can't be reached"
        return f"its released weights are not {where}: hf download {named}, or model.weights=FOLDER"
    return ""


_can_fetch = functools.cache(can_fetch)


def _backbone(overrides: Sequence[str], config_dir: Path | None) -> str:
    return compose(overrides, hydra_too=True, config_dir=config_dir).hydra.runtime.choices.model
