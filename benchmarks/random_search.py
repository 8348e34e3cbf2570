"""The recipe for own data beside the best of some random settings, on validation alone, one seed.

python benchmarks/random_search.py --data clinc=DIR --sizes 151,1510 --out benchmarks/results/random_search.jsonl

DIR has train.csv and val.csv with the columns text and label; no test text is read. Every run has the same training
texts. What is in the file already is not run again.
"""

import argparse
import random
from pathlib import Path
from typing import Any

from rows import add_row, read_rows, tables_of
from splits import run

from gpt_classifier.device import prepare_process

STEPS = 2500  # that a trial may make; epochs are cut to that


def drawn(name: str, size: int, trial: int) -> list[str]:
    """Settings of a trial, the same whenever it is run."""
    chance = random.Random(f"{name} {size} {trial}")
    rate, batch = 10 ** chance.uniform(-3.5, -1.9), chance.choice([8, 16, 32])
    return [
        f"optimizer.lr={rate:.2e}",
        f"data.batch_size={batch}",
        f"trainer.max_epochs={min(chance.choice([3, 5, 10, 20]), max(3, STEPS * batch // size))}",
        f"optimizer.weight_decay={chance.choice([0.0, 0.01, 0.1])}",
        f"pooling={chance.choice(['max', 'max', 'mean'])}",
        f"head_rate={chance.choice([1.0, 0.3, 0.1, 0.03])}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--sizes", required=True, help="training texts")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--options", nargs="*", default=[], help="overrides of all runs")
    parser.add_argument("--cache", default="outputs/cache/activations")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is added to")
    options = parser.parse_args()
    prepare_process(training=True)
    known: dict[tuple[str, int, int], dict[str, Any]] = {
        (row["data"], row["size"], row["trial"]): row
        for row in read_rows(options.out)
        if row["options"] == options.options
    }
    for pair in options.data:
        name, _, folder = pair.partition("=")
        for size in map(int, options.sizes.split(",")):
            shared = [*tables_of(folder, "train", "val"), "seed=1", "data.subset_seed=1", f"data.train_size={size}"]
            for trial in range(options.trials + 1):  # trial 0 is the recipe
                if (name, size, trial) in known:
                    continue
                settings = drawn(name, size, trial) if trial else []
                found = run([*shared, "monitor=accuracy", *options.options, *settings], options.cache, "val")
                row = {"data": name, "size": size, "trial": trial, "settings": settings, "options": options.options}
                known[name, size, trial] = row | {"seconds": found["seconds"], "val": found["val"]}
                add_row(options.out, known[name, size, trial])
            rows = [known[name, size, trial] for trial in range(options.trials + 1)]
            best = max(rows[1:], key=lambda row: row["val"]["accuracy"])
            seconds = sum(row["seconds"] for row in rows)
            print(
                f"{name} {size}: the recipe {rows[0]['val']['accuracy']:.2%}, the best of {options.trials} "
                f"{best['val']['accuracy']:.2%} ({' '.join(best['settings'])}), {seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
