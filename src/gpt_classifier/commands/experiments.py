"""Run the book's further experiments, or your own, and make a table of the results.

gpt-classifier experiments --rows 1,2,16 --model gpt2-nano --seeds 1,2,3
gpt-classifier experiments --rows book/exercise_6_1,book/exercise_6_3 data.path=SMSSpamCollection
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from gpt_classifier.atomic import write_table, write_text
from gpt_classifier.commands.arguments import add_overrides, arguments_of
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import OptionError, UserError, expect_number


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("experiments", __doc__)
    parser.add_argument("--rows", default="all", help="numbers, or files of conf/experiment (default: all 19 numbers)")
    parser.add_argument(
        "--model", help="backbone for all rows; rows that name another are not run (default: each its own)"
    )
    parser.add_argument("--seeds", default="123", help="separated by commas (default: 123)")
    parser.add_argument(
        "--out", type=Path, help="folder (default: outputs/experiments/MODEL); runs finished there are not repeated"
    )
    add_overrides(parser, "Hydra overrides for all rows, such as optimizer.lr=3e-4")
    return parser.parse_intermixed_args(arguments)


def refuse_own_options(overrides: list[str]) -> None:
    """Refuse overrides that the table would not show.

    Raises:
        UserError: at the first of them.
    """
    for override in overrides:
        if override.lstrip("+").startswith(("model=", "seed=", "experiment=", "hydra.run.dir=")):
            raise UserError(f"{override}: set it by --model, --seeds, --rows or --out, so that the table shows it.")


def seeds_of(text: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds: expected whole numbers separated by commas, but it is {text}.") from error
    for seed in seeds:
        expect_number("--seeds", seed, 0, 2**32 - 1, whole=True)
    return list(dict.fromkeys(seeds))


FLAGS = {"rows": "--rows", "folder": "--out"}
"""How the command line names parameters of the library."""


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        try:
            run(options)
        except OptionError as error:
            error.field = FLAGS.get(error.field, error.field)
            raise


def run(options: argparse.Namespace) -> None:
    seeds = seeds_of(options.seeds)
    refuse_own_options(options.overrides)
    from gpt_classifier import experiments
    from gpt_classifier.book.questions import find_questions

    questions = find_questions(options.rows, options.model, options.overrides, options.config_dir)
    folder = options.out or Path("outputs") / "experiments" / (options.model or "each-its-own")
    command = [sys.executable, "-m", "gpt_classifier", "train"]
    if options.config_dir:
        command += ["--config-dir", str(options.config_dir.resolve())]
    runner = experiments.Runner(command, folder.resolve() / "runs", partial(print, flush=True))

    def show(answers: list[experiments.Answer]) -> None:
        text = experiments.table(questions, answers)
        write_text(folder / "table.md", text + "\n")
        write_table(folder / "table.csv", experiments.as_frame(answers))
        if answers:
            title = options.model or "each row with its own backbone"
            experiments.chart(answers, title, folder / "chart.png")

    answers, failures = runner.answer(questions, seeds, show)
    print(f"\n{experiments.table(questions, answers)}\n\nThe table is also in {folder}")
    if failures:
        raise UserError("\n".join(failures))
