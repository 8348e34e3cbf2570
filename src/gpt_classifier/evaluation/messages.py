"""Messages with labels to measure a checkpoint on, and where the checkpoint comes from."""

import contextlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from gpt_classifier.checkpoints import run_folder
from gpt_classifier.config import compose, instantiate
from gpt_classifier.data.prepare import SPLITS, overlap, text_hash
from gpt_classifier.data.sources import HubDataset, Imdb, SampleSms, SmsSpam, Table, extra_columns
from gpt_classifier.errors import UserError, first_line, option_group
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.ngrams import told
from gpt_classifier.paths import near
from gpt_classifier.spec import pooling_text


def run_splits(checkpoint: Path) -> pd.DataFrame | None:
    """The messages of the run that wrote a checkpoint: `text`, `label`, `split`; `None` if they are not beside it.

    Where the run kept no texts, they are read again from the source that its configuration names.

    Raises:
        UserError: the source is gone, or has other texts than the run had.
    """
    frame = _kept(checkpoint)
    if frame is None or "text" in frame:
        return frame
    again = _messages_again(frame, run_folder(checkpoint))
    return frame.assign(text=again["text"], **{name: again[name] for name in extra_columns(again)})


def run_splits_if_there(checkpoint: Path) -> pd.DataFrame | None:
    """As `run_splits`; `None` also if the source is gone or has changed."""
    try:
        return run_splits(checkpoint)
    except UserError:
        return None


def _kept(checkpoint: Path) -> pd.DataFrame | None:
    """What a run kept of its splits: `label`, `split`, and `row` and `hash`, or `text`, or all three."""
    paths = {split: run_folder(checkpoint) / "splits" / f"{split}.csv" for split in SPLITS}
    parts = [
        pd.read_csv(path, dtype=str, keep_default_na=False).assign(split=split)
        for split, path in paths.items()
        if path.is_file()
    ]
    return pd.concat(parts, ignore_index=True) if parts else None


