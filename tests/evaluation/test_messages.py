"""The messages of a run, read again from what the run kept of them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from gpt_classifier.config import compose
from gpt_classifier.data.prepare import text_hash
from gpt_classifier.errors import UserError
from gpt_classifier.evaluation import messages
from gpt_classifier.training.build import load_data
from gpt_classifier.training.run import keep_inputs


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Rows of which some are incomplete or repeated, so that row numbers have gaps."""
    rows = [(f"k{i}", f"review {i % 55}, good" if i % 7 else "", "ab"[i % 2]) for i in range(120)]
    pd.DataFrame(rows, columns=["id", "text", "label"]).to_csv(tmp_path / "reviews.csv", index=False)
    return tmp_path / "reviews.csv"


@pytest.fixture
def run(tmp_path: Path, reviews: Path) -> Callable[..., Path]:
    """What a run with overrides keeps of its data; returns where its checkpoint would be."""

    def run(*overrides: str) -> Path:
        cfg = compose(["model=gpt2-nano", "data=csv", f"data.path={reviews}", "data.drop_incomplete=true", *overrides])
        data = load_data(cfg)
        keep_inputs(
            OmegaConf.create({"data": cfg.data, "model": cfg.model, "recipe": cfg.recipe, "seed": 1}),
            tmp_path / "run",
            data,
        )
        return tmp_path / "run" / "checkpoints" / "best.ckpt"

    return run


def kept(checkpoint: Path, split: str) -> pd.DataFrame:
    return pd.read_csv(messages.run_folder(checkpoint) / "splits" / f"{split}.csv", dtype=str)


def test_a_run_keeps_rows_and_hashes_and_texts_only_if_asked(run: Callable[..., Path], reviews: Path) -> None:
    source = pd.read_csv(reviews, keep_default_na=False)
    for keep, columns in (("true", ["row", "label", "hash", "text", "extra.id"]), ("false", ["row", "label", "hash"])):
        frame = kept(run(f"data.keep_texts={keep}"), "test")
        assert frame.columns.tolist() == columns
        texts = source["text"].iloc[frame["row"].astype(int)]
        assert frame["hash"].tolist() == texts.map(text_hash).tolist()
        assert keep == "false" or frame["text"].tolist() == texts.tolist()


@pytest.mark.parametrize("balance", ["none", "oversample"])
def test_messages_are_the_same_with_kept_texts_and_without(run: Callable[..., Path], balance: str) -> None:
    options = [f"data.balance={balance}", "data.deduplicate=exact"]
    with_texts, without = (messages.run_splits(run(f"data.keep_texts={keep}", *options)) for keep in ("true", "false"))
    assert with_texts is not None
    assert without is not None
    columns = ["text", "label", "split", "extra.id"]
    pd.testing.assert_frame_equal(with_texts[columns], without[columns], check_dtype=False)


def test_texts_of_given_splits_are_read_from_their_own_files(run: Callable[..., Path], tmp_path: Path) -> None:
    pd.DataFrame({"text": ["v 1", "v 2"], "label": ["a", "b"]}).to_csv(tmp_path / "val.csv", index=False)
    frame = messages.run_splits(run("data.keep_texts=false", f"data.val_path={tmp_path / 'val.csv'}"))
    assert frame is not None
    assert frame.loc[frame["split"] == "val", "text"].tolist() == ["v 1", "v 2"]
    assert frame.loc[frame["split"] == "test", "text"].str.startswith("review").all()


def test_only_splits_that_the_run_had_are_read(run: Callable[..., Path]) -> None:
    frame = messages.run_splits(run("data.keep_texts=false", "data.val_fraction=0"))
    assert frame is not None
    assert set(frame["split"]) == {"train", "test"}
    assert "validation" not in messages.duplicates(frame)


def test_a_source_that_has_changed_or_is_gone_is_told(run: Callable[..., Path], reviews: Path) -> None:
    checkpoint = run("data.keep_texts=false")
    content = reviews.read_text()
    reviews.write_text(content.replace("good", "bad"))
    with pytest.raises(UserError, match=r"its source has changed: data row .* is not the text that the run had"):
        messages.run_splits(checkpoint)
    reviews.write_text("\n".join(content.splitlines()[:40]))
    with pytest.raises(UserError, match="its source has changed"):
        messages.run_splits(checkpoint)
    reviews.unlink()
    with pytest.raises(
        UserError, match=r"can't be read again. data.path: .* no file .*reviews.csv.*Say which messages"
    ):
        messages.run_splits(checkpoint)


def test_a_run_folder_does_not_run_code_of_its_own(run: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = run("data.keep_texts=false")
    config = messages.run_folder(checkpoint) / "config.yaml"
    harmful: dict[str, Any] = {"_target_": "pathlib.Path.touch", "_args_": [str(tmp_path / "touched")]}
    within = {**harmful, "_target_": "gpt_classifier.data.sources.table.Path.touch"}  # what a module has imported
    for source in (harmful, within, {"_target_": "gpt_classifier.data.sources.Table", "path": harmful}):
        OmegaConf.save(OmegaConf.create({"data": {"source": source}}), config)
        with pytest.raises((UserError, TypeError)):
            messages.run_splits(checkpoint)
        assert not (tmp_path / "touched").exists()


def test_what_was_trained_on_is_known_without_texts_and_from_older_runs(
    run: Callable[..., Path], reviews: Path
) -> None:
    checkpoint = run("data.keep_texts=true")
    expected = set(kept(checkpoint, "train")["text"].map(text_hash))
    run("data.keep_texts=false")
    reviews.unlink()
    assert messages.trained_on(checkpoint) == expected
    pd.DataFrame({"label": ["a"], "text": ["older"]}).to_csv(
        messages.run_folder(checkpoint) / "splits" / "train.csv", index=False
    )
    for split in ("val", "test"):
        (messages.run_folder(checkpoint) / "splits" / f"{split}.csv").unlink()
    assert messages.trained_on(checkpoint) == {text_hash("older")}
    classifier: Any = SimpleNamespace(
        note="", model=SimpleNamespace(pooling=SimpleNamespace(reads_padding=False, name=""))
    )
    chosen = pd.DataFrame({"text": ["older", "new"], "split": "test"})
    (note,) = messages.warnings(classifier, chosen, checkpoint, other_data=True)
    assert note.startswith("1 of these texts are among those that it was trained on")
