"""What pretraining is worth: gpt2-nano pretrained and random, beside scikit-learn, on the real SMS messages.

python benchmarks/accuracy.py --sms SMSSpamCollection --out benchmarks/results --tables settings,curve

Everything that is chosen (learning rates, and what scikit-learn's models have) is chosen by validation accuracy, ties
by the lower loss or the simpler model. Test accuracy is read once, at the epoch with the best validation accuracy.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd

from gpt_classifier.evaluation.baselines import fit_baselines

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "src" / "gpt_classifier" / "assets" / "gpt2-nano"
SPLITS = {"the chapter's split": ["data.quoting=minimal"], "without near duplicates": ["data.deduplicate=near"]}
SPLIT_NAMES = ("train", "val", "test")
FREEZE = ("head_only", "last_block", "last_two_blocks", "none")
RATES = {  # wide enough for each that its best one is not at the end
    "head_only": (3e-3, 1e-2, 3e-2, 1e-1),
    "last_block": (3e-4, 1e-3, 3e-3, 1e-2),
    "last_two_blocks": (3e-4, 1e-3, 3e-3, 1e-2),
    "none": (1e-4, 3e-4, 1e-3, 3e-3),
}
CURVE_SPLIT = "the chapter's split"  # the other has fewer than 1,045 training messages
SEEDS = (1, 2, 3, 4, 5)
SIZES = (16, 32, 64, 128, 256, 512, 1045)
STEPS = 650  # of every training of the curve, as many as five epochs over 1,045 messages have

Run = dict[str, Any]


class Trainer:
    """Runs `train.py -m` and reads what its runs left.

    Args:
        sms: the real SMS Spam Collection.
        folder: for run folders; a sweep that is already there, of the same weights, is not run again.
    """

    def __init__(self, sms: Path, folder: Path) -> None:
        self.sms = sms
        self.folder = folder

    def sweep(self, name: str, *overrides: str) -> list[Run]:
        sources = [*overrides, NANO.joinpath("model.safetensors").read_bytes()]
        folder = self.folder / f"{name}-{hashlib.sha256(repr(sources).encode()).hexdigest()[:8]}"
        done = folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted sweep left
            command = [sys.executable, str(ROOT / "train.py"), "-m", "model=gpt2-nano", "scheduler=cosine"]
            command += ["evaluate=final"]  # the winner is chosen on validation, by whoever reads them
            places = [f"data.path={self.sms}", f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra:job.num}"]
            environment = {**os.environ, "GPT_CLASSIFIER_CACHE": str(self.folder / "cache")}
            with (self.folder / f"{name}.log").open("w") as log:
                subprocess.run([*command, *places, *overrides], check=True, stdout=log, stderr=log, env=environment)
            done.touch()
        paths = sorted(folder.glob("*/metrics.json"), key=lambda path: int(path.parent.name))
        return [{**json.loads(path.read_text()), "folder": path.parent} for path in paths]


def by_validation(run: Run) -> tuple[float, float]:
    return run["best"]["val"]["accuracy"], -run["best"]["val"]["loss"]


def listed(values: Any) -> str:
    return ",".join(map(str, values))


def settings(trainer: Trainer) -> list[dict[str, Any]]:
    """Every freezing, pretrained and random, at its best learning rate, over all seeds, on both splits."""
    rows = []
    for split, data in SPLITS.items():
        some_run: Run = {}
        for freeze in FREEZE:
            for weights in ("pretrained", "random"):
                common = [f"freeze={freeze}", f"model.weights={weights}", *data]
                name = f"{split.split()[-1]}-{freeze}-{weights}"
                tried = trainer.sweep(f"{name}-rates", f"optimizer.lr={listed(RATES[freeze])}", "seed=123", *common)
                lr = max(tried, key=by_validation)["settings"]["optimizer.lr"]
                runs = trainer.sweep(f"{name}-seeds", f"optimizer.lr={lr}", f"seed={listed(SEEDS)}", *common)
                rows.append(
                    {
                        "split": split,
                        "contender": f"gpt2-nano, {weights}, {freeze}",
                        "chosen": f"lr {lr:g}",
                        **accuracies(
                            [(run["best"]["val"]["accuracy"], run["best"]["test"]["accuracy"]) for run in runs]
                        ),
                    }
                )
                print(rows[-1], flush=True)
                some_run = runs[0]
        for name, chosen, val, test in baselines(some_run["folder"]):
            rows.append({"split": split, "contender": name, "chosen": chosen, **accuracies([(val, test)])})
            print(rows[-1], flush=True)
    return rows


def accuracies(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    val, test = (list(values) for values in zip(*pairs, strict=True))
    return {
        "val": mean(val),
        "test": mean(test),
        "test_sd": stdev(test) if len(test) > 1 else None,
        "tests": test,
    }


def baselines(folder: Path) -> Iterator[tuple[str, str, float, float]]:
    """scikit-learn's models on a run's splits: name, what validation chose, validation and test accuracy."""
    frames = [pd.read_csv(folder / "splits" / f"{split}.csv", keep_default_na=False) for split in SPLIT_NAMES]
    train, val, test = ((frame["text"], frame["label"]) for frame in frames)
    for best in fit_baselines(train, val):
        yield best.name, best.chosen, best.val_accuracy, best.model.score(*test)


def curve(trainer: Trainer, rows: list[dict[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """Test accuracy by contender and number of training messages, one for each subset and seed.

    gpt2-nano has the learning rate that was chosen with all messages;
    scikit-learn's models are chosen anew for each subset. All are chosen on the whole validation set, which is larger
    than the smaller subsets: what it adds, it adds to all of them.
    """
    data = SPLITS[CURVE_SPLIT]
    found: dict[str, dict[int, list[float]]] = {}
    for size in SIZES:
        epochs = round(STEPS * 8 / size)
        common = [
            f"data.train_size={size}",
            "data.subset_seed=${seed}",
            f"seed={listed(SEEDS)}",
            f"trainer.max_epochs={epochs}",
            f"+trainer.check_val_every_n_epoch={max(1, epochs // 10)}",
            "freeze=last_block",
        ]
        for weights in ("pretrained", "random"):
            name = f"gpt2-nano, {weights}, last_block"
            row = next(row for row in rows if row["contender"] == name and row["split"] == CURVE_SPLIT)
            rate = row["chosen"].removeprefix("lr ")
            common_here = [f"model.weights={weights}", f"optimizer.lr={rate}", *common, *data]
            runs = trainer.sweep(f"curve-{size}-{weights}", *common_here)
            found.setdefault(name, {})[size] = [run["best"]["test"]["accuracy"] for run in runs]
            if weights == "pretrained":
                for run in runs if size < max(SIZES) else runs[:1]:
                    for baseline, _, _, test in baselines(run["folder"]):
                        found.setdefault(baseline, {}).setdefault(size, []).append(test)
        print(size, {name: f"{mean(values[size]):.2%}" for name, values in found.items()}, flush=True)
    return found


def draw(found: dict[str, dict[int, list[float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    colors = iter(("#4477aa", "#66aa88", "#222222"))
    for name, points in found.items():
        if name == "majority class":
            continue
        color = "#cc6633" if name.startswith("gpt2-nano") else next(colors)
        line = "--" if "random" in name else "-"
        sizes = sorted(points)
        means = [100 * mean(points[size]) for size in sizes]
        spread = [100 * stdev(points[size]) if len(points[size]) > 1 else 0 for size in sizes]
        axes.errorbar(sizes, means, yerr=spread, label=name, color=color, linestyle=line, marker="o", ms=4, capsize=3)
    axes.set_xscale("log")
    axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axes.minorticks_off()
    axes.set_xlabel("training messages")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=150)


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = []
    for split in SPLITS:
        lines += [f"\n{split}\n", "| | chosen on validation | validation | test |", "|---|---|---|---|"]
        for row in rows:
            if row["split"] == split:
                spread = "" if row["test_sd"] is None else f" ± {100 * row['test_sd']:.2f}"
                cells = (row["contender"], row["chosen"], f"{row['val']:.2%}", f"{row['test']:.2%}{spread}")
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sms", type=Path, required=True, help="the file SMSSpamCollection")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "benchmarks" / "accuracy")
    parser.add_argument("--tables", default="settings,curve")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(options.sms.resolve(), options.out.resolve())
    results = options.out / "accuracy.json"
    found: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    if "settings" in options.tables:
        found["settings"] = settings(trainer)
        results.write_text(json.dumps(found, indent=2))
        print(markdown(found["settings"]))
    if "curve" in options.tables:
        if "settings" not in found:
            parser.error("--tables curve needs the learning rates that --tables settings finds")
        found["curve"] = curve(trainer, found["settings"])
        results.write_text(json.dumps(found, indent=2))
        draw(found["curve"], options.out / "learning_curve.png")


if __name__ == "__main__":
    main()
