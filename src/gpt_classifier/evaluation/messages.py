"""Messages with labels to measure a checkpoint on, and where the checkpoint comes from."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import instantiate

from gpt_classifier.config import compose
from gpt_classifier.data.prepare import SPLITS, overlap
from gpt_classifier.errors import UserError
from gpt_classifier.inference.text_classifier import TextClassifier, run_folder


def run_splits(checkpoint: Path) -> pd.DataFrame | None:
    """The messages of the run that wrote a checkpoint: `text`, `label`, `split`; `None` if they are not beside it."""
    folder = run_folder(checkpoint) / "splits"
    if not all((folder / f"{split}.csv").is_file() for split in SPLITS):
        return None
    parts = [
        pd.read_csv(folder / f"{split}.csv", dtype=str, keep_default_na=False).assign(split=split) for split in SPLITS
    ]
    return pd.concat(parts, ignore_index=True)


def labelled(checkpoint: Path, overrides: Sequence[str], whole: bool) -> pd.DataFrame:
    """Messages as `text`, `label`, `split`: the run's own, or what overrides of the data group describe.

    Args:
        checkpoint: of the run.
        overrides: of the data group; none for the run's own messages.
        whole: take all messages of other data as they are, neither balanced nor split; all are in split `test`.

    Raises:
        UserError: the run's folder has none and nothing else is given; or the data can't be prepared.
    """
    if overrides:
        cfg = compose(["model=gpt2-nano", *overrides])  # the splits do not depend on the model
        data = instantiate(cfg.data.module)
        data.prepare_data()
        if whole:
            return data.source.load().frame.assign(split="test")
        data.setup()
        return data.frame
    frame = run_splits(checkpoint)
    if frame is None:
        raise UserError(
            f"data: the messages of the run that wrote {checkpoint} are not beside it (splits/test.csv). "
            f"Say which to take, as in data=csv data.path=reviews.csv."
        )
    return frame


def duplicates(frame: pd.DataFrame) -> str:
    """A sentence about messages that stand in several splits."""
    if not (frame["split"] == "train").any():
        return ""
    counts, sizes = overlap(frame), frame["split"].value_counts()
    if not any(count["near"] for count in counts.values()):
        return "No validation or test message stands in the training set, not even with other digits or punctuation."
    parts = [
        f"{counts[split]['exact']} of {sizes.get(split, 0)} {name} messages also stand in the training set "
        f"({counts[split]['near']} when case, digits and punctuation are folded)"
        for split, name in (("val", "validation"), ("test", "test"))
    ]
    return f"{'; '.join(parts)}. Such messages flatter the results; data.deduplicate=near keeps them apart."


def trained_on(checkpoint: Path) -> set[str]:
    """The texts that the run that wrote a checkpoint was trained on, as far as its folder tells."""
    frame = run_splits(checkpoint)
    return set() if frame is None else set(frame.loc[frame["split"] == "train", "text"])


def warnings(classifier: TextClassifier, chosen: pd.DataFrame, checkpoint: Path, other_data: bool) -> list[str]:
    """What must be said before any number about the chosen messages."""
    notes = [classifier.note] if classifier.note else []
    if "train" in set(chosen["split"]) and not other_data:
        notes.append("Some of these messages are those that it was trained on: the numbers flatter it.")
    if other_data:
        seen = int(chosen["text"].isin(trained_on(checkpoint)).sum())
        if seen:
            notes.append(f"{seen} of these texts are among those that it was trained on: the numbers flatter it.")
    pooling = classifier.model.pooling
    if pooling.reads_padding:
        notes.append(f"It reads padding ({pooling.name}): a message's label can depend on how far it was padded.")
    return notes


def near(path: Path) -> str:
    """A path as people read it: from the working directory where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def origin(classifier: TextClassifier, checkpoint: Path, overrides: Sequence[str]) -> list[tuple[str, str]]:
    """What the model is and how it was trained, as names and values."""
    spec = classifier.spec
    parameters = sum(parameter.numel() for parameter in classifier.model.parameters())
    sizes = spec["backbone"]
    rows = [
        ("checkpoint", near(checkpoint)),
        ("parameters", f"{parameters:,}"),
        ("backbone", f"{sizes['n_layer']} blocks of width {sizes['n_embd']}, {sizes['n_head']} heads"),
        ("reads", f"{spec['pooling']}, at most {spec['max_length']} tokens, padded to {spec['pad_to']}"),
        ("frozen weights", spec["base"]["hub"] or near(Path(spec["base"]["path"])) if spec["base"] else "none"),
        ("messages", " ".join(overrides) if overrides else "the splits of its run"),
    ]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or not a run's
        run: dict[str, Any] = json.loads((run_folder(checkpoint) / "metrics.json").read_text(encoding="utf-8"))
        settings = run["settings"]
        chosen = ("model", "model.weights", "freeze", "data", "data.deduplicate", "optimizer.lr", "trainer.max_epochs")
        rows += [(name, str(settings[name])) for name in (*chosen, "data.batch_size", "seed") if name in settings]
        rows.append(("trained parameters", f"{run['parameters']['trained']:,}"))
        rows.append(("seconds of training", f"{run['seconds']['training']:.1f}"))
        for split, counts in run["data"]["splits"].items():
            shown = [f"{number:,} {name}" for name, number in counts.items()]
            rows.append((f"{split} messages", ", ".join(shown[:10]) + (", …" if len(shown) > 10 else "")))
    return rows
