"""Measure a fine-tuned checkpoint and write a page about it.

python scripts/evaluate.py --checkpoint latest
python scripts/evaluate.py --checkpoint outputs/…/best.ckpt --split all data=csv data.path=new.csv
"""

import argparse
import json
from pathlib import Path
from typing import Any

from gpt_classifier.config import readable_exit
from gpt_classifier.errors import UserError

CONF = Path(__file__).resolve().parents[1] / "conf"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="latest", help="a run's best.ckpt, or latest (default)")
    parser.add_argument("--weights", type=Path, help="the pretrained weights it builds on, if they were moved")
    parser.add_argument("--outputs", default="outputs", help="where latest looks for runs (default: outputs)")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="test", help="default: test")
    parser.add_argument("--calibrate", action="store_true", help="store the temperature that fits validation best")
    parser.add_argument("--text", help="the message to look inside (default: the most confident mistake)")
    parser.add_argument("--out", type=Path, help="folder (default: evaluation in the run's folder)")
    parser.add_argument(
        "overrides", nargs="*", help="other data as Hydra overrides, such as data=csv data.path=new.csv"
    )
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        import pandas as pd

        from gpt_classifier.inference import evaluation, messages, report
        from gpt_classifier.inference.text_classifier import TextClassifier, find_checkpoint, store_temperature

        path = find_checkpoint(options.checkpoint, Path(options.outputs))
        classifier = TextClassifier.from_checkpoint(path, weights=options.weights)
        frame = messages.labelled(path, options.overrides, CONF)
        chosen = frame if options.split == "all" else frame[frame["split"] == options.split]
        if chosen.empty:
            raise UserError(f"--split: there are no {options.split} messages.")
        reported = evaluation.predictions(classifier, chosen["text"].tolist(), chosen["label"].tolist())
        of_validation = frame[frame["split"] == "val"]
        validation = None
        if options.split == "test" and not of_validation.empty:
            texts, labels = of_validation["text"].tolist(), of_validation["label"].tolist()
            validation = evaluation.predictions(classifier, texts, labels)
        if options.calibrate:
            if validation is None:
                raise UserError("--calibrate: needs validation messages beside the test messages of --split test.")
            classifier.temperature = evaluation.fit_temperature(validation)
            store_temperature(path, classifier.temperature)
            print(f"temperature {classifier.temperature:.3f} is now in {path}")
        subject = report.Subject(
            classifier,
            reported,
            validation,
            title=f"Evaluation of {path.parent.parent.name or path.stem}",
            reported_on={"val": "validation messages", "train": "training messages", "all": "messages"}.get(
                options.split, "test messages"
            ),
            notes=messages.warnings(classifier, frame, options.split, path, bool(options.overrides)),
            origin=messages.origin(classifier, path, options.overrides),
            duplicates=messages.duplicates(frame),
            text=options.text,
        )
        page, numbers = report.render(subject)
        out = (options.out or path.parent.parent / "evaluation").expanduser()
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_text(page, encoding="utf-8")
        (out / "metrics.json").write_text(json.dumps(finite(numbers), indent=2) + "\n", encoding="utf-8")
        table = pd.DataFrame({"text": chosen["text"], "label": chosen["label"]})
        table["predicted_label"] = classifier.classes_[reported.predicted]
        probabilities = reported.probabilities(classifier.temperature)
        for i, name in enumerate(classifier.classes_):
            table[f"probability_{name}"] = probabilities[:, i]
        table.to_csv(out / "predictions.csv", index=False)
        for name, estimate in numbers["estimates"].items():
            print(f"{name:<10}{estimate['value']:8.4f}   95 % interval {estimate['low']:.4f} to {estimate['high']:.4f}")
        print(f"{out / 'report.html'} is the page to open")


def finite(content: Any) -> Any:
    from gpt_classifier.training.report import without_nan

    return without_nan(content)


if __name__ == "__main__":
    main()
