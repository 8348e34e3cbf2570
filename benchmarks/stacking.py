"""with_ngrams=true beside the model alone, its n-grams alone, and scikit-learn's best: split by split, on test once.

python benchmarks/stacking.py --data data=sms_spam data.path=SMSSpamCollection data.deduplicate=near
    --splits 1,2,3,4,5 --seeds 1 --out benchmarks/results/stacking.jsonl

One run gives three of the rows: the model alone, what its n-grams alone would say, and both. The fourth is the linear
model that validation chooses among all of scikit-learn's (procedure=baseline). What is in the file already is not run
again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rows import add_row, read_rows
from splits import run

from gpt_classifier.device import prepare_process

BOTH, MODEL, NGRAMS, LINEAR = "both", "model alone", "n-grams alone", "scikit-learn's best"
PARTS = {BOTH: "joined", MODEL: "model", NGRAMS: "ngrams"}


def table(rows: Sequence[dict[str, Any]], metric: str) -> None:
    """Means over splits and seeds, and how far both are ahead of each other contender of the same split and seed."""
    found: dict[str, list[float]] = {
        name: [100 * row["test"][part][metric] for row in rows] for name, part in PARTS.items()
    }
    if all("linear" in row for row in rows):
        found[LINEAR] = [100 * row["linear"][metric] for row in rows]
    for name, values in found.items():
        spread = stdev(values) if len(values) > 1 else 0.0
        ahead = [both - value for both, value in zip(found[BOTH], values, strict=True)]
        line = f"{metric:9} {name:20} {mean(values):.2f} ± {spread:.2f}"
        if name != BOTH and len(values) > 1:
            line += f"; both are ahead by {mean(ahead):+.2f} ± {stdev(ahead) / len(ahead) ** 0.5:.2f}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="OVERRIDE", help="of train.py, after recipe=own")
    parser.add_argument("--splits", default="1,2,3,4,5", help="values of data.split_seed")
    parser.add_argument("--seeds", default="1", help="values of seed")
    parser.add_argument("--no-linear", action="store_true", help="leave out scikit-learn's best")
    parser.add_argument("--cache", default="outputs/cache/activations")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is added to")
    options = parser.parse_args()
    prepare_process(training=True)
    rows = {(row["split"], row["seed"]): row for row in read_rows(options.out) if row["data"] == options.data}
    for split in map(int, options.splits.split(",")):
        for seed in map(int, options.seeds.split(",")):
            if (split, seed) in rows:
                continue
            drawn = [*options.data, f"data.split_seed={split}", f"seed={seed}"]
            stacked = run([*drawn, "with_ngrams=true"], options.cache, "final")
            row = {"data": options.data, "split": split, "seed": seed, "seconds": stacked["seconds"]}
            row |= stacked["stacking"]
            if not options.no_linear:  # which has no seed
                known = next(
                    (row["linear"] for row in rows.values() if row["split"] == split and "linear" in row), None
                )
                row["linear"] = known or run([*drawn, "procedure=baseline"], options.cache, "final")["test"]
            rows[split, seed] = row
            add_row(options.out, row)
            print(
                split, seed, {name: f"{row['test'][part]['accuracy']:.2%}" for name, part in PARTS.items()}, flush=True
            )
    for metric in ("accuracy", "macro_f1"):
        table(list(rows.values()), metric)


if __name__ == "__main__":
    main()
