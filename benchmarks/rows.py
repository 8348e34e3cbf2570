"""Files of JSON lines that benchmarks add to, one for each run, and tables in folders."""

import json
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What has been measured; nothing where there is no file yet."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Keep what was measured, before the next run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def tables_of(folder: str | Path, *splits: str) -> list[str]:
    """Overrides of train.py for a folder of train.csv, val.csv and test.csv, or those of them that are to be read."""
    keys = {"train": "path", "val": "val_path", "test": "test_path"}
    paths = [f"data.{keys[split]}={Path(folder).resolve() / split}.csv" for split in splits]
    return ["data=csv", *paths, *([] if "test" in splits else ["data.test_fraction=0"])]
