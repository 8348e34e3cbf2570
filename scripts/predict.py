"""Classify texts with a fine-tuned checkpoint.

python scripts/predict.py --checkpoint latest --text 'Are we still on for lunch?'
python scripts/predict.py --checkpoint outputs/…/best.ckpt --file messages.txt
"""

import argparse
import json
import sys
from pathlib import Path

from gpt_classifier.config import readable_exit
from gpt_classifier.errors import UserError


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="latest", help="a run's best.ckpt, or latest (default)")
    parser.add_argument("--weights", type=Path, help="the pretrained weights it builds on, if they were moved")
    parser.add_argument("--outputs", default="outputs", help="where latest looks for runs (default: outputs)")
    parser.add_argument("--text", action="append", default=[], help="a text; repeat it for several")
    parser.add_argument("--file", help="a UTF-8 file with a text a line; - reads standard input")
    parser.add_argument("--json", action="store_true", help="print an object with all probabilities for each text")
    return parser.parse_args(arguments)


def texts_of(options: argparse.Namespace) -> list[str]:
    texts = list(options.text)
    if options.file:
        try:
            content = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
            lines = content.decode("utf-8-sig").replace("\r", "\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--file: expected a UTF-8 text file with a text a line, but: {error}.") from error
        texts += [line for line in lines if line.strip()]
    if not texts:
        raise UserError("Nothing to classify: give --text '…' or --file FILE.")
    return texts


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        texts = texts_of(options)
        from gpt_classifier.device import best_device
        from gpt_classifier.inference.predictor import Predictor, latest_checkpoint

        path = latest_checkpoint(Path(options.outputs)) if options.checkpoint == "latest" else Path(options.checkpoint)
        predictor = Predictor.load(path.expanduser(), best_device(), options.weights)
        print(f"checkpoint {path}", file=sys.stderr)
        if predictor.note:
            print(predictor.note, file=sys.stderr)
        for text, probabilities in zip(texts, predictor.predict_proba(texts).tolist(), strict=True):
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            label = predictor.class_names[best]
            if options.json:
                by_class = dict(zip(predictor.class_names, probabilities, strict=True))
                print(json.dumps({"label": label, "probabilities": by_class, "text": text}, ensure_ascii=False))
            else:
                print(f"{label}\t{probabilities[best]:.4f}\t{' '.join(text.split())}")


if __name__ == "__main__":
    main()
