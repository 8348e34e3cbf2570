"""Runs all contenders side by side and writes results.json, tables.md and training.png.

python benchmarks/compare.py --sms SMSSpamCollection --out benchmarks/results --tables training,prediction,sweep,scaling

Each contender is a process of its own, one after another; its time is that of the whole process, imports included, and
its memory the largest resident set. TIKTOKEN_CACHE_DIR says where GPT-2's vocabulary is.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EPOCHS = 5
PREFIX_FLOP_PER_TOKEN = 2 * 11 * 12 * 768**2  # matrix products of 11 blocks


@dataclass
class Measured:
    """A finished process: seconds, peak resident memory in 10^9 bytes, and what it printed."""

    seconds: float
    gb: float
    printed: str

    def json(self) -> dict[str, Any]:
        return json.loads(self.printed.strip().splitlines()[-1])


LAUNCHER = """import os, subprocess, sys
process = subprocess.Popen(sys.argv[2:], stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))"""
"""A process counts the memory of the one that starts it as its own, so a small one must."""


def measure(*arguments: str, python: str = sys.executable) -> Measured:
    with tempfile.NamedTemporaryFile("r") as peak:
        began = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-S", "-c", LAUNCHER, peak.name, python, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        seconds = time.perf_counter() - began
        if process.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{process.stdout}")
        return Measured(seconds, int(peak.read()) * 1024 / 1e9, process.stdout)


class Benchmark:
    """What all tables share.

    Args:
        sms: the real SMS Spam Collection, unpacked.
        scratch: for weights, caches and run folders.
    """

    def __init__(self, sms: Path, scratch: Path) -> None:
        self.sms = str(sms)
        self.scratch = scratch
        sys.path.insert(0, str(HERE))
        from messages import random_weights

        self.random_weights = random_weights
        self.weights = str(random_weights(scratch))

    def chapter(self, *arguments: str) -> Measured:
        return measure(str(HERE / "chapter.py"), "--weights", self.weights, "--sms", self.sms, *arguments)

    def trainer(self, *arguments: str) -> Measured:
        return measure(str(HERE / "transformers_trainer.py"), "--weights", self.weights, "--sms", self.sms, *arguments)

    def ours(self, cache: str, *overrides: str, weights: str | None = None, multirun: bool = False) -> Measured:
        folder = f"hydra.{'sweep' if multirun else 'run'}.dir={tempfile.mkdtemp(dir=self.scratch)}"
        data = [f"data.path={self.sms}", "data.quoting=minimal"]
        data = [] if any(override.startswith("data=") for override in overrides) else data
        return measure(
            str(ROOT / "train.py"),
            *(["-m"] if multirun else []),
            f"model.weights={weights or self.weights}",
            *data,
            f"cache.dir={self.scratch / cache}",
            folder,
            *overrides,
        )

    def ours_predict(self, *arguments: str) -> Measured:
        return measure(str(HERE / "ours_predict.py"), "--weights", self.weights, "--sms", self.sms, *arguments)


def best_rate() -> float:
    """This machine's best large bfloat16 matrix product, in floating-point operations per second."""
    code = (
        "import time, torch; a = torch.randn(4096, 4096).bfloat16(); a @ a; t = []\n"
        "for _ in range(5):\n    s = time.perf_counter(); a @ a; t.append(time.perf_counter() - s)\n"
        "print('{\"rate\": %f}' % (2 * 4096**3 / min(t)))"
    )
    return measure("-c", code).json()["rate"]


def training(bench: Benchmark) -> dict[str, Any]:
    rows: dict[str, Any] = {}

    def scaled(name: str, measured: Measured) -> None:
        epoch = measured.json()["epoch_seconds"]
        rows[name] = {
            "seconds": measured.seconds + (EPOCHS - 1) * epoch,
            "epoch_seconds": epoch,
            "gb": measured.gb,
            "note": f"one epoch measured, {measured.seconds:.0f} s; four more added",
        }

    scaled("a. the chapter's procedure", bench.chapter())
    scaled("b. transformers Trainer, float32", bench.trainer())
    best = bench.trainer("--best", "--epochs", str(EPOCHS))
    epoch = best.json()["epoch_seconds"]
    rows["c. transformers Trainer, bf16, by length"] = {
        "seconds": best.seconds,
        "epoch_seconds": epoch,
        "gb": best.gb,
        "note": "",
    }
    for name, note in (("d. ours, cold cache", ""), ("e. ours, warm cache", "")):
        run = bench.ours("cache")
        prefix = next(line for line in run.printed.splitlines() if line.startswith("prefix"))
        rows[name] = {"seconds": run.seconds, "gb": run.gb, "note": note, "prefix": prefix.split(": ", 1)[1]}
    sys.path.insert(0, str(HERE))
    from messages import chapters_split

    data = chapters_split(bench.sms)
    distinct = {row.tobytes(): len(row) for dataset in data.datasets.values() for row in dataset.rows}
    flop, rate = PREFIX_FLOP_PER_TOKEN * sum(distinct.values()), best_rate()
    rows["limit: the prefix's products once, at the best rate"] = {
        "seconds": flop / rate,
        "gb": None,
        "note": f"{flop / 1e12:.1f} TFLOP at {rate / 1e9:.0f} GFLOP/s",
    }
    return rows


