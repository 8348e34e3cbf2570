"""Deduplicate, balance, take a part of."""

import pandas as pd
import pytest
from frames import messages, pool
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_classifier.data import prepare
from gpt_classifier.errors import OptionError, UserError

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


@given(st.text())
def test_ascii_folds_as_any_other_text_does(text: str) -> None:
    plain = text.casefold()
    assert prepare.fold(text) == (prepare.NOT_LETTERS.sub(" ", plain).strip() or text)
    assert prepare.fold(f"{text} é") == (prepare.NOT_LETTERS.sub(" ", f"{plain} é").strip())


def split_messages(train: dict[str, int], val: dict[str, int]) -> pd.DataFrame:
    return pd.concat([pool(**train).assign(split="train"), pool(**val).assign(split="val")], ignore_index=True)


def counts(frame: pd.DataFrame, split: str) -> dict[str, int]:
    return frame.loc[frame["split"] == split, "label"].value_counts().to_dict()


def test_undersampling_all_takes_every_class_to_the_smallest_and_leaves_given_splits() -> None:
    frame = pd.concat([pool(a=10, b=4, c=7), messages(("t", "a", "test"))], ignore_index=True)
    balanced, told = prepare.undersample_all(frame, ["a", "b", "c"], seed=1)
    assert balanced["label"].tolist() == ["a"] * 4 + ["b"] * 4 + ["c"] * 4 + ["a"]
    assert told == "dropped 9 of 21 messages so that every class has 4 (balance=undersample_all)"


def test_undersampling_drops_training_messages_only() -> None:
    frame = split_messages({"a": 10, "b": 4, "c": 7}, {"a": 5, "b": 1})
    balanced, told = prepare.undersample(frame, ["a", "b", "c"], seed=1)
    assert counts(balanced, "train") == {"a": 4, "b": 4, "c": 4}
    assert counts(balanced, "val") == {"a": 5, "b": 1}
    assert balanced.loc[balanced["split"] == "train", "text"].is_unique
    assert told == "dropped 9 of 21 training messages so that every class has 4 (balance=undersample)"
    assert prepare.undersample(balanced, ["a", "b", "c"], seed=1)[1] == ""


def test_oversampling_repeats_training_messages_evenly() -> None:
    frame = split_messages({"a": 10, "b": 4, "c": 7}, {"a": 5, "b": 1})
    balanced, told = prepare.oversample(frame, ["a", "b", "c"], seed=1)
    assert counts(balanced, "train") == {"a": 10, "b": 10, "c": 10}
    assert counts(balanced, "val") == {"a": 5, "b": 1}
    times = balanced[balanced["label"] == "b"].query("split == 'train'")["text"].value_counts()
    assert (len(times), set(times)) == (4, {2, 3})
    assert told == "added 9 repeats to the 21 training messages so that every class has 10 (balance=oversample)"
    assert prepare.oversample(frame, ["a", "b", "c"], seed=1)[0].equals(balanced)
    assert not prepare.oversample(frame, ["a", "b", "c"], seed=2)[0].equals(balanced)


def test_class_weights_are_inverse_to_frequency_with_mean_one() -> None:
    frame = split_messages({"a": 30, "b": 10}, {"a": 2, "b": 1})
    weighed, told = prepare.weigh(frame, ["a", "b"], by_class=True)
    train = weighed[weighed["split"] == "train"]
    assert train.groupby("label")["weight"].first().to_dict() == pytest.approx({"a": 40 / 60, "b": 40 / 20})
    assert train["weight"].mean() == pytest.approx(1)
    assert (weighed.loc[weighed["split"] == "val", "weight"] == 1).all()
    assert told == "weights of the training messages by class: a 0.667, b 2 (balance=weights)"


def test_weights_of_the_source_have_mean_one_and_multiply_those_of_classes() -> None:
    frame = split_messages({"a": 2, "b": 2}, {"a": 1}).assign(weight=[1.0, 3.0, 2.0, 2.0, 7.0])
    assert prepare.weigh(frame, ["a", "b"], by_class=False)[0]["weight"].tolist() == [0.5, 1.5, 1.0, 1.0, 1.0]
    frame = split_messages({"a": 3, "b": 1}, {}).assign(weight=[0.0, 1.0, 1.0, 1.0])
    weights = prepare.weigh(frame, ["a", "b"], by_class=True)[0]["weight"]
    assert weights.mean() == pytest.approx(1)
    assert weights[3] / weights[1] == pytest.approx(3)
    assert "weight" not in prepare.weigh(split_messages({"a": 3, "b": 1}, {}), ["a", "b"], by_class=False)[0]
    with pytest.raises(OptionError, match="weights: expected weights of which some"):
        prepare.weigh(frame.assign(weight=0.0), ["a", "b"], by_class=False)


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
    with pytest.raises(UserError, match=r"train_size: expected a number"):
        prepare.subset_train(pool(a=50, b=50).assign(split="train"), size, seed=0)


def test_data_without_two_classes_of_three_messages_is_refused() -> None:
    with pytest.raises(UserError, match="at least two classes"):
        prepare.check_classes(pool(a=5), ["a"])
    with pytest.raises(UserError, match=r"at least 3 messages.*1 of 2 classes .*such as 'b' with 2"):
        prepare.check_classes(pool(a=5, b=2), ["a", "b"])


def test_some_rare_classes_among_others_are_no_mistake() -> None:
    prepare.check_classes(pool(a=5, b=5, c=1), ["a", "b", "c"])
    ids = {f"id{i}": 1 for i in range(11)}
    with pytest.raises(UserError, match="11 of 13 classes have fewer"):  # perhaps another column is meant
        prepare.check_classes(pool(a=5, b=5, **ids), ["a", "b", *ids])


def test_given_splits_need_no_messages_of_a_class() -> None:
    given_rows = messages(("v", "a", "val"), ("t", "a", "test"))
    prepare.check_classes(pd.concat([pool(a=1, b=1), given_rows], ignore_index=True), ["a", "b"])


def test_fewer_splits_need_fewer_messages_of_a_class() -> None:
    prepare.check_classes(pool(a=5, b=1), ["a", "b"], ("train",))
    with pytest.raises(UserError, match="at least 2 messages"):
        prepare.check_classes(pool(a=5, b=1), ["a", "b"], ("train", "val"))


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(OptionError, match=r"deduplicate: expected none, exact or near, but it is fuzzy"):
        prepare.deduplicate(pool(a=3), "fuzzy")  # type: ignore[arg-type]


def test_hash_tells_texts_apart() -> None:
    assert prepare.text_hash("hello") == "2cf24dba5fb0a30e"
    assert prepare.text_hash("\ud83d") != prepare.text_hash("\ud83e")  # halves of characters, as JSON can hold them
