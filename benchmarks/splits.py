"""Settings of gpt2-nano and scikit-learn's best over several splits of one data set, compared split by split.

python benchmarks/splits.py --data data=sms_spam data.path=SMSSpamCollection data.deduplicate=near
    --contenders "plain:" "adapted:data.adapt=train" "SVM:procedure=baseline procedure.family=characters"
    --splits 1,2,3,4,5 --seeds 1,2,3,4,5 --out benchmarks/results/splits.jsonl

A contender is a name and overrides of train.py, after recipe=own. Whatever is chosen is chosen on the validation
texts of a split; its test texts are measured once for each seed, at the best epoch. Pairs are means over seeds of the
same split; the first contender is compared with each other. `--train-sizes` repeats all of it with subsets of the
training texts. What is in the file already is not run again.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rows import add_row, read_rows

from gpt_classifier.config import compose
from gpt_classifier.device import prepare_process
from gpt_classifier.evaluation.baseline_run import run_baseline
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.run import train

Key = tuple[str, int | None, int, int]
"""Contender, number of training texts, split, seed."""


def run(overrides: list[str], cache: str, measure: str) -> dict[str, Any]:
    cfg = compose(["model=gpt2-nano", "recipe=own", *overrides, "run_dir=null", "callbacks=in_memory", "~logger"])
    choices = {"model": "gpt2-nano", "freeze": "last_block"}
    choices |= dict(option.split("=", 1) for option in overrides if option.startswith(("freeze=", "model=")))
    context = RunContext(folder=None, choices=choices, progress=False)
    cfg.cache.dir, cfg.evaluate = cache, measure
    if "procedure=baseline" in overrides:
        family = next((o.partition("=")[2] for o in overrides if o.startswith("procedure.family=")), "linear")
        found = run_baseline(cfg, context, family)
        return {"chosen": str(found.baseline), **found.measured}
    result = train(cfg, context)
    best = result.stages["best"]
    stacking = {"stacking": result.stacked} if result.stacked else {}
    return {
        "seconds": result.seconds["run"],
        **stacking,
        **{split: best[split] for split in ("val", "test") if split in best},
    }


def table(rows: dict[Key, dict[str, Any]], contenders: list[str], measure: str, metric: str) -> None:
    split_name = "val" if measure == "val" else "test"
    for size in sorted({key[1] for key in rows}, key=lambda n: n or 10**9):
        by_split: dict[str, dict[int, float]] = {}
        seeds: dict[str, list[float]] = {}
        for name in contenders:
            for split in sorted({key[2] for key in rows}):
                values = [100 * row[split_name][metric] for key, row in rows.items() if key[:3] == (name, size, split)]
                if values:
                    by_split.setdefault(name, {})[split] = mean(values)
                    seeds.setdefault(name, []).append(stdev(values) if len(values) > 1 else 0.0)
        for name, means in by_split.items():
            spread = stdev(means.values()) if len(means) > 1 else 0.0
            line = f"{size or 'all':>6} {name:24} {mean(means.values()):.2f} ± {spread:.2f} over splits"
            line += f", ± {mean(seeds[name]):.2f} over seeds"
            pairs = [by_split[contenders[0]][s] - value for s, value in means.items() if s in by_split[contenders[0]]]
            if name != contenders[0] and len(pairs) > 1:
                line += f"; {contenders[0]} is ahead by {mean(pairs):+.2f} ± {stdev(pairs) / len(pairs) ** 0.5:.2f}"
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="OVERRIDE", help="what all contenders share")
    parser.add_argument("--contenders", nargs="+", required=True, metavar="NAME:OVERRIDES")
    parser.add_argument("--splits", default="1,2,3,4,5", help="values of data.split_seed")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--train-sizes", default="all")
    parser.add_argument("--measure", choices=["final", "val"], default="final", help="val: to choose by")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--cache", default="outputs/cache/activations")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is added to")
    options = parser.parse_args()
    prepare_process(training=True)
    rows: dict[Key, dict[str, Any]] = {
        (row["overrides"], row["size"], row["split"], row["seed"]): row
        for row in read_rows(options.out)
        if row["data"] == options.data and row["measure"] == options.measure
    }
    contenders = dict(pair.split(":", 1) for pair in options.contenders)
    for size in [None if size == "all" else int(size) for size in options.train_sizes.split(",")]:
        for split in map(int, options.splits.split(",")):
            for overrides in contenders.values():
                given = overrides.split()
                several = "procedure=baseline" not in given
                for seed in list(map(int, options.seeds.split(",")))[: None if several else 1]:
                    if (overrides, size, split, seed) in rows:
                        continue
                    drawn = [f"data.split_seed={split}", f"seed={seed}"]
                    drawn += [f"data.train_size={size}"] if size else []
                    row = {"data": options.data, "measure": options.measure, "overrides": overrides, "size": size}
                    row |= {"split": split, "seed": seed}
                    row |= run([*options.data, *drawn, *given], options.cache, options.measure)
                    rows[overrides, size, split, seed] = row
                    add_row(options.out, row)
    names = {overrides: name for name, overrides in contenders.items()}
    named = {(names[key[0]], *key[1:]): row for key, row in rows.items() if key[0] in names}
    table(named, list(contenders), options.measure, options.metric)


if __name__ == "__main__":
    main()
