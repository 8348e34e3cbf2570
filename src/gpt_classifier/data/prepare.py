"""Deduplicate, balance, take a part of: pure functions on frames of messages.

A frame has the columns `text`, `label` and `split`, and whatever else its source brings (`data.sources.Messages`).
`split` is `None` for messages that are yet to be split, and `train`, `val` or `test` for the others; what is known
to be for validation or testing is never changed or balanced.
"""

import hashlib
import re
from typing import Any, Literal

import pandas as pd

from gpt_classifier.errors import OptionError, UserError, expect_number, expect_one_of
from gpt_classifier.tables.usable import expect_classes

Deduplicate = Literal["none", "exact", "near"]
Balance = Literal["none", "undersample", "oversample", "weights", "undersample_all"]
BALANCES: tuple[Balance, ...] = ("none", "undersample", "oversample", "weights", "undersample_all")
SPLITS = ("train", "val", "test")

NOT_LETTERS = re.compile(r"[\W\d_]+")
ASCII_LETTERS = bytes(code if chr(code).isalpha() else ord(" ") for code in range(128)).ljust(256)
"""What `bytes.translate` makes of ASCII: other characters become spaces, as with `NOT_LETTERS`, many times as fast."""


def text_hash(text: str) -> str:
    """The first 16 hexadecimal digits of a text's SHA-256: tells texts apart without keeping them."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fold(text: str) -> str:
    """What near-duplicates share: the words, without case, digits, punctuation and spacing.

    A text of which nothing is left stands for itself.
    """
    folded = text.casefold()
    if folded.isascii():
        return b" ".join(folded.encode("ascii").translate(ASCII_LETTERS).split()).decode("ascii") or text
    return NOT_LETTERS.sub(" ", folded).strip() or text


def deduplicate(frame: pd.DataFrame, how: Deduplicate) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the first of equal messages.

    Messages that are yet to be split are also dropped when they occur in a given validation or test set.
    A text that occurs with two labels is dropped altogether.

    Args:
        frame: messages.
        how: `none`, `exact` (equal texts) or `near` (texts equal once folded).

    Returns:
        The messages that are left, and how many were dropped: `duplicates` and `contradictions`.
    """
    expect_one_of("deduplicate", how, ("none", "exact", "near"))
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


def undersample_all(frame: pd.DataFrame, class_names: list[str], seed: int) -> tuple[pd.DataFrame, str]:
    """Undersample every class to the size of the smallest before the split, in the order of `class_names`.

    This is what the book's chapter does: with `ham`, `spam` and seed 123 it takes the same rows. Validation and test
    then lose the class frequencies that they would have in use; `undersample` keeps them.

    Returns:
        The messages that are left, those that already have a split among them, and a sentence about the others.
    """
    given = frame["split"].notna()
    pool = frame[~given]
    sampled = pd.concat(_undersampled(pool, class_names, seed))
    told = _dropped(pool, sampled, "messages", "undersample_all")
    return pd.concat([sampled, frame[given]], ignore_index=True), told


def undersample(frame: pd.DataFrame, class_names: list[str], seed: int) -> tuple[pd.DataFrame, str]:
    """Undersample every class of the training messages to the size of the smallest; validation and test stay whole.

    Returns:
        The messages that are left, in their order, and a sentence about the others.
    """
    train = frame[frame["split"] == "train"]
    sampled = pd.concat(_undersampled(train, class_names, seed))
    told = _dropped(train, sampled, "training messages", "undersample")
    return frame[(frame["split"] != "train") | frame.index.isin(sampled.index)].reset_index(drop=True), told


def _undersampled(rows: pd.DataFrame, class_names: list[str], seed: int) -> list[pd.DataFrame]:
    smallest = int(rows["label"].value_counts().min())
    of_class = _by_class(rows)
    classes = [of_class.get(name, rows[:0]) for name in class_names]
    return [part if len(part) <= smallest else part.sample(smallest, random_state=seed) for part in classes]


