"""Deduplicate, balance, split."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_classifier.data import prepare
from gpt_classifier.data.sources import SmsSpam
from gpt_classifier.errors import UserError


def messages(*rows: tuple[str, str, str | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["text", "label", "split"]).astype({"split": object})


def pool(**counts: int) -> pd.DataFrame:
    return messages(*[(f"{label} {i}", label, None) for label, n in counts.items() for i in range(n)])


@pytest.fixture
def chapter(sms_file: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The real messages as pandas reads them by default, and as they are split by default."""
    frame = SmsSpam(str(sms_file), "unused", [], "", "minimal").load().frame
    balanced = prepare.balance(frame, "undersample", ["ham", "spam"], seed=123)
    return frame, prepare.split(balanced, 0.1, 0.2, stratify=False, seed=123)


def test_split_is_the_one_of_the_books_chapter_row_for_row(chapter: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, ours = chapter
    ham, spam = (frame[frame["label"] == label] for label in ("ham", "spam"))
    theirs = pd.concat([ham.sample(747, random_state=123), spam]).sample(frac=1, random_state=123)
    bounds = {"train": (0, 1045), "val": (1045, 1194), "test": (1194, 1494)}
    for name, (start, end) in bounds.items():
        assert ours.loc[ours["split"] == name, "text"].tolist() == theirs["text"].iloc[start:end].tolist()


def test_duplicates_across_the_chapters_split_are_counted(chapter: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    assert prepare.overlap(chapter[1])["test"] == {"exact": 37, "near": 51}


def test_shuffled_twice_the_split_is_that_of_the_books_experiments(chapter: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, once = chapter
    balanced = prepare.balance(frame, "undersample", ["ham", "spam"], seed=123)
    ours = prepare.split(balanced, 0.1, 0.2, stratify=False, seed=123, shuffles=2)
    ham, spam = (frame[frame["label"] == label] for label in ("ham", "spam"))
    theirs = (
        pd.concat([ham.sample(747, random_state=123), spam]).sample(frac=1, random_state=123).reset_index(drop=True)
    )
    theirs = theirs.sample(frac=1, random_state=123).reset_index(drop=True)
    bounds = {"train": (0, 1045), "val": (1045, 1194), "test": (1194, 1494)}
    for name, (start, end) in bounds.items():
        assert ours.loc[ours["split"] == name, "text"].tolist() == theirs["text"][start:end].tolist()
    assert ours["text"].tolist() != once["text"].tolist()
    assert prepare.overlap(ours)["test"]["exact"] == 36


def test_near_deduplication_leaves_no_overlap(chapter: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, _ = prepare.deduplicate(chapter[0], "near")
    balanced = prepare.balance(frame, "undersample", ["ham", "spam"], seed=123)
    split = prepare.split(balanced, 0.1, 0.2, stratify=False, seed=123)
    assert prepare.overlap(split) == {"val": {"exact": 0, "near": 0}, "test": {"exact": 0, "near": 0}}


DUPLICATES = messages(
    ("Call 0800 now!", "spam", None),
    ("Call 0800 now!", "spam", None),
    ("call 0900 NOW", "spam", None),
    (":-)", "ham", None),
    ("12", "ham", None),
    ("ok", "ham", None),
    ("ok", "spam", None),
)


def test_exact_duplicates_and_contradictions_are_dropped() -> None:
    kept, dropped = prepare.deduplicate(DUPLICATES, "exact")
    assert kept["text"].tolist() == ["Call 0800 now!", "call 0900 NOW", ":-)", "12"]
    assert dropped == {"duplicates": 1, "contradictions": 2}


def test_near_duplicates_are_dropped_but_not_texts_that_fold_to_nothing() -> None:
    kept, dropped = prepare.deduplicate(DUPLICATES, "near")
    assert kept["text"].tolist() == ["Call 0800 now!", ":-)", "12"]
    assert dropped == {"duplicates": 2, "contradictions": 2}


def test_training_messages_that_stand_in_a_given_test_set_are_dropped_there_only() -> None:
    frame = messages(("a", "x", None), ("b", "y", None), ("a", "x", "test"), ("a", "x", "test"))
    kept, _ = prepare.deduplicate(frame, "exact")
    assert kept["text"].tolist() == ["b", "a", "a"]
    assert kept["split"].fillna("").tolist() == ["", "test", "test"]


def test_undersampling_takes_every_class_to_the_smallest_and_leaves_given_splits() -> None:
    frame = pd.concat([pool(a=10, b=4, c=7), messages(("t", "a", "test"))], ignore_index=True)
    balanced = prepare.balance(frame, "undersample", ["a", "b", "c"], seed=1)
    assert balanced["label"].tolist() == ["a"] * 4 + ["b"] * 4 + ["c"] * 4 + ["a"]
    assert prepare.balance(frame, "none", ["a", "b", "c"], seed=1).equals(frame)


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
    split = prepare.split(frame, val_fraction, test_fraction, stratify=True, seed=seed)
    assert sorted(split["text"]) == sorted(frame["text"])
    by_class = split.groupby(["label", "split"]).size().unstack(fill_value=0)
    assert (by_class > 0).all().all()
    for i, n in enumerate(counts):
        assert abs(by_class.loc[f"class{i}", "test"] - test_fraction * n) <= 1


@pytest.mark.parametrize(("given_split", "sizes"), [("val", (80, 3, 20)), ("test", (90, 10, 3))])
def test_given_splits_are_complete_and_the_rest_takes_its_fraction(
    given_split: str, sizes: tuple[int, int, int]
) -> None:
    given_rows = messages(*[(f"given {i}", "a", given_split) for i in range(3)])
    frame = pd.concat([pool(a=50, b=50), given_rows], ignore_index=True)
    for stratify in (False, True):
        split = prepare.split(frame, 0.1, 0.2, stratify=stratify, seed=0)
        assert tuple((split["split"] == name).sum() for name in prepare.SPLITS) == sizes
        assert split.loc[split["split"] == given_split, "text"].tolist() == ["given 0", "given 1", "given 2"]


@pytest.mark.parametrize("fractions", [(0.0, 0.2), (0.5, 0.5), (-0.1, 0.2), (0.1, 1.2)])
def test_fractions_that_leave_nothing_are_refused(fractions: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"data\.(val|test)_fraction"):
        prepare.split(pool(a=10, b=10), *fractions, stratify=False, seed=0)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="none is left for the val split"):
        prepare.split(pool(a=4, b=4), 0.1, 0.2, stratify=False, seed=0)


@settings(max_examples=60, deadline=None)
@given(a=st.integers(4, 60), b=st.integers(4, 60), seed=st.integers(0, 100), data=st.data())
def test_training_subsets_are_stratified_and_nested(a: int, b: int, seed: int, data: st.DataObject) -> None:
    frame = pool(a=a, b=b).assign(split="train")
    smaller, larger = sorted(data.draw(st.lists(st.integers(2, a + b), min_size=2, max_size=2)))
    few, many = (prepare.subset_train(frame, size, seed) for size in (smaller, larger))
    assert (len(few), len(many)) == (smaller, larger)
    assert set(few["text"]) <= set(many["text"])
    assert abs((many["label"] == "a").sum() - larger * a / (a + b)) <= 1


def test_training_subset_can_be_a_fraction_and_leaves_the_other_splits() -> None:
    frame = pd.concat([pool(a=50, b=50).assign(split="train"), messages(("v", "a", "val"), ("t", "b", "test"))])
    subset = prepare.subset_train(frame.reset_index(drop=True), 0.1, seed=0)
    assert subset["split"].value_counts().to_dict() == {"train": 10, "val": 1, "test": 1}


@pytest.mark.parametrize("size", [1, 101, 0, -3, 0.001, 2.5])
def test_impossible_training_sizes_are_refused(size: float) -> None:
    with pytest.raises(UserError, match=r"data\.train_size: expected a number"):
        prepare.subset_train(pool(a=50, b=50).assign(split="train"), size, seed=0)


def test_data_without_two_classes_of_three_messages_is_refused() -> None:
    with pytest.raises(UserError, match="at least two classes"):
        prepare.check_classes(pool(a=5), ["a"])
    with pytest.raises(UserError, match=r"at least 3 messages.*such as 'b' with 2"):
        prepare.check_classes(pool(a=5, b=2), ["a", "b"])


def test_given_splits_need_no_messages_of_a_class() -> None:
    given_rows = messages(("v", "a", "val"), ("t", "a", "test"))
    prepare.check_classes(pd.concat([pool(a=1, b=1), given_rows], ignore_index=True), ["a", "b"])


def test_fractions_that_leave_a_class_without_training_messages_are_refused() -> None:
    with pytest.raises(UserError, match="class 'b' none is left for training"):
        prepare.split(pool(a=50, b=2), 0.1, 0.8, stratify=True, seed=0)


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.balance: expected none or undersample, but it is fuzzy"):
        prepare.balance(pool(a=3), "fuzzy", ["a"], 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"data\.deduplicate: expected none, exact or near, but it is fuzzy"):
        prepare.deduplicate(pool(a=3), "fuzzy")  # type: ignore[arg-type]
