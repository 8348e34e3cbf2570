"""Which messages are trained on, validated on and tested on."""

import time
from pathlib import Path

import pandas as pd
import pytest
from frames import messages, pool
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_classifier.data import prepare
from gpt_classifier.data.sources import SmsSpam
from gpt_classifier.data.splits import planned_splits, split
from gpt_classifier.errors import OptionError, UserError

BOOK = {"train": (0, 1045), "val": (1045, 1194), "test": (1194, 1494)}


def in_groups(sizes: list[int], labels: str = "ab") -> pd.DataFrame:
    """Messages of groups of given sizes."""
    rows = [(f"{group} {i}", labels[i % len(labels)], None) for group, n in enumerate(sizes) for i in range(n)]
    return messages(*rows).assign(group=[text.split()[0] for text, _, _ in rows])


@pytest.fixture
def chapter(sms_file: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The real messages as pandas reads them by default, and as they are split by default."""
    frame = SmsSpam(str(sms_file), "unused", [], "", "minimal").load().frame
    balanced, _ = prepare.undersample_all(frame, ["ham", "spam"], seed=123)
    return frame, split(balanced, 0.1, 0.2, "random", seed=123)


def test_split_is_the_one_of_the_books_chapter_row_for_row(chapter: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, ours = chapter
    ham, spam = (frame[frame["label"] == label] for label in ("ham", "spam"))
    theirs = pd.concat([ham.sample(747, random_state=123), spam]).sample(frac=1, random_state=123)
    for name, (start, end) in BOOK.items():
        assert ours.loc[ours["split"] == name, "text"].tolist() == theirs["text"].iloc[start:end].tolist()


def test_duplicates_across_the_chapters_split_are_counted(chapter: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    assert prepare.overlap(chapter[1])["test"] == {"exact": 37, "near": 51}


def test_shuffled_twice_the_split_is_that_of_the_books_experiments(chapter: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, once = chapter
    balanced, _ = prepare.undersample_all(frame, ["ham", "spam"], seed=123)
    ours = split(balanced, 0.1, 0.2, "random", seed=123, shuffles=2)
    ham, spam = (frame[frame["label"] == label] for label in ("ham", "spam"))
    theirs = (
        pd.concat([ham.sample(747, random_state=123), spam]).sample(frac=1, random_state=123).reset_index(drop=True)
    )
    theirs = theirs.sample(frac=1, random_state=123).reset_index(drop=True)
    for name, (start, end) in BOOK.items():
        assert ours.loc[ours["split"] == name, "text"].tolist() == theirs["text"][start:end].tolist()
    assert ours["text"].tolist() != once["text"].tolist()
    assert prepare.overlap(ours)["test"]["exact"] == 36


def test_near_deduplication_leaves_no_overlap(chapter: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, _ = prepare.deduplicate(chapter[0], "near")
    balanced, _ = prepare.undersample_all(frame, ["ham", "spam"], seed=123)
    ours = split(balanced, 0.1, 0.2, "random", seed=123)
    assert prepare.overlap(ours) == {"val": {"exact": 0, "near": 0}, "test": {"exact": 0, "near": 0}}


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(3, 60), min_size=2, max_size=5),
    val_fraction=st.floats(0.05, 0.4),
    test_fraction=st.floats(0.05, 0.4),
    seed=st.integers(0, 1000),
)
def test_stratified_split_uses_every_message_once_and_every_class_everywhere(
    counts: list[int], val_fraction: float, test_fraction: float, seed: int
) -> None:
    frame = pool(**{f"class{i}": n for i, n in enumerate(counts)})
    cut = split(frame, val_fraction, test_fraction, "stratified", seed=seed)
    assert sorted(cut["text"]) == sorted(frame["text"])
    by_class = cut.groupby(["label", "split"]).size().unstack(fill_value=0)
    assert (by_class > 0).all().all()
    for i, n in enumerate(counts):
        assert abs(by_class.loc[f"class{i}", "test"] - test_fraction * n) <= 1


@pytest.mark.parametrize(("given_split", "sizes"), [("val", (80, 3, 20)), ("test", (90, 10, 3))])
@pytest.mark.parametrize("how", ["random", "stratified", "grouped", "time"])
def test_given_splits_are_complete_and_the_rest_takes_its_fraction(
    given_split: str, sizes: tuple[int, int, int], how: str
) -> None:
    given_rows = messages(*[(f"given {i}", "a", given_split) for i in range(3)])
    frame = pd.concat([pool(a=50, b=50), given_rows], ignore_index=True)
    if how in ("grouped", "time"):
        frame[{"grouped": "group"}.get(how, how)] = range(103)
    cut = split(frame, 0.1, 0.2, how, seed=0)  # type: ignore[arg-type]
    assert tuple((cut["split"] == name).sum() for name in prepare.SPLITS) == sizes
    assert cut.loc[cut["split"] == given_split, "text"].tolist() == ["given 0", "given 1", "given 2"]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (-0.1, 0.2), (0.1, 1.2), (0.0, 1.0), ("some", 0.2)])
def test_fractions_that_leave_nothing_are_refused(fractions: tuple[float, float]) -> None:
    with pytest.raises(OptionError, match=r"(val|test)_fraction: expected"):
        split(pool(a=10, b=10), *fractions, "random", seed=0)


@pytest.mark.parametrize("how", ["random", "stratified", "grouped", "time"])
def test_a_fraction_of_nought_makes_no_such_split(how: str) -> None:
    frame = pool(a=10, b=10)
    frame = frame.assign(**{{"grouped": "group"}.get(how, "time"): range(20)}) if how in ("grouped", "time") else frame
    for fractions, sizes in (((0, 0), {"train": 20}), ((0.1, 0), {"train": 18, "val": 2}), ((0, 0.5), None)):
        cut = split(frame, *fractions, how, seed=0)  # type: ignore[arg-type]
        assert cut["split"].value_counts().to_dict() == (sizes or {"train": 10, "test": 10})
        assert planned_splits(frame, *fractions) == tuple(sizes or ("train", "test"))


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="none is left for the val split"):
        split(pool(a=4, b=4), 0.1, 0.2, "random", seed=0)


def test_whatever_the_fractions_each_class_is_trained_on() -> None:
    for size, val, test in ((2, 0.9, 0), (2, 0.1, 0.8), (3, 0.05, 0.9), (4, 0.49, 0.5)):
        cut = split(pool(a=50, b=size), val, test, "stratified", seed=0)
        assert "b" in set(cut[cut["split"] == "train"]["label"])


def test_a_class_with_too_few_messages_is_trained_on_first_and_tested_next() -> None:
    cut = split(pool(a=50, b=50, c=2, d=1), 0.1, 0.2, "stratified", seed=0)
    by_class = cut.groupby(["label", "split"]).size().unstack(fill_value=0)
    assert by_class.loc["c"].to_dict() == {"train": 1, "val": 0, "test": 1}
    assert by_class.loc["d"].to_dict() == {"train": 1, "val": 0, "test": 0}


def test_many_small_classes_leave_their_messages_for_training() -> None:
    frame = pool(**{f"class{i}": 2 for i in range(100)}, **{f"larger{i}": 10 for i in range(10)})
    cut = split(frame, 0.1, 0, "stratified", seed=1)
    by_class = cut.groupby(["label", "split"]).size().unstack(fill_value=0)
    assert cut["split"].value_counts()["val"] == 30
    assert (by_class["train"] > 0).all()
    assert (by_class.filter(like="larger", axis=0)["val"] == 1).all()
    other = split(frame, 0.1, 0, "stratified", seed=2)
    assert set(other[other["split"] == "val"]["label"]) != set(cut[cut["split"] == "val"]["label"])


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=30, max_size=60), seed=st.integers(0, 100))
def test_no_group_is_in_two_splits_and_the_fractions_are_met(sizes: list[int], seed: int) -> None:
    frame = in_groups(sizes)
    cut = split(frame, 0.1, 0.2, "grouped", seed=seed)
    assert sorted(cut["text"]) == sorted(frame["text"])
    assert (cut.groupby("group")["split"].nunique() == 1).all()
    for name, part in (("val", 0.1), ("test", 0.2), ("train", 0.7)):
        assert abs((cut["split"] == name).sum() - part * len(frame)) <= max(sizes)


def test_groups_of_one_class_are_shared_out_by_class() -> None:
    ham, spam = (in_groups([2] * n, labels).assign(label=labels) for n, labels in ((160, "h"), (40, "s")))
    frame = pd.concat([ham, spam.assign(group="s" + spam["group"])], ignore_index=True)
    cut = split(frame, 0.1, 0.2, "grouped", seed=0)
    by_class = cut.groupby(["label", "split"]).size().unstack()
    assert by_class.loc["s"].to_dict() == {"train": 56, "val": 8, "test": 16}
    assert by_class.loc["h"].to_dict() == {"train": 224, "val": 32, "test": 64}


def test_a_few_large_groups_still_make_three_splits() -> None:
    cut = split(in_groups([500, 300, 200]), 0.1, 0.2, "grouped", seed=0)
    assert cut["split"].value_counts().to_dict() == {"train": 500, "test": 300, "val": 200}
    cut = split(in_groups([1] * 500 + [500], "a"), 0.1, 0.2, "grouped", seed=0)
    assert cut["split"].value_counts().to_dict() == {"train": 700, "test": 200, "val": 100}
    with pytest.raises(OptionError, match="grouped, with 2 groups"):
        split(in_groups([5, 5]), 0.1, 0.2, "grouped", seed=0)


def test_large_groups_are_not_all_trained_on() -> None:
    frame = in_groups([9] * 30 + [1] * 30)
    cut = split(frame, 0.2, 0.3, "grouped", seed=0)
    large = cut[cut.groupby("group")["text"].transform("size") == 9]
    assert set(large["split"]) == {"train", "val", "test"}


def test_groups_that_are_in_a_given_test_set_too_are_refused() -> None:
    frame = pd.concat([in_groups([2, 2, 2]), in_groups([1]).assign(split="test")], ignore_index=True)
    with pytest.raises(OptionError, match="1 groups, such as '0', are in the given validation or test set too"):
        split(frame, 0.1, 0.2, "grouped", seed=0)


@settings(max_examples=25, deadline=None)
@given(times=st.lists(st.integers(0, 30), min_size=20, max_size=60), seed=st.integers(0, 9))
def test_by_time_the_newest_are_tested_and_equal_times_stay_together(times: list[int], seed: int) -> None:
    frame = pool(a=len(times)).assign(time=times)
    if len(set(times)) < 3:
        return
    try:
        cut = split(frame, 0.2, 0.3, "time", seed=seed)
    except UserError:  # one time has nearly all messages
        assert max(times.count(time) for time in times) > 0.4 * len(times)
        return
    assert sorted(cut["text"]) == sorted(frame["text"])
    train, val, test = (cut.loc[cut["split"] == name, "time"] for name in prepare.SPLITS)
    assert train.max() < val.min()
    assert val.max() < test.min()
    assert abs(len(test) - 0.3 * len(times)) <= max(times.count(time) for time in times)


def test_dates_are_split_by_time() -> None:
    times = pd.to_datetime(pd.Series(range(10)), unit="D", utc=True)
    cut = split(pool(a=10).assign(time=times[::-1].to_numpy()), 0.2, 0.3, "time", seed=0)
    assert cut["text"].tolist() == [f"a {i}" for i in range(9, -1, -1)]
    assert cut["split"].tolist() == ["train"] * 5 + ["val"] * 2 + ["test"] * 3


@pytest.mark.parametrize(("how", "column"), [("random", None), ("stratified", None), ("grouped", "group")])
def test_folds_test_every_message_once(how: str, column: str | None) -> None:
    frame = in_groups([3] * 20, "abb") if column else pool(a=40, b=20)
    tested: list[str] = []
    for fold in range(5):
        cut = split(frame, 0.25, 0.2, how, seed=3, folds=5, fold=fold)  # type: ignore[arg-type]
        assert cut["split"].value_counts().to_dict() == {"train": 36, "val": 12, "test": 12}
        assert sorted(cut["text"]) == sorted(frame["text"])
        if how == "stratified":
            assert cut[cut["split"] == "test"]["label"].value_counts().to_dict() == {"a": 8, "b": 4}
        if column:
            assert (cut.groupby(column)["split"].nunique() == 1).all()
        tested += cut.loc[cut["split"] == "test", "text"].tolist()
    assert sorted(tested) == sorted(frame["text"])


@pytest.mark.parametrize(
    ("how", "folds", "fold", "expected"),
    [
        ("random", 1, 0, "folds: expected a whole number from 2 to"),
        ("random", 5, 5, "fold: expected a whole number from 0 to 4"),
        ("time", 5, 0, "split: expected random, stratified, grouped with folds"),
    ],
)
def test_impossible_folds_are_refused(how: str, folds: int, fold: int, expected: str) -> None:
    frame = pool(a=10, b=10)
    frame = frame.assign(time=range(20)) if how == "time" else frame
    with pytest.raises(OptionError, match=expected):
        split(frame, 0.1, 0.2, how, seed=0, folds=folds, fold=fold)  # type: ignore[arg-type]


def test_folds_and_a_given_test_set_are_refused() -> None:
    frame = pd.concat([pool(a=10), messages(("t", "a", "test"))], ignore_index=True)
    with pytest.raises(OptionError, match="folds: expected none, as the test set is given, but it is 5"):
        split(frame, 0.1, 0.2, "random", seed=0, folds=5)


def test_groups_and_times_are_neither_missing_nor_named_in_vain() -> None:
    with pytest.raises(OptionError, match=r"split: .* but it is grouped.* in group_column"):
        split(pool(a=10), 0.1, 0.2, "grouped", seed=0)
    with pytest.raises(OptionError, match=r"split: .* but it is time.* in time_column"):
        split(pool(a=10), 0.1, 0.2, "time", seed=0)
    with pytest.raises(OptionError, match="split: expected grouped, as the messages have a group, but it is random"):
        split(in_groups([1] * 10), 0.1, 0.2, "random", seed=0)
    with pytest.raises(OptionError, match="split: expected random, stratified, grouped or time, but it is fuzzy"):
        split(pool(a=10), 0.1, 0.2, "fuzzy", seed=0)  # type: ignore[arg-type]


def test_ten_thousand_classes_are_split_in_one_pass() -> None:
    frame = pool(**{f"c{i}": 5 for i in range(10_000)})
    began = time.perf_counter()
    frame = split(frame, 0.1, 0.2, "stratified", seed=1)
    assert time.perf_counter() - began < 2
    assert frame["split"].value_counts().to_dict() == {"train": 35_000, "test": 10_000, "val": 5_000}
