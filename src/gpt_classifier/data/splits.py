"""Assign messages to training, validation and test: pure functions on frames of messages, see `data.prepare`."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.errors import OptionError, UserError, expect_number, expect_one_of

Split = Literal["random", "stratified", "grouped", "time"]
Fractions = dict[str, float]
"""The part of the messages that each of validation and test takes, as far as it is to be made."""


SMALL_SPLIT = 20  # messages that validation or test may have anyway, so that no class is missing there


def planned_splits(
    frame: pd.DataFrame, val_fraction: float, test_fraction: float, folds: int | None = None
) -> tuple[str, ...]:
    """Which splits there will be: those that the messages came with, and those with a fraction above 0.

    Raises:
        OptionError: fractions that leave nothing for training.
    """
    fractions = {"val": val_fraction} | ({} if folds else {"test": test_fraction})
    for name, fraction in fractions.items():
        expect_number(f"{name}_fraction", fraction, 0, 1)
    for name, fraction in fractions.items():
        if sum(fractions.values()) >= 1:
            raise OptionError(
                f"{name}_fraction",
                "a part of at least 0 and below 1 that leaves something for training",
                fraction,
                f"Validation and test take {' and '.join(map(str, fractions.values()))} of the messages.",
            )
    made = {"train", *(name for name, fraction in fractions.items() if fraction), *(["test"] if folds else [])}
    return tuple(name for name in SPLITS if name in made or (frame["split"] == name).any())


def split(
    frame: pd.DataFrame,
    val_fraction: float,
    test_fraction: float,
    how: Split,
    seed: int,
    shuffles: int = 1,
    folds: int | None = None,
    fold: int = 0,
) -> pd.DataFrame:
    """Assign a split to the messages that have none yet.

    Splits that came with the frame are complete; the others take their fraction, and training takes the rest.

    Args:
        frame: messages; `grouped` needs the column `group`, and `time` the column `time`.
        val_fraction: part of the pool for validation, 0 ≤ fraction < 1; 0 makes none. With folds, part of what is
            not in the fold.
        test_fraction: part of the pool for testing, likewise. Unused with folds.
        how: `random`: one shuffle is cut where the book's chapter cuts it, training up to `int(n · 0.7)`,
            validation the next `int(n · 0.1)`. `stratified`: each split has its share of every class, at least one
            message where the class has that many; of very many small classes some only. `grouped`: no group is in two
            splits; sizes, and shares of the classes, come as close to the fractions as whole groups allow. `time`:
            training has the oldest messages and testing the newest; messages of the same time stay together.
        seed: of the shuffle.
        shuffles: how often, each time with the same seed; the script of the book's experiments does so twice.
        folds: cross-validation: cut the pool into that many parts, of which one is the test set; `None` for a single
            test set.
        fold: the part that is the test set, from 0.

    Returns:
        The frame in the order train, val, test, each shuffled, or by time.

    Raises:
        UserError: options that do not fit the messages, or a split that would be empty.
    """
    expect_one_of("split", how, tuple(CUTS))
    _check_columns(frame, how)
    splits = planned_splits(frame, val_fraction, test_fraction, folds)
    given = frame[frame["split"].notna()]
    pool = frame[frame["split"].isna()]
    _check_given_groups(pool, given)
    fractions = {"val": val_fraction} | ({} if folds else {"test": test_fraction})
    fractions = {name: part for name, part in fractions.items() if part and not (given["split"] == name).any()}
    for _ in range(shuffles):
        pool = pool.sample(frac=1, random_state=seed)
    if folds is None:
        pool = CUTS[how](pool, fractions, seed)
    else:
        _check_folds(given, len(pool), how, folds, fold)
        in_fold = FOLDS[how](pool, folds, seed) == fold
        pool = pd.concat([CUTS[how](pool[~in_fold], fractions, seed), pool[in_fold].assign(split="test")])
    joined = pd.concat([pool, given])
    for name in splits:
        if not (joined["split"] == name).any():
            raise UserError(
                f"Of {len(joined)} messages none is left for the {name} split. Add messages, or set other fractions "
                f"for validation and test."
            )
    return pd.concat([joined[joined["split"] == name] for name in splits], ignore_index=True)


def _check_columns(frame: pd.DataFrame, how: Split) -> None:
    """Groups and times are needed where they are asked for, and not named in vain: a split would mix them."""
    for way, column in (("grouped", "group"), ("time", "time")):
        if way == how and column not in frame:
            raise OptionError(
                "split",
                "random or stratified, as nothing says the messages' groups or times",
                how,
                f"For a table, name their column in {{group}}{column}_column.",
            )
        if way != how and column in frame:
            raise OptionError("split", f"{way}, as the messages have a {column}", how)


def _check_given_groups(pool: pd.DataFrame, given: pd.DataFrame) -> None:
    if "group" not in pool:
        return
    shared = pool["group"][pool["group"].isin(given["group"])].unique()
    if len(shared):
        raise OptionError(
            "split",
            "groups that are in one split each",
            f"grouped, but {len(shared)} groups, such as {shared[0]!r}, are in the given validation or test set too",
            "Take them out of one of the files.",
        )


def _check_folds(given: pd.DataFrame, messages: int, how: Split, folds: int, fold: int) -> None:
    expect_number("folds", folds, 2, messages, whole=True)
    expect_number("fold", fold, 0, folds - 1, whole=True)
    if how not in FOLDS:
        raise OptionError("split", f"{', '.join(FOLDS)} with folds, as every message is tested once", how)
    if (given["split"] == "test").any():
        raise OptionError("folds", "none, as the test set is given", folds)


def _cut_in_order(shuffled: pd.DataFrame, fractions: Fractions, seed: int) -> pd.DataFrame:
    n = len(shuffled)
    n_val = int(n * fractions.get("val", 0))
    train_fraction = round(1 - sum(fractions.values()), 9)  # 0.7, not 0.7000000000000001
    n_train = int(n * train_fraction) if "test" in fractions else n - n_val
    names = ["train"] * n_train + ["val"] * n_val + ["test"] * (n - n_train - n_val)
    return shuffled.assign(split=names)


def _cut_each_class(shuffled: pd.DataFrame, fractions: Fractions, seed: int) -> pd.DataFrame:
    label_of = pd.factorize(shuffled["label"], sort=True)[0]
    sizes = np.bincount(label_of).tolist()
    splits: list[str] = []  # of class after class
    for size, counts in zip(sizes, _counts_of_classes(sizes, fractions, seed), strict=True):
        names = [name for name, count in counts.items() for _ in range(count)]
        splits += ["train"] * (size - len(names)) + names
    by_class = shuffled.iloc[label_of.argsort(kind="stable")]
    return by_class.assign(split=splits).sample(frac=1, random_state=seed)


def _counts_of_classes(sizes: Sequence[int], fractions: Fractions, seed: int) -> list[dict[str, int]]:
    """How many messages of each class validation and test get.

    At least one, unless the class has too few for that, or so many classes are small that a split would get half as
    many messages again as are planned for it: then chance says which of them have one there.
    """
    rows = [{name: max(1, round(size * part)) for name, part in fractions.items()} for size in sizes]
    for size, counts in zip(sizes, rows, strict=True):
        while sum(counts.values()) >= size:  # training has one first, then test
            counts[max(counts, key=lambda name: counts[name])] -= 1
    order = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    for name, part in fractions.items():
        planned = round(sum(sizes) * part)
        total = sum(counts[name] for counts in rows)
        if total > max(1.5 * planned, SMALL_SPLIT):
            small = [i for i in order if round(sizes[i] * part) == 0 and rows[i][name]]
            for i in small[: total - planned]:
                rows[i][name] = 0
    return rows


def _cut_groups(shuffled: pd.DataFrame, fractions: Fractions, seed: int) -> pd.DataFrame:
    shares = {"train": 1 - sum(fractions.values()), **fractions}
    names = np.array(list(shares))
    return shuffled.assign(split=names[_place_groups(shuffled, list(shares.values()), seed)].tolist())


def _cut_by_time(shuffled: pd.DataFrame, fractions: Fractions, seed: int) -> pd.DataFrame:
    pool = shuffled.sort_values("time", kind="stable")
    times = pool["time"].to_numpy()
    end = len(pool)
    names: list[str] = []
    for name in ("test", "val"):  # the newest first
        if name in fractions:
            start = _between_times(times, max(0, end - round(len(pool) * fractions[name])), end)
            names += [name] * (end - start)
            end = start
    return pool.assign(split=["train"] * end + names[::-1])


def _between_times(times: np.ndarray, cut: int, end: int) -> int:
    """The place nearest to a cut where the time changes, with messages on both sides if that can be."""
    before, after = (
        int(np.searchsorted(times[:end], times[min(cut, end - 1)], side=side)) for side in ("left", "right")
    )
    return before if after == end or (before and cut - before <= after - cut) else after


def _place_groups(shuffled: pd.DataFrame, shares: Sequence[float], seed: int) -> np.ndarray:
    """Whole groups into bins, each to the bin that lacks most of what the group has, by class and in all.

    Groups come in random order, those that are large for the smallest bin first, by size: at the end nothing could
    make up for them.

    Args:
        shuffled: messages with `group` and `label`.
        shares: the part of the messages that each bin is to have.
        seed: of the order.

    Returns:
        The bin of each message.

    Raises:
        OptionError: there are fewer groups than bins.
    """
    groups, names = pd.factorize(shuffled["group"])
    labels, classes = pd.factorize(shuffled["label"])
    if len(names) < len(shares):
        raise OptionError(
            "split", "another way than grouped where there are few groups", f"grouped, with {len(names)} groups"
        )
    sizes = np.zeros((len(names), len(classes)))
    np.add.at(sizes, (groups, labels), 1)
    in_all = sizes.sum(axis=1)
    sizes = np.column_stack([sizes, in_all])  # (groups, classes + 1)
    lacking = np.outer(shares, sizes.sum(axis=0))  # (bins, classes + 1)
    parts = sizes / sizes.sum(axis=0)  # of each class, and of all, that a group has
    parts[:, -1] *= len(classes)  # meeting the fractions counts as much as all classes together
    order = np.random.default_rng(seed).permutation(len(names))
    large = in_all > len(shuffled) * min(shares) / 2
    order = order[np.argsort(-(in_all * large)[order], kind="stable")]
    bin_of = np.empty(len(names), dtype=int)
    empty = np.ones(len(shares), dtype=bool)
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        need = lacking @ parts[group]
        if left <= empty.sum():
            need[~empty] = -np.inf
        chosen = int(need.argmax())
        bin_of[group], empty[chosen] = chosen, False
        lacking[chosen] -= sizes[group]
    return bin_of[groups]


def _folds_in_order(shuffled: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    return np.arange(len(shuffled)) % folds


def _folds_of_each_class(shuffled: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """Messages class after class are dealt out like cards."""
    number = np.empty(len(shuffled), dtype=int)
    number[pd.factorize(shuffled["label"])[0].argsort(kind="stable")] = np.arange(len(shuffled)) % folds
    return number


def _folds_of_groups(shuffled: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    return _place_groups(shuffled, [1 / folds] * folds, seed)


CUTS: dict[str, Callable[[pd.DataFrame, Fractions, int], pd.DataFrame]] = {
    "random": _cut_in_order,
    "stratified": _cut_each_class,
    "grouped": _cut_groups,
    "time": _cut_by_time,
}
FOLDS: dict[str, Callable[[pd.DataFrame, int, int], np.ndarray]] = {
    "random": _folds_in_order,
    "stratified": _folds_of_each_class,
    "grouped": _folds_of_groups,
}
