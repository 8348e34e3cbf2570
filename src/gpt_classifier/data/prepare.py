"""Deduplicate, balance, split, in this order: pure functions on frames of messages.

A frame has the columns `text`, `label` and `split`. `split` is `None` for messages that are yet to be split, and
`train`, `val` or `test` for the others; rows that come in with a split are never changed or balanced.
"""

import re
from typing import Literal

import pandas as pd

from gpt_classifier.errors import UserError, expect_number

Deduplicate = Literal["none", "exact", "near"]
Balance = Literal["none", "undersample"]
SPLITS = ("train", "val", "test")

NOT_LETTERS = re.compile(r"[\W\d_]+")


def fold(text: str) -> str:
    """What near-duplicates share: the words, without case, digits, punctuation and spacing.

    A text of which nothing is left stands for itself.
    """
    return NOT_LETTERS.sub(" ", text.casefold()).strip() or text


def deduplicate(frame: pd.DataFrame, how: Deduplicate) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the first of equal messages.

    Messages that are yet to be split are also dropped when they stand in a given validation or test set.
    A text that occurs with two labels is dropped altogether.

    Args:
        frame: messages.
        how: `none`, `exact` (equal texts) or `near` (texts equal once folded).

    Returns:
        The messages that are left, and how many were dropped: `duplicates` and `contradictions`.
    """
    if how not in ("none", "exact", "near"):
        raise UserError(f"data.deduplicate: expected none, exact or near, but it is {how}.")
    if how == "none":
        return frame, {"duplicates": 0, "contradictions": 0}
    keys = frame["text"].map(fold) if how == "near" else frame["text"]
    given = frame["split"].notna()
    pool = frame[~given]
    pool_keys = keys[~given]
    contradicted = pool.groupby(pool_keys)["label"].transform("nunique") > 1
    repeated = pool_keys.duplicated() | pool_keys.isin(keys[given])
    kept = frame[given | ~(contradicted | repeated).reindex(frame.index, fill_value=False)]
    dropped = {
        "duplicates": int((repeated & ~contradicted).sum()),
        "contradictions": int(contradicted.sum()),
    }
    return kept.reset_index(drop=True), dropped


def balance(frame: pd.DataFrame, how: Balance, class_names: list[str], seed: int) -> pd.DataFrame:
    """Undersample every class to the size of the smallest, in the order of `class_names`.

    Messages that already have a split are left alone. With `ham`, `spam` and seed 123 this takes the rows that
    the book's chapter takes.
    """
    if how not in ("none", "undersample"):
        raise UserError(f"data.balance: expected none or undersample, but it is {how}.")
    if how == "none":
        return frame
    given = frame["split"].notna()
    pool = frame[~given]
    smallest = int(pool["label"].value_counts().min())
    classes = [pool[pool["label"] == name] for name in class_names]
    sampled = [rows if len(rows) == smallest else rows.sample(smallest, random_state=seed) for rows in classes]
    return pd.concat([*sampled, frame[given]], ignore_index=True)


def split(
    frame: pd.DataFrame, val_fraction: float, test_fraction: float, stratify: bool, seed: int, shuffles: int = 1
) -> pd.DataFrame:
    """Shuffle the messages that have no split yet and assign them one.

    Splits that came with the frame are complete; the others take their fraction, and training takes the rest.

    Args:
        frame: messages.
        val_fraction: part of the pool for validation, 0 < fraction < 1.
        test_fraction: part of the pool for testing.
        stratify: give each split its share of every class, at least one message. Otherwise one shuffle is
            cut where the book's chapter cuts it: training up to `int(n · 0.7)`, validation the next `int(n · 0.1)`.
        seed: of the shuffle.
        shuffles: how often, each time with the same seed; the script of the book's experiments does so twice.

    Returns:
        The frame in the order train, val, test, each shuffled.
    """
    given = frame[frame["split"].notna()]
    for option, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        expect_number(f"data.{option}", fraction, 0, 1)
        if not 0 < fraction < 1 or val_fraction + test_fraction >= 1:
            raise UserError(
                f"data.{option}: expected a part between 0 and 1 that leaves something for training, but it is "
                f"{fraction} (data.val_fraction and data.test_fraction are {val_fraction} and {test_fraction})."
            )
    parts_of = {"val": val_fraction, "test": test_fraction}
    fractions = {name: part for name, part in parts_of.items() if not (given["split"] == name).any()}
    shuffled = frame[frame["split"].isna()]
    for _ in range(shuffles):
        shuffled = shuffled.sample(frac=1, random_state=seed)
    pool = _cut_each_class(shuffled, fractions, seed) if stratify else _cut_in_order(shuffled, fractions)
    joined = pd.concat([pool, given])
    for name in SPLITS:
        if not (joined["split"] == name).any():
            raise UserError(
                f"Of {len(joined)} messages none is left for the {name} split. Add messages, or set "
                f"data.val_fraction and data.test_fraction to other parts."
            )
    return pd.concat([joined[joined["split"] == name] for name in SPLITS], ignore_index=True)


def _cut_in_order(shuffled: pd.DataFrame, fractions: dict[str, float]) -> pd.DataFrame:
    n = len(shuffled)
    n_val = int(n * fractions.get("val", 0))
    train_fraction = round(1 - sum(fractions.values()), 9)  # 0.7, not 0.7000000000000001
    n_train = int(n * train_fraction) if "test" in fractions else n - n_val
    names = ["train"] * n_train + ["val"] * n_val + ["test"] * (n - n_train - n_val)
    return shuffled.assign(split=names)


def _cut_each_class(shuffled: pd.DataFrame, fractions: dict[str, float], seed: int) -> pd.DataFrame:
    parts = []
    for label, rows in shuffled.groupby("label"):
        counts = {name: max(1, round(len(rows) * part)) for name, part in fractions.items()}
        if sum(counts.values()) == len(rows) and max(counts.values()) > 1:  # both were rounded up
            counts[max(counts, key=lambda name: counts[name])] -= 1
        names = [name for name, count in counts.items() for _ in range(count)]
        if len(names) >= len(rows):
            raise UserError(
                f"data.val_fraction, data.test_fraction: of the {len(rows)} messages of class {label!r} none is left "
                f"for training. Set smaller parts."
            )
        parts.append(rows.assign(split=["train"] * (len(rows) - len(names)) + names))
    return pd.concat(parts).sample(frac=1, random_state=seed)  # so far class after class


def subset_train(frame: pd.DataFrame, size: float | int | None, seed: int) -> pd.DataFrame:
    """Keep a stratified part of the training messages; validation and test stay whole.

    With the same seed a smaller subset is part of every larger one.

    Args:
        frame: split messages.
        size: a number of messages (whole, at least one for each class) or a fraction from 0 to 1;
            `None` for all.
        seed: which messages are taken.
    """
    if size is None:
        return frame
    train = frame[frame["split"] == "train"]
    expect_number("data.train_size", size, 0)
    number = round(len(train) * size) if isinstance(size, float) and 0 < size <= 1 else size
    classes = train["label"].nunique()
    if int(number) != number or not classes <= number <= len(train):
        raise UserError(
            f"data.train_size: expected a number from {classes} (one for each class) to {len(train)} (all training "
            f"messages), or a fraction between 0 and 1 that gives as many, but it is {size}."
        )
    shuffled = train.sample(frac=1, random_state=seed)
    # where each message stands within its class, as a part of that class: the first of every class come
    # first, and any prefix has each class in proportion
    by_class = shuffled.groupby("label")
    place = by_class.cumcount() / by_class["label"].transform("size")
    kept = shuffled.assign(place=place).sort_values("place", kind="stable").index[: int(number)]
    return frame[(frame["split"] != "train") | frame.index.isin(kept)].reset_index(drop=True)


def check_classes(frame: pd.DataFrame, class_names: list[str]) -> None:
    """Refuse what no classifier can be trained on.

    Raises:
        UserError: fewer than two classes, or one with fewer than 3 messages, one for each split; those that the source
            gives need none.
    """
    needed = sum(not (frame["split"] == name).any() for name in SPLITS)
    counts = frame[frame["split"].isna()]["label"].value_counts().reindex(class_names, fill_value=0)
    if len(counts) < 2:
        raise UserError(
            f"A classifier needs at least two classes, but every message has the label {class_names[0]!r}. "
            f"Is data.label_column the right one?"
        )
    if counts.min() < needed:
        raise UserError(
            f"Every class needs at least {needed} messages, one for each split that is to be made, but "
            f"{(counts < needed).sum()} of {len(counts)} classes have fewer, such as {counts.idxmin()!r} with "
            f"{counts.min()}. Add messages, merge classes, or set data.label_column to a column of classes."
        )


def overlap(frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many validation and test messages also stand in the training set.

    Returns:
        For `val` and `test` the number of messages with an equal text in training (`exact`) and with one
        that is equal once folded (`near`, which includes the former).
    """
    train = frame[frame["split"] == "train"]["text"]
    counts = {}
    for name in ("val", "test"):
        texts = frame[frame["split"] == name]["text"]
        counts[name] = {
            "exact": int(texts.isin(set(train)).sum()),
            "near": int(texts.map(fold).isin(set(train.map(fold))).sum()),
        }
    return counts
