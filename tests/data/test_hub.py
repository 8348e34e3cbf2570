"""Data sets of the Hugging Face Hub, from folders: the Hub itself is not needed."""

import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pandas as pd
import pytest

from gpt_classifier import hub
from gpt_classifier.data.sources import HubDataset
from gpt_classifier.errors import OptionError, UserError


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[datasets\]"'):
        HubDataset("stanfordnlp/imdb").prepare()
    with pytest.raises(OptionError, match=r"path: .* Set path=NAME"):
        HubDataset(None)


@pytest.mark.parametrize(
    ("cached", "reached", "offline", "expected"),
    [
        ("model.safetensors", False, True, True),
        ("pytorch_model.bin", False, False, True),
        ("config.json", False, False, False),
        ("model.safetensors.index.json", False, False, False),  # parts are not fetched
        (None, True, False, True),
        (None, True, True, False),
    ],
)
def test_weights_can_be_fetched_from_the_cache_or_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cached: str | None, reached: bool, offline: bool, expected: bool
) -> None:
    def expect_hub() -> None:
        if not reached:
            raise OSError("no network")

    monkeypatch.setattr(hub, "expect_hub", expect_hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda repo, name, revision: str(tmp_path) if name == cached else None,
    )
    assert hub.can_fetch("somebody/model") is expected


@pytest.fixture
def datasets() -> Any:
    return pytest.importorskip("datasets")


def kept(datasets: Any, folder: Path, **splits: dict[str, list]) -> str:
    """A folder as save_to_disk leaves it, whose labels are classes with names."""
    classes = datasets.ClassLabel(names=["neg", "pos", "never"])
    parts = {}
    for name, columns in splits.items():
        strings = {column: datasets.Value("string") for column in columns if column != "label"}
        parts[name] = datasets.Dataset.from_dict(columns, datasets.Features({**strings, "label": classes}))
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    return str(folder)


def test_classes_have_the_names_of_the_data_set_and_its_splits_are_kept(datasets: Any, tmp_path: Path) -> None:
    folder = kept(
        datasets,
        tmp_path / "a",
        train={"review": ["a", "b"], "label": [1, 0]},
        validation={"review": ["v"], "label": [1]},
        test={"review": ["t"], "label": [0]},
        unsupervised={"review": ["u"], "label": [-1]},
    )
    messages = HubDataset(folder).load()
    assert messages.class_names == ["neg", "pos"]
    assert messages.frame["text"].tolist() == ["a", "b", "v", "t"]
    assert messages.frame["label"].tolist() == ["pos", "neg", "pos", "neg"]
    assert messages.frame["split"].tolist() == [None, None, "val", "test"]
    own = HubDataset(folder, val_split=None, test_split="validation").load().frame
    assert own["split"].tolist() == [None, None, "test"]


def test_test_split_without_labels_is_not_used_unless_named(datasets: Any, tmp_path: Path) -> None:
    test = {"text": ["t"], "label": [-1]}
    folder = kept(datasets, tmp_path / "a", train={"text": ["a", "b"], "label": [1, 0]}, test=test)
    assert HubDataset(folder).load().frame["text"].tolist() == ["a", "b"]
    with pytest.raises(OptionError, match=r"path: .* split test, where 1 of 1 .* the label is empty"):
        HubDataset(folder, test_split="test").load()


def test_files_of_a_folder_are_read_and_columns_found_or_named(datasets: Any, tmp_path: Path) -> None:
    datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"
    folder = tmp_path / "a"
    folder.mkdir()
    frame = pd.DataFrame({"id": [7, 8], "text": ["a", "b"], "other": ["c", "d"], "label": [5, 1]})
    frame.to_parquet(folder / "train.parquet")
    messages = HubDataset(str(folder)).load()
    assert messages.class_names == ["1", "5"]
    assert messages.whole_numbers
    assert messages.frame["extra.id"].tolist() == [7, 8]
    assert HubDataset(str(folder), text_column="other").load().frame["text"].tolist() == ["c", "d"]
    for options, expected in (
        ({"text_column": "body"}, r"text_column: .* \(id, text, other, label\), but it is 'body'"),
        ({"label_column": "text"}, "label_column: expected another column than that of texts"),
        ({"train_split": "all"}, r"train_split: expected a split of .* \(train\), but it is 'all'"),
        ({"test_split": "t"}, r"test_split: expected a split"),
        ({"config": "none"}, "config: expected a configuration"),
    ):
        with pytest.raises(OptionError, match=expected):
            HubDataset(str(folder), **options).load()  # type: ignore[arg-type]


def test_without_a_network_the_answer_comes_at_once(
    datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for module in (constants, datasets.config):  # as without the variable of that name
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    began = time.perf_counter()
    with pytest.raises(OptionError, match=r"path: expected the name of a data set on the .* Hub, .* local copy"):
        HubDataset("nobody/nothing").prepare()
    assert time.perf_counter() - began < 5
    assert not datasets.config.HF_HUB_OFFLINE


def test_code_of_a_data_set_is_not_run(datasets: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(OptionError, match="need code of their own can't be read"):
        HubDataset(str(tmp_path / "a")).load()
    assert not (tmp_path / "ran").exists()
