"""The book's table of further experiments: its rows 1 to 19, with a backbone for all of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpt_classifier import experiments
from gpt_classifier.config import compose, conf_folder
from gpt_classifier.errors import OptionError
from gpt_classifier.experiments import Question, has_experiment

NOT_APPLICABLE = "not applicable: the row names its own backbone"


def numbered_rows() -> dict[str, str]:
    """Experiments of the book's table by row number: `{"1": "book/01_setting", …}`."""
    files = sorted(conf_folder().glob("experiment/book/[0-9][0-9]_*.yaml"))
    return {str(int(path.name[:2])): f"book/{path.stem}" for path in files}


def find_questions(
    rows: str, model: str | None = None, overrides: Sequence[str] = (), config_dir: Path | None = None
) -> list[Question]:
    """The questions of some rows.

    Args:
        rows: numbers of the book's table, `all` of them, or names of other experiments, separated by commas.
        model: backbone for all rows; a row that names another one is not run. `None` leaves each row its own.
        overrides: further Hydra overrides for all rows.
        config_dir: as `gpt_classifier.experiments.find_questions`.

    Raises:
        UserError: a row that does not exist, or an override that does not fit.
    """
    table = numbered_rows()
    names = list(table) if rows == "all" else [row.strip() for row in rows.split(",") if row.strip()]
    for name in names or [rows]:
        if name not in table and not has_experiment(name, config_dir):
            raise OptionError(
                "rows",
                f"all, numbers from 1 to {len(table)}, or files of conf/experiment without .yaml",
                repr(name),
                "Separate rows by commas, as in 1,2,book/exercise_6_1.",
            )
    named = {name: table.get(name, name) for name in names}
    overrides = [*([f"model={model}"] if model else []), *overrides]
    questions = experiments.find_questions(list(named.values()), overrides, config_dir)
    default = _backbone([], config_dir)
    return [
        replace(question, row=row, not_run=_not_run(question.experiment, model, default, config_dir))
        for row, question in zip(named, questions, strict=True)
    ]


def _not_run(experiment: str, model: str | None, default: str, config_dir: Path | None) -> str:
    applies = model is None or _backbone([f"experiment={experiment}"], config_dir) in (model, default)
    return "" if applies else NOT_APPLICABLE


def _backbone(overrides: Sequence[str], config_dir: Path | None) -> str:
    return compose(overrides, hydra_too=True, config_dir=config_dir).hydra.runtime.choices.model
