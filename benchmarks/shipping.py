"""Prediction as its users meet it: the same classifier in each form that it ships in, side by side.

python benchmarks/shipping.py --checkpoint outputs/runs/…/checkpoints/best.ckpt --texts outputs/runs/…/splits/test.csv

Prints a Markdown table. Each contender is a process of its own, several times in turn, and the median is told: from the
start of Python to the first answer ("cold start"), the largest resident set, and messages a second one at a time, 32 at
a time and all at once. OMP_NUM_THREADS sets the threads of all of them. A further contender is an entry of CONTENDERS.

The classes of transformers take part where they can express the classifier, such as one of
train.py pooling=last_token bag_of_tokens=false data.truncate=head. optimum needs an older transformers than this
package, so that it lives in an environment of its own: --optimum PYTHON names its interpreter.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

Predict = Callable[[Sequence[str]], Any]
"""Probabilities `(N, C)` of N texts."""


@dataclass(frozen=True)
class Contender:
    """One form of the classifier.

    Args:
        name: in the table.
        prepare: from a checkpoint and an empty folder's path what `open` is given, made before anything is timed.
        open: imports what it needs and opens the classifier.
        elsewhere: whether that is in the environment of --optimum, which makes its graph of what `prepare` wrote.
    """

    name: str
    prepare: Callable[[Path, Path], Path]
    open: Callable[[Path], Predict]
    elsewhere: bool = False


def _bundle(checkpoint: Path, folder: Path) -> Path:
    from gpt_classifier import TextClassifier

    TextClassifier.load(checkpoint).save(folder)
    return folder


def _onnx(int8: bool) -> Callable[[Path, Path], Path]:
    def prepare(checkpoint: Path, folder: Path) -> Path:
        from gpt_classifier import TextClassifier
        from gpt_classifier.export.onnx import export

        export(TextClassifier.load(checkpoint), folder, int8)
        return folder

    return prepare


def _loaded(precision: str) -> Callable[[Path], Predict]:
    def open_classifier(folder: Path) -> Predict:
        from gpt_classifier import TextClassifier

        return TextClassifier.load(folder, device="cpu", precision=precision).predict_proba

    return open_classifier


def _hugging_face(checkpoint: Path, folder: Path) -> Path:
    from gpt_classifier import TextClassifier
    from gpt_classifier.export.hugging_face import export

    export(TextClassifier.load(checkpoint, device="cpu", precision="32-true"), folder)
    return folder


TO_ONNX = """
import sys
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer

