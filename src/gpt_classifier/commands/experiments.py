"""Ask the questions of the book's additional experiments, or your own, and make a table of the answers.

gpt-classifier experiments --rows 1,2,16 --model gpt2-nano --seeds 1,2,3
gpt-classifier experiments --rows book/exercise_6_1,book/exercise_6_3 data.path=SMSSpamCollection
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from gpt_classifier.config import readable_exit
from gpt_classifier.errors import UserError, expect_number


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "gpt-classifier experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="all", help="numbers, or files of conf/experiment (default: all 19 numbers)")
    parser.add_argument(
        "--model", help="backbone for all rows; rows that name one do not apply (default: each its own)"
    )
    parser.add_argument("--seeds", default="123", help="with commas between (default: 123)")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder (default: outputs/experiments/MODEL); finished trainings are kept",
    )
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for all rows, such as optimizer.lr=3e-4")
    return parser.parse_intermixed_args(arguments)


def seeds_of(text: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds: expected whole numbers with commas between, but it is {text}.") from error
    for seed in seeds:
        expect_number("--seeds", seed, 0, 2**32 - 1, whole=True)
    return list(dict.fromkeys(seeds))


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        seeds = seeds_of(options.seeds)
        from gpt_classifier import experiments

        questions = experiments.find_questions(options.rows, options.model, options.overrides)
        folder = options.out or Path("outputs") / "experiments" / (options.model or "each-its-own")
        folder.mkdir(parents=True, exist_ok=True)
        runner = experiments.Runner(
            [sys.executable, "-m", "gpt_classifier", "train"], folder.resolve() / "runs", partial(print, flush=True)
        )

        def show(answers: list[experiments.Answer]) -> None:
            text = experiments.table(questions, answers)
            (folder / "table.md").write_text(text + "\n", encoding="utf-8")
            experiments.as_frame(answers).to_csv(folder / "table.csv", index=False)
            if answers:
                title = options.model or "each row with its own backbone"
                experiments.chart(answers, title, folder / "chart.png")

        answers, failures = runner.answer(questions, seeds, show)
        print(f"\n{experiments.table(questions, answers)}\n\nThis is also in {folder}")
        if failures:
            raise UserError("\n".join(failures))