def _by_class(rows: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    """The messages of each class that has any, in their order; found in one pass, whatever the number of classes."""
    return dict(iter(rows.groupby("label", sort=False)))


def _dropped(rows: pd.DataFrame, kept: pd.DataFrame, what: str, how: Balance) -> str:
    if len(kept) == len(rows):
        return ""
    smallest = int(kept["label"].value_counts().min())
    dropped = f"dropped {len(rows) - len(kept):,} of {len(rows):,} {what}"
    return f"{dropped} so that every class has {smallest:,} (balance={how})"


def oversample(frame: pd.DataFrame, class_names: list[str], seed: int) -> tuple[pd.DataFrame, str]:
    """Repeat training messages until every class has as many as the largest; validation and test stay as they are.

    No message of a class is repeated twice more often than another one of it.

    Returns:
        The messages, with the repeated ones at the end of training, and a sentence about these.
    """
    train = frame[frame["split"] == "train"]
    largest = int(train["label"].value_counts().max())
    repeated, of_class = [], _by_class(train)
    for name in class_names:
        if name in of_class:
            rows = of_class[name]
            copies, rest = divmod(largest - len(rows), len(rows))
            repeated += [*[rows] * copies, rows.sample(rest, random_state=seed)]
    added = pd.concat(repeated)
    if added.empty:
        return frame, ""
    told = f"added {len(added):,} repeats to the {len(train):,} training messages so that every class has {largest:,}"
    others = frame[frame["split"] != "train"]
    return pd.concat([train, added, others], ignore_index=True), f"{told} (balance=oversample)"


def weigh(frame: pd.DataFrame, class_names: list[str], by_class: bool) -> tuple[pd.DataFrame, str]:
    """Give each training message its weight in the loss.

    Args:
        frame: split messages; those of a source with weights have the column `weight`.
        class_names: of the sentence.
        by_class: weigh the classes alike, however many training messages they have: `n / (C n_c)` for each message
            of a class with `n_c` of the `n` training messages, where C classes have any; times the source's weight.

    Returns:
        The messages, and a sentence about the weights of classes. The column `weight` has mean 1 over the training
        messages and is 1 elsewhere; there is none where nothing says other than 1.

    Raises:
        OptionError: no training message has a weight above 0.
    """
    if not by_class and "weight" not in frame:
        return frame, ""
    training = frame["split"] == "train"
    counts = frame.loc[training, "label"].value_counts()
    of_class = {name: training.sum() / (len(counts) * n) if by_class else 1.0 for name, n in counts.items()}
    own = frame.get("weight", 1.0)
    weights = (frame["label"].map(of_class) * own).astype(float).where(training, 1.0)
    mean = weights[training].mean()
    if not mean > 0:
        raise OptionError("weights", "weights of which some training message has more than 0", "0 for all of them")
    frame = frame.assign(weight=weights.where(~training, weights / mean))
    if not by_class or len(set(counts)) == 1:
        return frame, ""
    shown = [f"{name} {of_class[name]:.3g}" for name in class_names if name in of_class]
    listed = ", ".join(shown[:10]) + (", …" if len(shown) > 10 else "")
    return frame, f"weights of the training messages by class: {listed} (balance=weights)"


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
    expect_number("train_size", size, 0)
    number = round(len(train) * size) if isinstance(size, float) and 0 < size <= 1 else size
    classes = train["label"].nunique()
    if int(number) != number or not classes <= number <= len(train):
        raise OptionError(
            "train_size",
            f"a number from {classes} (one for each class) to {len(train)} (all training messages), or a fraction "
            f"between 0 and 1 that gives as many",
            size,
        )
    shuffled = train.sample(frac=1, random_state=seed)
    # where each message stands within its class, as a part of that class: the first of every class come
    # first, and any prefix has each class in proportion
    by_class = shuffled.groupby("label")
    place = by_class.cumcount() / by_class["label"].transform("size")
    kept = shuffled.assign(place=place).sort_values("place", kind="stable").index[: int(number)]
    return frame[(frame["split"] != "train") | frame.index.isin(kept)].reset_index(drop=True)


def check_classes(frame: pd.DataFrame, class_names: list[str], splits: tuple[str, ...] = SPLITS) -> None:
    """Refuse what no classifier can be trained on.

    Args:
        frame: messages.
        class_names: of all classes.
        splits: those that there will be.

    Raises:
        UserError: fewer than two classes, or fewer than two with a message for each split that is to be made; or less
            than half of the messages are in such classes, as where the labels are from another column.
    """
    needed = sum(not (frame["split"] == name).any() for name in splits)
    counts = frame[frame["split"].isna()]["label"].value_counts().reindex(class_names, fill_value=0)
    expect_classes(class_names)
    rare = counts < needed
    if rare.any() and ((~rare).sum() < 2 or counts[rare].sum() > counts.sum() / 2):
        raise UserError(
            f"A class needs at least {needed} messages, one for each split that is to be made, but {rare.sum()} of "
            f"{len(counts)} classes have fewer, such as {counts.idxmin()!r} with {counts.min()}. Add messages, merge "
            f"classes, or take the labels from a column of classes."
        )


def overlap(frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many validation and test messages also occur in the training set.

    Returns:
        For `val` and `test`, as far as there are any, the number of messages with an equal text in training (`exact`)
        and with one that is equal once folded (`near`, which includes the former).
    """
    train = frame[frame["split"] == "train"]["text"]
    folded = set(train.map(fold))
    counts = {}
    for name in ("val", "test"):
        texts = frame[frame["split"] == name]["text"]
        if len(texts):
            counts[name] = {
                "exact": int(texts.isin(set(train)).sum()),
                "near": int(texts.map(fold).isin(folded).sum()),
            }
    return counts
