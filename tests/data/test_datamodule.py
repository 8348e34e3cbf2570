"""From a source to the loaders of its splits, as the configuration asks for it."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hydra.errors import InstantiationException

from gpt_classifier.config import compose
from gpt_classifier.data import datamodule
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.sources import SmsSpam, Texts
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.faults import paragraph_of
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer
from gpt_classifier.tokenizers.cutting import Windows
from gpt_classifier.training.build import load_data


def load(*overrides: str) -> MessageDataModule:
    """The prepared data of a configuration, with the bundled vocabulary."""
    return load_data(compose(["model=gpt2-nano", *overrides]))


def of(source: Texts, **options: Any) -> MessageDataModule:
    """The prepared data of texts in memory, undivided unless options say more."""
    plain = {"deduplicate": "none", "balance": "none", "val_fraction": 0, "test_fraction": 0, "split": "stratified"}
    plain |= {"split_seed": 123, "split_shuffles": 1, "train_size": None, "subset_seed": 123, "batch_size": 1}
    plain |= {"bucket_batches": 1, "pad_to": "batch", "max_length": None, "truncate": "head", "seed": 123}
    data = MessageDataModule(source, load_tokenizer("gpt2-nano"), SingleLabel, 1024, **{**plain, **options})
    data.setup()
    return data


@pytest.fixture
def unbalanced(tmp_path: Path) -> Path:
    """9,970 messages of one class, 20 and 10 of two others."""
    rows = [(f"{label} number {i}", label) for label, n in {"a": 9970, "b": 20, "c": 10}.items() for i in range(n)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


WHOLE = {
    "train": {"a": 6979, "b": 14, "c": 7},
    "val": {"a": 997, "b": 2, "c": 1},
    "test": {"a": 1994, "b": 4, "c": 2},
}


@pytest.mark.parametrize(
    ("balance", "train", "told"),
    [
        (None, WHOLE["train"], ""),
        ("weights", WHOLE["train"], "weights of the training messages by class: a 0.334, b 167, c 333"),
        (
            "undersample",
            {"a": 7, "b": 7, "c": 7},
            "dropped 6,979 of 7,000 training messages so that every class has 7 (balance=undersample)",
        ),
        (
            "oversample",
            {"a": 6979, "b": 6979, "c": 6979},
            "added 13,937 repeats to the 7,000 training messages so that every class has 6,979 (balance=oversample)",
        ),
    ],
)
def test_validation_and_test_keep_the_frequencies_that_a_table_has(
    unbalanced: Path, caplog: pytest.LogCaptureFixture, balance: str | None, train: dict[str, int], told: str
) -> None:
    data = load("data=csv", f"data.path={unbalanced}", *([f"data.balance={balance}"] if balance else []))
    assert data.report.splits == {**WHOLE, "train": train}
    with caplog.at_level("INFO"):
        data.report.log()
    assert told in caplog.text
    assert ("balance " in caplog.text) == bool(told)


def test_everything_is_undersampled_on_request_only(unbalanced: Path) -> None:
    data = load("data=csv", f"data.path={unbalanced}", "data.balance=undersample_all")
    assert data.report.splits["test"] == {"a": 2, "b": 2, "c": 2}
    assert data.report.balanced.startswith("dropped 9,970 of 10,000 messages so that every class has 10")


def test_sms_spam_is_the_chapters_split_row_for_row(sms_file: Path) -> None:
    data = load("data=sms_spam", f"data.path={sms_file}", "data.quoting=minimal")
    frame = SmsSpam(str(sms_file), "unused", [], "", "minimal").load().frame
    ham, spam = (frame[frame["label"] == label] for label in ("ham", "spam"))
    theirs = pd.concat([ham.sample(747, random_state=123), spam]).sample(frac=1, random_state=123)["text"]
    for name, (start, end) in {"train": (0, 1045), "val": (1045, 1194), "test": (1194, 1494)}.items():
        ours = data.split_frame(name)
        assert ours["text"].tolist() == theirs.iloc[start:end].tolist()
        assert frame["text"].iloc[ours["row"]].tolist() == ours["text"].tolist()
    assert data.datasets["train"].weights is None


def test_sms_spam_with_weights_keeps_all_messages_at_their_frequencies(sms_file: Path) -> None:
    data = load("data=sms_spam", f"data.path={sms_file}", "data.balance=weights")
    assert data.report.splits == {
        "train": {"ham": 3379, "spam": 523},
        "val": {"ham": 483, "spam": 75},
        "test": {"ham": 965, "spam": 149},
    }
    weights, labels = data.datasets["train"].weights, data.datasets["train"].labels
    assert weights is not None
    assert weights.mean().item() == pytest.approx(1)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum().item(), rel=1e-4)
    assert data.datasets["val"].weights is None
    assert data.datasets["test"].weights is None


def test_training_size_counts_messages_before_they_are_repeated(unbalanced: Path) -> None:
    data = load("data=csv", f"data.path={unbalanced}", "data.balance=oversample", "data.train_size=1000")
    assert data.report.splits["train"] == {"a": 997, "b": 997, "c": 997}
    data = load("data=csv", f"data.path={unbalanced}", "data.balance=undersample", "data.train_size=12")
    assert data.report.splits["train"] == {"a": 4, "b": 4, "c": 4}


def test_folds_of_the_configuration_test_every_message_once() -> None:
    rows: list[int] = []
    for fold in range(3):
        data = load("data=sample_sms", "data.balance=none", "data.folds=3", f"data.fold={fold}")
        rows += data.split_frame("test")["row"].tolist()
        assert data.report.splits["test"] == {"ham": 100, "spam": 60}
    assert sorted(rows) == list(range(480))


def test_groups_and_times_of_a_table_make_its_splits(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2], f"customer {i // 4}", f"2024-01-{i % 28 + 1:02}") for i in range(112)]
    pd.DataFrame(rows, columns=["text", "label", "customer", "day"]).to_csv(tmp_path / "rows.csv", index=False)
    table = ["data=csv", f"data.path={tmp_path / 'rows.csv'}"]
    data = load(*table, "data.split=grouped", "data.group_column=customer")
    groups = {name: set(data.split_frame(name)["row"] // 4) for name in data.splits}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 28
    data = load(*table, "data.split=time", "data.time_column=day")
    days = {name: set(data.split_frame(name)["row"] % 28) for name in data.splits}
    assert max(days["train"]) < min(days["val"])
    assert max(days["val"]) < min(days["test"])


def test_splits_that_are_not_asked_for_do_not_exist() -> None:
    texts, labels = [f"text {i}" for i in range(20)], ["a", "b"] * 10
    data = of(Texts(texts, labels), val_fraction=0.2)
    assert data.splits == ("train", "val")
    assert [len(dataset) for dataset in data.datasets.values()] == [16, 4]
    assert [len(loader.dataset) for loader in data.test_dataloader()] == [16, 4]  # type: ignore[arg-type]
    assert set(data.report.splits) == set(data.report.longest) == {"train", "val"}
    with pytest.raises(UserError, match="There are no test messages"):
        data.split_frame("test")
    alone = of(Texts(texts, labels))
    assert alone.splits == ("train",)
    assert alone.val_dataloader() == []
    assert alone.report.overlap == {}


def test_two_texts_of_two_classes_are_enough_to_train_on() -> None:
    assert of(Texts(["yes", "no"], [1, 0])).class_names == ["0", "1"]


def test_weights_of_texts_reach_the_training_batches_only() -> None:
    texts, labels = [f"text {i}" for i in range(20)], ["a", "b"] * 10
    data = of(Texts(texts, labels, weights=[2.0] * 10 + [6.0] * 10), val_fraction=0.2)
    weights = torch.cat([batch.weights for batch in data.train_dataloader()])
    assert weights.mean().item() == pytest.approx(1)
    assert (weights.max() / weights.min()).item() == pytest.approx(3)
    assert next(iter(data.val_dataloader())).weights is None  # type: ignore[call-overload]


def test_evaluation_batches_are_as_large_as_the_device_allows() -> None:
    source = Texts([f"text {i}" for i in range(200)], ["a", "b"] * 100)
    few, many = (of(source, bucket_batches=2, evaluation_tokens=n).test_dataloader()[0] for n in (10_000, 40))
    assert len(few) == 1 < len(many)


LONG = " ".join(f"word{i}" for i in range(2000))


def test_a_text_that_is_too_long_is_refused_on_request_with_its_row_and_length() -> None:
    source = Texts(["a", "b", LONG], ["x", "y", "y"])
    with pytest.raises(UserError) as error:
        of(source, truncate="error")
    found = len(load_tokenizer("gpt2-nano").encode([LONG], 10**6, "head")[0][0])
    assert str(error.value) == (
        "truncate: expected head, tail or head_tail where a message has more than 1,024 tokens, but it is error, and "
        f"data row 3 ('word0 word1 word2 word3 word4 word5 word…') has {found:,}. Set truncate=head, tail or head_tail "
        "to cut it, or max_length, if the model can read more; pooling=windows reads all of it."
    )
    assert of(Texts(["a", "b"], ["x", "y"]), truncate="error").report.truncated == {"train": 0}


def test_windows_read_beyond_the_context_up_to_a_bound_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    source = Texts(["a", LONG, LONG[: len(LONG) // 2]], ["x", "y", "y"])
    tokens = len(load_tokenizer("gpt2-nano").encode([LONG], 10**6, "head")[0][0])
    assert tokens > 2 * 1024
    data = of(source, windows=Windows(1000, 100))
    assert data.max_length == datamodule.WINDOWED_LENGTH
    assert data.report.several_windows == {"train": 2}
    with caplog.at_level("INFO"):
        data.report.log()
    assert f"{int(tokens > 4096)} cut to 4096" in caplog.text
    assert "read in more than one: 2 train messages" in caplog.text
    assert of(source, windows=Windows(1000, 100), max_length=1500).report.truncated == {"train": 2}
    assert of(source).report.several_windows == {}


@pytest.mark.parametrize("pad_to", ["context", "train", 500])
def test_windows_are_not_padded_beyond_their_batch(pad_to: Any) -> None:
    with pytest.raises(OptionError, match="pad_to: expected batch, as pooling=windows"):
        of(Texts(["a", "b"], ["x", "y"]), windows=Windows(8, 2), pad_to=pad_to)


@pytest.mark.parametrize(("keep", "expected"), [(True, True), (False, False), ("auto", True)])
def test_texts_are_kept_on_request_or_where_they_are_small(keep: bool | str, expected: bool) -> None:
    assert of(Texts(["a", "b"], ["x", "y"]), keep_texts=keep).keeps_texts == expected


def test_large_texts_are_not_kept_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    data = of(Texts(["é" * 10, "é" * 10], ["x", "y"]))
    for bytes_, expected in ((40, True), (39, False)):
        monkeypatch.setattr(datamodule, "SMALL_TEXTS", bytes_)
        assert data.keeps_texts == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.balance=fuzzy", "data.balance: expected none, undersample, oversample, weights or undersample_all, but"),
        ("data.split=fuzzy", "data.split: expected random, stratified, grouped or time, but it is fuzzy"),
        ("data.keep_texts=no", "data.keep_texts: expected true, false or auto"),
        ("data.split=grouped", "in data.group_column"),
        ("data.source=null", "data.source: expected what texts and labels come from, as data=csv names it"),
        ("data.truncate=middle", "data.truncate: expected head, tail, head_tail or error, but it is middle"),
        ("data.folds=1", "data.folds: expected a whole number from 2 to 360"),
        ("data.max_length=2000", "data.max_length: expected a whole number from 1 to 1024, but it is 2000. The model"),
        ("data.batch_size=1000", "data.batch_size: expected at most 251, the number of training messages, but"),
    ],
)
def test_option_is_named_as_the_configuration_names_it(override: str, expected: str) -> None:
    with pytest.raises((UserError, InstantiationException)) as error:
        load("data=sample_sms", override)
    cause = paragraph_of(error.value, "")  # Hydra wraps what a constructor raises
    assert cause is not None
    assert expected in cause


def test_frequencies_of_classes_that_are_numbers_are_not_taken_for_the_classes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    of(Texts(["a", "b", "c"], ["5", "5", "1"])).report.log()
    assert "found    1: 1, 5: 2" in caplog.text
    of(Texts(["a", "b", "c"], ["spam", "ham", "spam"])).report.log()
    assert "found    1 ham, 2 spam" in caplog.text
