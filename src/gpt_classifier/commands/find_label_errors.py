"""List messages whose label is probably wrong, from what gpt-classifier crossfit left.

gpt-classifier crossfit model=gpt2-nano data=csv data.path=messages.csv
gpt-classifier find-label-errors
gpt-classifier train model=gpt2-nano data=csv data.path=messages.csv data.corrections=fixes.csv
"""

import argparse
from pathlib import Path

from gpt_classifier.commands.arguments import arguments_of
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import UserError
from gpt_classifier.tables.corrections import ACTIONS


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("find-label-errors", __doc__)
    parser.add_argument("--crossfit", default="latest", help="a folder that crossfit wrote, or latest (default)")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="where latest looks (default: outputs)")
    what = "the table to write, a .csv; a page of that name is beside it (default: fixes.csv)"
    parser.add_argument("--out", type=Path, default=Path("fixes.csv"), help=what)
    what = "messages that are least like others (default: 10)"
    parser.add_argument("--outliers", type=int, default=10, metavar="N", help=what)
    what = "what the table says until you change it (default: keep)"
    parser.add_argument("--action", choices=ACTIONS, default="keep", help=what)
    parser.add_argument("--overwrite", action="store_true", help="replace a table that is there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    with readable_exit():
        out = options.out.expanduser()
        if out.suffix != ".csv":
            raise UserError(f"--out: expected a file ending in .csv, but it is {out}.")
        if out.exists() and not options.overwrite:
            raise UserError(f"--out: {out} is there, and may have your decisions. Name another, or add --overwrite.")
        from gpt_classifier.crossfitting import report  # with pandas

        report.find_and_write(report.newest(options.crossfit, options.outputs), out, options.outliers, options.action)
        print(f"{out} has them, and {out.with_suffix('.html')} is the page to open")
