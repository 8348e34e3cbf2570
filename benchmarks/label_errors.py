"""Labels of a table are flipped, and looked for: how many of them are found, and what removing them is worth.

python benchmarks/label_errors.py --path messages.csv --seeds 1,2,3 --out benchmarks/results/label_errors.jsonl

For each seed a fifth of the messages is set aside with the labels that it has. Of the others 5 % get another label,
and confident learning looks for them in out-of-fold predictions of the model, and of a linear SVM in the same folds.
Measured are precision and recall of what is flagged, and the accuracy on the messages set aside after training with the
flipped labels, without what was flagged, with it relabelled, and with the labels as they were. Near-duplicates are
never both set aside and trained on. At the end the most suspicious of the labels as they are, unflipped, are listed.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rows import add_row

from gpt_classifier import TextClassifier, crossfit
from gpt_classifier.crossfitting.folds import inseparable
from gpt_classifier.crossfitting.label_errors import improbable_labels
from gpt_classifier.crossfitting.out_of_fold import OutOfFold
from gpt_classifier.data.sources import Table
from gpt_classifier.data.splits import split
from gpt_classifier.device import prepare_process


def flipped(labels: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Labels of which a part is replaced by another class, drawn evenly from the others."""
    draw, classes, noisy = np.random.default_rng(seed), np.unique(labels), labels.copy()
    for place in draw.permutation(len(labels))[: round(rate * len(labels))]:
        noisy[place] = draw.choice(classes[classes != labels[place]])
    return noisy


def flags(found: OutOfFold, wrong: np.ndarray) -> dict[str, Any]:
    places = [one.place for one in improbable_labels(found)]
    hits = int(wrong[places].sum())
    return {
        "flagged": len(places),
        "flipped": int(wrong.sum()),
        "precision": hits / max(1, len(places)),
        "recall": hits / int(wrong.sum()),
        "out_of_fold_accuracy": found.spread("accuracy").mean,
    }


def run(frame: pd.DataFrame, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    grouped = split(frame.assign(group=inseparable(frame), split=None), 0, 0.2, "grouped", seed)
    train, test = (grouped[grouped["split"] == name] for name in ("train", "test"))
    texts, true = train["text"].to_numpy(), train["label"].to_numpy()
    noisy = flipped(true, options.rate, seed)
    classifier = TextClassifier(
        options.model, seed=seed, cache=options.cache, progress=False, overrides=options.overrides
    )
    began = time.perf_counter()
    found = crossfit(texts, noisy, options.folds, classifier=classifier, baselines=["words"], split_seed=seed)
    row: dict[str, Any] = {"seed": seed, "rate": options.rate, "seconds": time.perf_counter() - began}
    row |= {"model": flags(found.model, noisy != true), "words": flags(found.baselines["words"], noisy != true)}
    suspects = improbable_labels(found.model)
    kept = np.ones(len(texts), dtype=bool)
    kept[[one.place for one in suspects]] = False
    relabelled = noisy.copy()
    for one in suspects:
        relabelled[one.place] = one.suggested
    ways = {"flipped": (texts, noisy), "removed": (texts[kept], noisy[kept])}
    ways |= {"relabelled": (texts, relabelled), "as they were": (texts, true)}
    for name, labelled in ways.items():
        row[f"accuracy, {name}"] = classifier.fit(*labelled).score(test["text"], test["label"])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="a table of texts and labels")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--rate", type=float, default=0.05, help="of labels that are flipped")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--model", default="gpt2-nano")
    parser.add_argument("--cache", default="outputs/cache/activations")
    parser.add_argument("--listed", type=int, default=10, help="suspects among the labels as they are; 0 for none")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is added to")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of the model")
    options = parser.parse_args()
    prepare_process(training=True)
    frame = Table(options.path, options.text_column, options.label_column).load().frame[["text", "label", "row"]]
    for seed in map(int, options.seeds.split(",")):
        row = run(frame, options, seed)
        add_row(options.out, row)
        print(json.dumps(row, indent=1), flush=True)
    if options.listed:
        classifier = TextClassifier(options.model, cache=options.cache, progress=False, overrides=options.overrides)
        found = crossfit(frame["text"].tolist(), frame["label"].tolist(), options.folds, classifier=classifier).model
        for one in improbable_labels(found)[: options.listed]:
            message = frame.iloc[one.place]
            print(f"row {message['row']}, {message['label']}: {one.why}: {' '.join(message['text'].split())}")


if __name__ == "__main__":
    main()