def prediction(bench: Benchmark) -> dict[str, Any]:
    contenders: dict[str, tuple[Callable[[], Measured], int]] = {
        "a. the chapter's, batches of 8": (lambda: bench.chapter("--predict", "400"), 400),
        "a. the chapter's, one at a time": (lambda: bench.chapter("--predict", "100", "--batch-size", "1"), 100),
        "b. transformers Trainer, float32": (lambda: bench.trainer("--predict", "2000"), 2000),
        "c. transformers Trainer, bf16, by length": (lambda: bench.trainer("--best", "--predict", "4000"), 4000),
        "ours, float32": (lambda: bench.ours_predict("--predict", "4000", "--precision", "32-true"), 4000),
        "ours": (lambda: bench.ours_predict("--predict", "20000"), 20000),
        "ours, one at a time": (lambda: bench.ours_predict("--predict", "500", "--one-at-a-time"), 500),
    }
    rows = {}
    for name, (run, messages) in contenders.items():
        measured = run()
        rate = measured.json()["messages_per_second"]
        rows[name] = {"messages_per_second": rate, "messages": messages, "gb": measured.gb}
    return rows


def sweep(bench: Benchmark) -> dict[str, Any]:
    grid = ["optimizer.lr=2e-5,5e-5,1e-4,2e-4", "seed=1,2,3,4"]
    cold = bench.ours("sweep-cache", *grid, multirun=True)
    warm = bench.ours("sweep-cache", *grid, multirun=True)
    return {
        "ours, 16 runs, cold cache": {"seconds": cold.seconds, "gb": cold.gb},
        "ours, 16 runs, warm cache": {"seconds": warm.seconds, "gb": warm.gb},
    }


def scaling(bench: Benchmark, sizes: list[str], counts: list[int]) -> dict[str, Any]:
    """One epoch over distinct messages, cold cache: 70 % training, 10 % validation, 20 % test."""
    import pandas as pd
    from messages import SHA256

    from gpt_classifier.data.sources import SmsSpam

    frame = SmsSpam(bench.sms, "unused", [], SHA256).load().frame
    rows = {}
    for count in counts:
        repeated = pd.concat([frame] * (count // len(frame) + 1)).head(count).reset_index(drop=True)
        repeated["text"] = repeated["text"] + " " + repeated.index.astype(str)  # all distinct
        path = bench.scratch / f"{count}.csv"
        repeated[["label", "text"]].to_csv(path, index=False)
        for size in sizes:
            weights = "random" if size == "gpt2-nano" else str(bench.random_weights(bench.scratch, size))
            model = {"gpt2": "gpt2-small"}.get(size, size)
            data = [
                "data=csv",
                f"data.path={path}",
                "data.balance=none",
                "recipe=book",
                "scheduler=none",
                "pooling=last_token",
                f"model={model}",
                "trainer.max_epochs=1",
            ]
            run = bench.ours(f"scaling-{size}-{count}", *data, weights=weights)
            prefix = next(line for line in run.printed.splitlines() if line.startswith("prefix"))
            seconds = float(prefix.rsplit(", ", 1)[1].removesuffix(" s"))
            row = {"seconds": run.seconds, "prefix_seconds": seconds, "gb": run.gb}
            rows[f"{model}, {count} messages"] = row
            print(model, count, row, flush=True)
    return rows


def table(rows: dict[str, Any]) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, row in rows.items():
        cells = [row.get(column) for column in columns]
        shown = [
            ""
            if c is None
            else f"{c:.3g}"
            if isinstance(c, float) and c < 10
            else f"{c:.0f}"
            if isinstance(c, float)
            else str(c)
            for c in cells
        ]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def chart(rows: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    names = list(rows)[::-1]
    seconds = [rows[name]["seconds"] for name in names]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    colors = ["#cc6633" if "ours" in name else "#bbbbbb" if "limit" in name else "#4477aa" for name in names]
    bars = axes.barh(names, seconds, color=colors)
    axes.bar_label(bars, [f"{value:,.0f} s" for value in seconds], padding=4)
    axes.set_xscale("log")
    axes.set_xlim(1, max(seconds) * 2.5)
    axes.set_xlabel("seconds for the whole process, five epochs (logarithmic)")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sms", type=Path, required=True, help="the file SMSSpamCollection")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "benchmarks")
    parser.add_argument("--tables", default="training,prediction,sweep,scaling")
    parser.add_argument("--sizes", default="gpt2-nano,gpt2,gpt2-medium", help="models of the scaling table")
    parser.add_argument("--counts", default="1000,4000,16000", help="messages of the scaling table")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.json"
    found: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Benchmark(options.sms.resolve(), Path(scratch))
        tables: dict[str, Callable[[], dict[str, Any]]] = {
            "training": lambda: training(bench),
            "prediction": lambda: prediction(bench),
            "sweep": lambda: sweep(bench),
            "scaling": lambda: scaling(bench, options.sizes.split(","), [int(n) for n in options.counts.split(",")]),
        }
        for name in options.tables.split(","):
            found[name] = tables[name]()
            results.write_text(json.dumps(found, indent=2))
            print(f"\n{name}\n\n{table(found[name])}", flush=True)
    if "training" in found:
        chart(found["training"], options.out / "training.png")
    (options.out / "tables.md").write_text("\n\n".join(f"## {name}\n\n{table(rows)}" for name, rows in found.items()))


if __name__ == "__main__":
    main()
