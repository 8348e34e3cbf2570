"""Measure a fine-tuned checkpoint and write a page about it.

gpt-classifier evaluate --checkpoint latest
gpt-classifier evaluate --checkpoint outputs/…/best.ckpt --split all data=csv data.path=new.csv
"""

import argparse
import shlex
import sys
from datetime import datetime
from pathlib import Path

from gpt_classifier import __version__
from gpt_classifier.commands.arguments import add_checkpoint, add_overrides, arguments_of, import_modules, started_as
from gpt_classifier.commands.deciding import add_cost
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import UserError, printable
from gpt_classifier.paths import near


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("evaluate", __doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), help="default: test of the run's messages, all of others"
    )
    parser.add_argument("--calibrate", action="store_true", help="store the temperature that fits validation best")
    parser.add_argument("--positive", help="of two classes the one that is looked for (default: the second)")
    add_cost(parser)
    parser.add_argument("--text", help="the message to look inside (default: the most confident mistake)")
    parser.add_argument("--out", type=Path, help="folder (default: evaluation in the run's folder)")
    add_overrides(parser, "other data as Hydra overrides, such as data=csv data.path=new.csv")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        typed = f"{started_as('evaluate')} {shlex.join(sys.argv[1:] if arguments is None else arguments)}"
        from gpt_classifier.checkpoints import find_checkpoint, run_folder

        path = find_checkpoint(options.checkpoint, options.outputs)
        print(f"checkpoint {path}", file=sys.stderr)  # which is the latest, before seconds of imports
        if options.overrides:
            from gpt_classifier.config import compose
            from gpt_classifier.look import look_at_messages

            whole = options.split in (None, "all")
            look_at_messages(compose(options.overrides, config_dir=options.config_dir), classes=not whole)
        from gpt_classifier.artifact import store_temperature
        from gpt_classifier.data.sources import EXTRA, extra_columns
        from gpt_classifier.decisions.costs import cost_matrix
        from gpt_classifier.device import prepare_process
        from gpt_classifier.evaluation import abstaining, messages, metrics, page, reference
        from gpt_classifier.inference.predictor import Predictor

        prepare_process()
        import_modules(options.modules)
        predictor = Predictor.open(path, weights=options.weights, verify=options.verify)
        split = options.split or ("all" if options.overrides else "test")
        frame = messages.labelled(path, options.overrides, split == "all", options.config_dir)
        chosen = frame if split == "all" else frame[frame["split"] == split]
        if chosen.empty:
            raise UserError(f"--split: there are no {split} messages.")
        positive = positive_class(options.positive, predictor.classes)
        out = (options.out or run_folder(path) / "evaluation").expanduser()
        if out.resolve() == run_folder(path).resolve():
            raise UserError("--out: that is the run's own folder. Name another, such as one below it.")
        reported = metrics.predictions(predictor, chosen["text"].tolist(), chosen["label"].tolist())
        of_validation = frame[frame["split"] == "val"]
        validation = None
        if split == "test" and not of_validation.empty:
            texts, labels = of_validation["text"].tolist(), of_validation["label"].tolist()
            validation = metrics.predictions(predictor, texts, labels)
        if options.calibrate:
            if validation is None:
                raise UserError("--calibrate: needs validation messages beside the test messages of --split test.")
            temperature = metrics.fit_temperature(validation)
            if temperature is None:
                raise UserError("--calibrate: the validation messages have too few mistakes to fit a temperature on.")
            predictor.temperature = temperature
            store_temperature(path, predictor.temperature)
            print(f"temperature {predictor.temperature:.3f} is now in {path}")
        subject = page.Subject(
            predictor,
            reported,
            validation,
            title=f"Evaluation of {run_folder(path).name or path.stem}",
            reported_on={"val": "validation messages", "train": "training messages", "all": "messages"}.get(
                split, "test messages"
            ),
            facts=[
                messages.data_name(path, options.overrides, split),
                f"{datetime.now():%Y-%m-%d %H:%M}",
                f"gpt-classifier {__version__}",
            ],
            notes=messages.warnings(predictor, chosen, path, bool(options.overrides)),
            origin=[("command", typed), *messages.origin(predictor, path, options.overrides)],
            duplicates="" if options.overrides else messages.duplicates(frame),
            text=options.text,
            positive=positive,
            tests=abstaining.candidates(messages.run_settings(path)),
            costs=cost_matrix(options.cost, predictor.classes) if options.cost else None,
            others={name.removeprefix(EXTRA): chosen[name].tolist() for name in extra_columns(chosen)},
        )
        run = messages.run_splits_if_there(path) if options.overrides else frame
        fresh = split == "test" or bool(options.overrides)
        subject.references, subject.reference_note = reference.references(reported, run, fresh)
        numbers = page.write(out, subject, chosen)
        if predictor.note:
            print(printable(predictor.note))
        for name, estimate in numbers["estimates"].items():
            print(f"{name:<10}{estimate['value']:8.4f}   95 % interval {estimate['low']:.4f} to {estimate['high']:.4f}")
        for one in subject.references:
            print(f"{one.name:<20}accuracy {one.accuracy:.4f}, macro F1 {one.macro_f1:.4f}: {one.how}")
        print(f"{near(out / 'report.html')} is the page to open")


def positive_class(name: str | None, classes: list[str]) -> int:
    if name is None:
        return 1
    if name not in classes:
        raise UserError(f"--positive: there is no class {name!r}; there are: {', '.join(classes[:20])}.")
    return classes.index(name)
