"""Classify texts with a fine-tuned checkpoint.

gpt-classifier predict --checkpoint latest --text 'Are we still on for lunch?'
gpt-classifier predict --input messages.csv --text-column body --output classified.csv
"""

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from gpt_classifier.commands.arguments import add_checkpoint, arguments_of, import_modules
from gpt_classifier.commands.deciding import add_decisions, check_decisions, decisions
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import UserError, printable


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("predict", __doc__)
    add_checkpoint(parser)
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts, each in quotation marks")
    parser.add_argument("--text", action="append", default=[], help="the same; repeat it for several")
    parser.add_argument(
        "--input",
        help=".csv, .tsv, .json, .jsonl, .ndjson or .txt with a text a line, each also with .gz; .parquet, .xlsx "
        "(extras: parquet, excel); a pattern such as 'parts/*.csv'; - for standard input",
    )
    parser.add_argument(
        "--input-format",
        choices=("csv", "tsv", "json", "jsonl", "txt", "parquet", "xlsx"),
        help="unless the ending tells",
    )
    parser.add_argument("--text-column", default="text", help="column or JSON key with the texts (default: text)")
    parser.add_argument("--sheet", help="of an .xlsx file (default: the first)")
    parser.add_argument("--encoding", default="utf-8", help="of input and output (default: utf-8)")
    parser.add_argument("--quoting", choices=("minimal", "none"), default="minimal", help="none: quotes are text")
    parser.add_argument(
        "--output", type=Path, help=".csv, .tsv, .jsonl or .txt, each also with .gz (default: standard output)"
    )
    parser.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="N",
        help="the predicted label and the next most probable ones, N in all",
    )
    parser.add_argument(
        "--threshold",
        metavar="CLASS=P",
        help="predict this class from this probability on and only then: spam=0.9; evaluate shows the cost",
    )
    add_decisions(parser)
    parser.add_argument("--labels-only", action="store_true", help="labels without probabilities")
    parser.add_argument(
        "--all-probabilities",
        action="store_true",
        default=None,
        help="a probability for each class; without it only where there are up to 20",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object with all probabilities for each text")
    parser.add_argument(
        "--spreadsheet-safe",
        action="store_true",
        help="of .csv and .tsv: put an apostrophe before cells that a spreadsheet would run as formulas",
    )
    parser.add_argument("--strict", action="store_true", help="fail if any row could not be classified")
    options = parser.parse_intermixed_args(arguments)
    options.text = [*options.texts, *options.text]
    if bool(options.text) == bool(options.input):
        parser.error("give either texts or --input FILE")
    if not all(text.strip() for text in options.text):
        parser.error("a text is empty")
    if options.top < 1:
        parser.error(f"--top: expected a whole number of at least 1, but it is {options.top}")
    if options.output and options.json:
        parser.error("--json is for standard output; the ending of --output tells its format")
    check_decisions(parser, options)
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    with readable_exit():
        from gpt_classifier.checkpoints import find_checkpoint
        from gpt_classifier.inference import files, writing
        from gpt_classifier.tables.reading import Style

        sources = files.inputs(options.input)
        kind = "txt" if options.text else files.input_kind(sources, options.input_format)
        output = options.output.expanduser() if options.output else None
        target = "jsonl" if options.json else writing.target_kind(output, kind, sources)
        if options.spreadsheet_safe and target not in ("csv", "tsv"):
            raise UserError(f"--spreadsheet-safe: expected an output of csv or tsv, but it is {target}. Leave it out.")
        path = find_checkpoint(options.checkpoint, options.outputs)
        with ExitStack() as stack:
            if options.text:
                columns, rows = ["text"], iter([files.Row({"text": text}, text) for text in options.text])
            else:
                style = Style(encoding=options.encoding, quoting=options.quoting, sheet=options.sheet)
                columns, rows = stack.enter_context(
                    files.opened_rows(sources, options.text_column, style, options.input_format)
                )
            from tqdm import tqdm  # once the input is known to be one: torch takes seconds

            from gpt_classifier.inference.opening import open_predictor

            import_modules(options.modules)
            predictor = open_predictor(path, options.weights, options.verify)
            print(f"checkpoint {path}", file=sys.stderr)
            if predictor.note:
                print(printable(predictor.note), file=sys.stderr)
            threshold = writing.threshold_of(options.threshold, predictor.classes) if options.threshold else None
            rule, predict_proba = decisions(options, path, predictor)
            began = time.perf_counter()
            written = stack.enter_context(writing.written(output, options.encoding))
            to_person = output is None and (bool(options.text) or sys.stdout.isatty())
            writer = writing.Writer(
                written,
                target,
                columns,
                predictor.classes,
                options.spreadsheet_safe,
                for_terminal=to_person,
                shown=writing.Shown(options.top, options.labels_only, options.all_probabilities, threshold, rule),
                whole_numbers=predictor.spec.whole_numbers,
            )
            bar = stack.enter_context(tqdm(unit=" messages", disable=not (output and sys.stderr.isatty())))
            count = writing.classify(rows, predict_proba, writer, bar.update, predictor.why_too_long)
        seconds = time.perf_counter() - began
        if output:
            rate = f"{count.rows:,} messages in {seconds:.1f} s, {count.rows / seconds:,.0f} a second"
            print(f"{rate}; they are in {output}", file=sys.stderr)
        if writer.unanswered:
            print(f"{writer.unanswered:,} of {count.rows:,} rows are left without an answer", file=sys.stderr)
        skipped = sum(count.skipped.values())
        if skipped:
            reasons = "; ".join(f"{number} times: {reason}" for reason, number in count.skipped.items())
            print(f"{skipped:,} of {count.rows:,} rows could not be classified. {printable(reasons)}", file=sys.stderr)
        if skipped and options.strict:
            raise SystemExit(1)