def _messages_again(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """A run's messages as the source has them, by their row numbers, checked by their hashes."""
    try:
        found = _load_source(folder)
    except (UserError, OSError) as error:
        raise UserError(
            f"data: the run in {folder} kept no texts (data.keep_texts), and they can't be read again. "
            f"{first_line(error)} {SAY_WHICH}"
        ) from error
    given = found["split"].fillna("")
    own_file = frame["split"].where(frame["split"].isin(set(given)), "")  # of each message, as val_path and test_path
    places = found.assign(split=given).set_index(["split", "row"])
    wanted = pd.MultiIndex.from_arrays([own_file, frame["row"].astype(int)])
    again = places.reindex(wanted).set_index(frame.index)
    for text, kept, row in zip(again["text"].fillna(""), frame["hash"], frame["row"], strict=True):
        if text_hash(text) != kept:
            raise UserError(
                f"data: the run in {folder} kept no texts (data.keep_texts), and its source has changed: data row "
                f"{int(row) + 1} is not the text that the run had. {SAY_WHICH}"
            )
    return again


def _load_source(folder: Path) -> pd.DataFrame:
    """All messages of the source that a run's configuration names."""
    config = OmegaConf.select(OmegaConf.load(folder / "config.yaml"), "data.source")
    options: Any = OmegaConf.to_container(config, resolve=False) if OmegaConf.is_dict(config) else {}
    target = options.pop("_target_", None)
    if target not in SOURCES:  # a folder from elsewhere may not run what it likes
        raise UserError(f"Its config.yaml names no data source of this package, but {target or 'none'}.")
    with option_group("data"):
        try:
            source = SOURCES[target](**options)
        except TypeError as error:
            raise UserError(f"Its config.yaml has other options than {target}: {first_line(error)}.") from error
        source.prepare()
        return source.load().frame


SOURCES = {
    f"gpt_classifier.data.sources.{source.__name__}": source for source in (Table, HubDataset, SmsSpam, SampleSms, Imdb)
}
"""What a run's configuration may name: nothing else is looked up, whatever it is called."""

SAY_WHICH = "Say which messages to take, as in data=csv data.path=reviews.csv."


def labelled(checkpoint: Path, overrides: Sequence[str], whole: bool, config_dir: Path | None = None) -> pd.DataFrame:
    """Messages as `text`, `label`, `split`: the run's own, or what overrides of the data group describe.

    Args:
        checkpoint: of the run.
        overrides: of the data group; none for the run's own messages.
        whole: take all messages of other data as they are, neither balanced nor split; all are in split `test`.
        config_dir: a user's own folder beside `conf/`.

    Raises:
        UserError: the run's folder has none and nothing else is given; or the data can't be prepared.
    """
    if overrides:
        from gpt_classifier.training.build import load_data  # with Lightning, which a run's own messages do without

        # the splits do not depend on the model
        cfg = compose(["model=gpt2-nano", *overrides], config_dir=config_dir)
        if not whole:
            data = load_data(cfg)
            assert data.frame is not None
            return data.frame
        with option_group("data"):
            source = instantiate(cfg.data.source)
            source.prepare()
            return source.load().frame.assign(split="test")
    frame = run_splits(checkpoint)
    if frame is None:
        raise UserError(
            f"data: the messages of the run that wrote {checkpoint} are not beside it (splits/test.csv). {SAY_WHICH}"
        )
    return frame


def duplicates(frame: pd.DataFrame) -> str:
    """A sentence about messages that occur in several splits."""
    if not (frame["split"] == "train").any():
        return ""
    counts, sizes = overlap(frame), frame["split"].value_counts()
    if not any(count["near"] for count in counts.values()):
        return "No validation or test message occurs in the training set, not even with other digits or punctuation."
    parts = [
        f"{counts[split]['exact']} of {sizes.get(split, 0)} {name} messages also occur in the training set "
        f"({counts[split]['near']} when case, digits and punctuation are ignored)"
        for split, name in (("val", "validation"), ("test", "test"))
        if split in counts
    ]
    return (
        f"{'; '.join(parts)}. Such messages make the results look better than they are; data.deduplicate=near keeps "
        f"them apart."
    )


def trained_on(checkpoint: Path) -> set[str]:
    """Hashes (`text_hash`) of the texts that a checkpoint's run was trained on, as far as its folder tells."""
    frame = _kept(checkpoint)
    if frame is None:
        return set()
    train = frame[frame["split"] == "train"]
    return set(train["hash"] if "hash" in frame else train["text"].map(text_hash))  # older runs kept texts alone


def warnings(predictor: Predictor, chosen: pd.DataFrame, checkpoint: Path, other_data: bool) -> list[str]:
    """What must be said before any number about the chosen messages."""
    notes = [predictor.note] if predictor.note else []
    if "train" in set(chosen["split"]) and not other_data:
        notes.append("Some of these messages are those that it was trained on: the numbers flatter it.")
    if other_data:
        seen = int(chosen["text"].map(text_hash).isin(trained_on(checkpoint)).sum())
        if seen:
            notes.append(f"{seen} of these texts are among those that it was trained on: the numbers flatter it.")
    pooling = predictor.model.pooling
    if pooling.reads_padding:
        notes.append(f"It reads padding ({pooling.name()}): a message's label can depend on how far it was padded.")
    return notes


def data_name(checkpoint: Path, overrides: Sequence[str], split: str) -> str:
    """The file or the config group that the messages of a split are from."""
    named = dict(override.split("=", 1) for override in overrides if "=" in override) or run_settings(checkpoint)
    return str(
        named.get(f"data.{split}_path") or named.get("data.path") or named.get("data") or "the splits of its run"
    )


def run_metrics(checkpoint: Path) -> dict[str, Any]:
    """What the run that wrote a checkpoint left as `metrics.json`; empty without a whole file of it."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((run_folder(checkpoint) / "metrics.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def run_settings(checkpoint: Path) -> dict[str, Any]:
    """What the run chose, empty if its folder does not say."""
    settings = run_metrics(checkpoint).get("settings")
    return settings if isinstance(settings, dict) else {}


CHOSEN = (
    *("model", "model.weights", "freeze", "pooling", "head_init"),
    *("data", "data.path", "data.val_path", "data.test_path"),
    *("data.text_column", "data.label_column", "data.split", "data.balance", "data.deduplicate", "data.adapt"),
    *("optimizer.lr", "trainer.max_epochs", "data.batch_size", "seed"),
)
"""Settings of a run that a page about it shows."""


def origin(predictor: Predictor, checkpoint: Path, overrides: Sequence[str]) -> list[tuple[str, str]]:
    """What the model is and how it was trained, as names and values."""
    spec = predictor.spec
    parameters = sum(parameter.numel() for parameter in predictor.model.parameters())
    backbone = predictor.model.backbone
    rows = [
        ("checkpoint", near(checkpoint)),
        ("parameters", f"{parameters:,}"),
        ("backbone", f"{spec.backbone['family']}, {backbone.depth} blocks of width {backbone.width}"),
        ("reads", f"{pooling_text(spec.pooling)}, at most {spec.max_length} tokens, padded to {spec.pad_to}"),
        ("frozen weights", spec.base.hub or near(Path(spec.base.path)) if spec.base else "none"),
        ("messages", " ".join(overrides) if overrides else "the splits of its run"),
        *([("distilled from", spec.taught_by)] if spec.teachers else []),
    ]
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # not there, or not a run's
        run = run_metrics(checkpoint)
        settings = run["settings"]
        rows += [(name, str(settings[name])) for name in CHOSEN if name in settings]
        rows += [("with n-grams", told(run["stacking"]))] if "stacking" in run else []
        rows.append(("trained parameters", f"{run['parameters']['trained']:,}"))
        rows.append(("seconds of training", f"{run['seconds']['training']:.1f}"))
        for split, counts in run["data"]["splits"].items():
            shown = [f"{number:,} {name}" for name, number in counts.items()]
            rows.append((f"{split} messages", ", ".join(shown[:10]) + (", …" if len(shown) > 10 else "")))
    with contextlib.suppress(OSError, OmegaConfBaseException, YAMLError, UnicodeDecodeError):
        typed = [str(one) for one in OmegaConf.load(run_folder(checkpoint) / ".hydra" / "overrides.yaml")]
        teachers = [teacher["name"] for teacher in spec.teachers]
        command = ["distil", "--teacher", *teachers, "--student"] if teachers else ["train"]
        rows.append(("trained by", shlex.join(["gpt-classifier", *command, *typed])))
    return rows