ORTModelForSequenceClassification.from_pretrained(sys.argv[1], export=True).save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
"""


def _pipeline(folder: Path) -> Predict:
    from transformers import pipeline

    return _of_pipeline(pipeline("text-classification", model=str(folder), device="cpu"))


def _optimum_pipeline(folder: Path) -> Predict:
    from optimum.onnxruntime import ORTModelForSequenceClassification, pipeline
    from transformers import AutoTokenizer

    model, tokenizer = (kind.from_pretrained(folder) for kind in (ORTModelForSequenceClassification, AutoTokenizer))
    return _of_pipeline(pipeline("text-classification", model=model, tokenizer=tokenizer))


def _of_pipeline(classify: Any) -> Predict:
    def predict(texts: Sequence[str]) -> list[list[float]]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # as much less padding as a user can have
        found = classify([texts[i] for i in order], batch_size=32, truncation=True, top_k=None)
        rows: list[list[float]] = [[]] * len(texts)
        for i, scores in zip(order, found, strict=True):
            rows[i] = [one["score"] for one in sorted(scores, key=lambda one: one["label"])]
        return rows

    return predict


CONTENDERS = (
    Contender("torch, float32", _bundle, _loaded("32-true")),
    Contender("torch, bfloat16", _bundle, _loaded("bf16-mixed")),
    Contender("ONNX, float32", _onnx(False), _loaded("auto")),
    Contender("ONNX, int8", _onnx(True), _loaded("auto")),
    Contender("transformers' pipeline", _hugging_face, _pipeline),
    Contender("its pipeline with optimum", _hugging_face, _optimum_pipeline, elsewhere=True),
)
"""The first one is what the answers of the others are compared with."""


def measured(contender: Contender, folder: Path, texts: list[str], many: int, began: float) -> dict[str, Any]:
    """What one process finds.

    Args:
        contender: what is measured.
        folder: that it prepared.
        texts: to classify.
        many: texts of the last part; those given are repeated.
        began: when the process was started, `time.time()`.
    """
    predict = contender.open(folder)
    predict(texts[:1])
    found: dict[str, Any] = {"cold_start_s": time.time() - began}
    sizes = {"one_per_s": (1, 100), "batch_per_s": (32, 320), "many_per_s": (many, many)}
    for name, (size, number) in sizes.items():
        some = (texts * (number // len(texts) + 1))[:number]
        start = time.perf_counter()
        for first in range(0, number, size):
            predict(some[first : first + size])
        found[name] = number / (time.perf_counter() - start)
    found["probabilities"] = [[float(value) for value in row] for row in predict(texts)]
    return found


def table(found: dict[str, list[dict[str, Any]]], folders: dict[str, Path], right: Callable[[Any], float]) -> str:
    """The Markdown table, medians over rounds."""
    columns = (
        "size, MB",
        "cold start, s",
        "peak memory, GB",
        "one at a time, /s",
        "32 at a time, /s",
        "all at once, /s",
    )
    lines = [f"| | {' | '.join(columns)} | accuracy | other labels | apart |", "|---" * (len(columns) + 4) + "|"]
    first = next(iter(found.values()))[0]["probabilities"]
    for name, rounds in found.items():
        middle = {
            key: statistics.median(one[key] for one in rounds)
            for key in ("cold_start_s", "peak_gb", "one_per_s", "batch_per_s", "many_per_s")
        }
        size = sum(file.stat().st_size for file in folders[name].rglob("*") if file.is_file()) / 1e6
        probabilities = rounds[0]["probabilities"]
        pairs = list(zip(probabilities, first, strict=True))
        others = sum(row.index(max(row)) != same.index(max(same)) for row, same in pairs)
        apart = max(abs(a - b) for row, same in pairs for a, b in zip(row, same, strict=True))
        cells = [
            *(f"{size:.1f}", f"{middle['cold_start_s']:.2f}", f"{middle['peak_gb']:.2f}"),
            *(f"{middle[key]:,.0f}" for key in ("one_per_s", "batch_per_s", "many_per_s")),
            *(f"{right(probabilities):.2%}", str(others), f"{apart:.1g}"),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def prepared(checkpoint: Path, place: Path, optimum: str | None) -> dict[str, Path]:
    """What each contender opens; a contender that can't express the classifier is left out, and why is told."""
    from gpt_classifier.errors import UserError

    folders: dict[str, Path] = {}
    for i, one in enumerate(CONTENDERS):
        if one.elsewhere and not optimum:
            print(f"{one.name}: left out, as --optimum names no environment", file=sys.stderr)
            continue
        try:
            folder = one.prepare(checkpoint, place / str(i))
            if one.elsewhere:
                source, folder = folder, place / f"{i}-onnx"
                subprocess.run([optimum, "-c", TO_ONNX, source, folder], check=True, stdout=subprocess.DEVNULL)
            folders[one.name] = folder
        except UserError as error:
            print(f"{one.name}: left out. {error}", file=sys.stderr)
    return folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a CSV with the columns text and label")
    parser.add_argument("--most", type=int, default=1200, help="texts of the file that are read (default: 1200)")
    parser.add_argument("--many", type=int, default=4000, help="texts that are given all at once (default: 4000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--optimum", metavar="PYTHON", help="of an environment with optimum-onnx[onnxruntime]")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # what a process of this script is told
    options = parser.parse_args()
    if options.measure:
        told = json.loads(options.measure.read_text())
        contender = next(one for one in CONTENDERS if one.name == told["name"])
        print(json.dumps(measured(contender, Path(told["folder"]), told["texts"], told["many"], told["began"])))
        return
    import pandas as pd

    sys.path.insert(0, str(HERE))
    from compare import measure

    from gpt_classifier import TextClassifier

    frame = pd.read_csv(options.texts, keep_default_na=False, dtype=str)[: options.most]
    classes = [str(name) for name in TextClassifier.load(options.checkpoint).classes_]
    labels = [classes.index(label) for label in frame["label"]]
    elsewhere = {one.name: one.elsewhere for one in CONTENDERS}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        folders = prepared(options.checkpoint, place, options.optimum)
        found: dict[str, list[dict[str, Any]]] = {one.name: [] for one in CONTENDERS}
        for _ in range(options.rounds):
            for name, rounds in found.items():
                told = {"name": name, "folder": str(folders[name]), "texts": frame["text"].tolist()}
                (place / "told.json").write_text(json.dumps({**told, "many": options.many, "began": time.time()}))
                given = ("--checkpoint", str(options.checkpoint), "--texts", str(options.texts))
                python = options.optimum if elsewhere[name] else sys.executable
                process = measure(__file__, *given, "--measure", str(place / "told.json"), python=python)
                rounds.append({**process.json(), "peak_gb": process.gb})
        print(
            table(
                found,
                folders,
                lambda rows: sum(row.index(max(row)) == y for row, y in zip(rows, labels, strict=True)) / len(labels),
            )
        )


if __name__ == "__main__":
    main()
