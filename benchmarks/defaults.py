"""The default recipe beside a tuned linear model, on tables of labelled texts.

python benchmarks/defaults.py --data clinc=DIR --sizes 1510,all --seeds 1,2,3 --out benchmarks/results/defaults.jsonl

DIR has train.csv, val.csv and test.csv with the columns text and label. The linear model is a LinearSVC on TF-IDF of
words or of characters, whose kind and C validation chooses; both models are measured once on the whole test set.
`--options` adds overrides for the fine-tuned model, such as freeze=none.
"""

import argparse
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd
from rows import add_row, tables_of
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from gpt_classifier.config import compose
from gpt_classifier.data.prepare import subset_train
from gpt_classifier.device import prepare_process
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.run import train

STRENGTHS = (0.1, 1.0, 10.0)
KINDS: tuple[tuple[str, tuple[int, int]], ...] = (("char_wb", (2, 5)), ("word", (1, 2)))


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The three splits, values as they are written."""
    return {
        split: pd.read_csv(folder / f"{split}.csv", dtype=str, keep_default_na=False)
        for split in ("train", "val", "test")
    }


def linear(folder: Path, size: int | None, seed: int) -> dict[str, Any]:
    """The linear model that validation chooses."""
    began = time.perf_counter()
    data = tables(folder)
    training = subset_train(data["train"].assign(split="train"), size, seed)
    best: tuple[float, Any] = (-1.0, None)
    for kind, lengths in KINDS:
        for strength in STRENGTHS:
            model = make_pipeline(
                TfidfVectorizer(analyzer=kind, ngram_range=lengths, sublinear_tf=True), LinearSVC(C=strength)
            ).fit(training["text"], training["label"])
            accuracy = model.score(data["val"]["text"], data["val"]["label"])
            if accuracy > best[0]:
                best = (accuracy, model)
    predicted = best[1].predict(data["test"]["text"])
    truth = data["test"]["label"]
    return {
        "accuracy": float((predicted == truth).mean()),
        "macro_f1": float(f1_score(truth, predicted, average="macro")),
        "seconds": time.perf_counter() - began,
    }


def default(folder: Path, size: int | None, seed: int, options: list[str]) -> dict[str, Any]:
    """The default recipe; `options` are overrides."""
    overrides = [*tables_of(folder, "train", "val", "test"), "callbacks=in_memory", "~logger", "cache.dir=null"]
    overrides += [f"seed={seed}", f"data.subset_seed={seed}", *([f"data.train_size={size}"] if size else [])]
    cfg = compose(["model=gpt2-nano", *overrides, "run_dir=null", *options])
    choices = {"model": "gpt2-nano", "freeze": "last_block"}
    choices |= dict(option.split("=") for option in options if option.startswith(("freeze=", "model=")))
    result = train(cfg, RunContext(folder=None, choices=choices, progress=False))
    best = result.stages["best"]
    return {
        "accuracy": best["test"]["accuracy"],
        "macro_f1": best["test"]["macro_f1"],
        "seconds": result.seconds["run"],
        "epoch": best["epoch"],
        "steps": result.stages["last"]["step"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--sizes", default="100,1000,all", help="training texts; all for every one")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--options", nargs="*", default=[], help="overrides for the fine-tuned model")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is added to")
    options = parser.parse_args()
    prepare_process(training=True)
    for pair in options.data:
        name, _, folder = pair.partition("=")
        for size in [None if size == "all" else int(size) for size in options.sizes.split(",")]:
            found: dict[str, list[dict[str, Any]]] = {"linear": [], "default": []}
            for seed in map(int, options.seeds.split(",")):
                if size is not None or not found["linear"]:  # all texts are the same ones for every seed
                    found["linear"].append(linear(Path(folder), size, seed))
                found["default"].append(default(Path(folder), size, seed, options.options))
            add_row(options.out, {"data": name, "size": size or "all", "options": options.options, **found})
            shown = []
            for who, rows in found.items():
                for metric in ("accuracy", "macro_f1"):
                    values = [100 * row[metric] for row in rows]
                    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
                    shown.append(f"{who} {metric} {mean(values):.1f}{spread}")
                shown.append(f"{mean(row['seconds'] for row in rows):.0f} s")
            print(f"{name} {size or 'all'}: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
