"""An ensemble of gpt2-nanos into one: does a student learn more from its teachers than from the labels?

python benchmarks/distil.py --sms SMSSpamCollection --out outputs/benchmarks/distil

The chapter's split of the real messages. Teachers: everything trained, on the labels. Students: the last block, on the
labels; on the teachers' probabilities of the same training messages; and on those of the training messages and of the
ham that undersampling leaves out, without what equals a validation or test message but for case, digits and
punctuation. All train by the recipe `own`. Validation chooses epochs alone; test is read once. Runs that are there
already are not run again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
from messages import SHA256

from gpt_classifier import TextClassifier
from gpt_classifier.data.prepare import fold
from gpt_classifier.data.sources import SmsSpam

SPLITS = ("train", "val", "test")
OPTIONS = ["model=gpt2-nano", "recipe=own", "trainer=cpu", "evaluate=final"]
STUDENTS = {
    "labels": "labels of the training messages",
    "train": "teachers, on the training messages",
    "all": "teachers, on these and the ham left out",
}
"""What each kind of student learns from."""


def run(folder: Path, command: list[str]) -> dict[str, Any]:
    """What a run measured; it is run unless it has finished before."""
    results = folder / "metrics.json"
    if not results.exists():
        whole = [sys.executable, "-m", "gpt_classifier", *command, *OPTIONS, f"hydra.run.dir={folder}"]
        with folder.with_suffix(".log").open("w") as log:
            subprocess.run(whole, check=True, stdout=log, stderr=log)
    found: dict[str, Any] = json.loads(results.read_text())
    return found


def write_texts(sms: Path, splits: Path, out: Path) -> dict[str, int]:
    """Files of texts for the students, `train.csv` and `all.csv`, and the number of texts in each.

    Args:
        sms: the collection.
        splits: of a run on it.
        out: folder.
    """
    parts = {split: pd.read_csv(splits / f"{split}.csv", keep_default_na=False) for split in SPLITS}
    measured = {fold(text) for split in SPLITS[1:] for text in parts[split]["text"]}
    taken = {row for part in parts.values() for row in part["row"]}
    frame = SmsSpam(str(sms), "unused", [], SHA256, "minimal").load().frame.reset_index(drop=True)
    left = frame[~frame.index.isin(taken)]
    left = left[~left["text"].map(fold).isin(measured)]
    texts = {"train": parts["train"]["text"], "all": pd.concat([parts["train"]["text"], left["text"]])}
    for name, column in texts.items():
        column.to_frame().to_csv(out / f"{name}.csv", index=False)
    for split in SPLITS[1:]:
        parts[split][["text", "label"]].to_csv(out / f"labelled_{split}.csv", index=False)
    return {name: len(column) for name, column in texts.items()}


def student(kind: str, seed: int, out: Path, labels: list[str], teachers: list[Path]) -> dict[str, Any]:
    """A student's run, see `STUDENTS`; `labels` are the options of a run on the labels."""
    options = ["freeze=last_block", f"seed={seed}"]
    if kind == "labels":
        return run(out / f"labels-{seed}", ["train", *labels, *options])
    data = [f"data.path={out / kind}.csv"]
    data += [f"data.{split}_path={out}/labelled_{split}.csv" for split in SPLITS[1:]]
    command = ["distil", "--teacher", *map(str, teachers), "--student", *data, *options]
    return run(out / f"distilled-{kind}-{seed}", command)


def spread(values: list[float]) -> str:
    """Mean and standard deviation in percent."""
    return f"{100 * mean(values):.2f}" + (f" ± {100 * stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sms", type=Path, required=True, help="the file SMSSpamCollection")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/distil"))
    parser.add_argument("--teachers", type=int, default=5, help="seeds 1, 2, … of the ensemble")
    parser.add_argument("--students", type=int, default=3, help="seeds 1, 2, … of each kind of student")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    labels = ["data=sms_spam", f"data.path={options.sms.resolve()}", "data.quoting=minimal"]
    teachers = [out / f"teacher-{seed}" for seed in range(1, options.teachers + 1)]
    rows = []
    members = [
        run(folder, ["train", *labels, "freeze=none", f"seed={seed}"]) for seed, folder in enumerate(teachers, start=1)
    ]
    rows.append(("a teacher: everything trained, on the labels", members))
    print(write_texts(options.sms, teachers[0] / "splits", out), flush=True)
    for kind, name in STUDENTS.items():
        seeds = range(1, options.students + 1)
        rows.append((f"student: {name}", [student(kind, seed, out, labels, teachers) for seed in seeds]))
    print("| | runs | validation | test |\n|---|---|---|---|")
    for name, found in rows:
        cells = [spread([one["best"][split]["accuracy"] for one in found]) for split in SPLITS[1:]]
        print(f"| {name} | {len(found)} | {' | '.join(cells)} |")
    print(f"| the ensemble of the teachers | 1 | {' | '.join(ensemble(teachers, out))} |")


def ensemble(teachers: list[Path], out: Path) -> list[str]:
    """Accuracy of the mean of the teachers' probabilities on validation and test."""
    opened = [TextClassifier.load(folder) for folder in teachers]
    cells = []
    for split in SPLITS[1:]:
        frame = pd.read_csv(out / f"labelled_{split}.csv", keep_default_na=False)
        found = np.mean([classifier.predict_proba(frame["text"]) for classifier in opened], axis=0)
        cells.append(spread([float((opened[0].classes_[found.argmax(axis=1)] == frame["label"]).mean())]))
    return cells


if __name__ == "__main__":
    main()
