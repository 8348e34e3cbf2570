"""The LightningDataModule: from a source to the loaders of its three splits."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from gpt_classifier.data import prepare
from gpt_classifier.data.batching import EVALUATION_TOKENS, EvaluationBatches, PadTo, TokenDataset, TrainBatches
from gpt_classifier.data.corrections import corrected
from gpt_classifier.data.prepare import BALANCES
from gpt_classifier.data.sources import Source, extra_columns
from gpt_classifier.data.splits import Split, planned_splits, split
from gpt_classifier.errors import OptionError, UserError, expect_number, expect_one_of
from gpt_classifier.tasks import Task
from gpt_classifier.tokenizers.cutting import TRUNCATES, TextTooLong, Truncate, Windows, beginning
from gpt_classifier.tokenizers.interface import Tokenizer

log = logging.getLogger(__name__)

WINDOWED_LENGTH = 4096  # tokens that are kept of a text that is read in windows, unless the context is longer
MOST_WINDOWED = 10**6  # tokens of one text: more are a slip
SMALL_TEXTS = 20_000_000  # bytes of UTF-8 up to which `keep_texts=auto` keeps them


@dataclass
class DataReport:
    """What was done to the messages, as numbers.

    Args:
        found: messages of each class in the source.
        dropped: by deduplication.
        splits: for each split that there is the messages of each class.
        overlap: validation and test messages that also occur in training, see `prepare.overlap`.
        longest: most tokens of a message in each split, after cutting.
        truncated: messages cut in each split.
        several_windows: messages in each split that are read in more than one window; empty without windows.
        max_length: tokens that a message may have.
        pad_to: what batches are padded to, in tokens, or `batch`.
        note: what every report on this data must say.
        balanced: a sentence about the messages that balancing dropped, repeated or weighed; empty if none.
        taught: splits whose labels are decisions of a teacher, which predictions agree with or not.
        corrected: a sentence about labels that a person has put right; empty if none.
    """

    found: dict[str, int]
    dropped: dict[str, int]
    splits: dict[str, dict[str, int]]
    overlap: dict[str, dict[str, int]]
    longest: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    several_windows: dict[str, int] = field(default_factory=dict)
    max_length: int = 0
    pad_to: PadTo = "batch"
    note: str = ""
    balanced: str = ""
    taught: tuple[str, ...] = ()
    corrected: str = ""

    def log(self) -> None:
        """Tell a person, with warnings for what makes results look better than they are."""
        log.info("found    %s", _counts(self.found))
        if self.corrected:
            log.info("labels   %s", self.corrected)
        if any(self.dropped.values()):
            log.info("dropped  %s", _counts(self.dropped))
        if self.balanced:
            log.info("balance  %s", self.balanced)
        for name, counts in self.splits.items():
            log.info(
                "%-8s %d messages (%s), longest %d tokens, %d cut to %d",
                name,
                sum(counts.values()),
                _counts(counts),
                self.longest[name],
                self.truncated[name],
                self.max_length,
            )
        for name, counts in self.splits.items():
            lacking = [label for label, number in counts.items() if not number]
            if lacking:
                log.warning(
                    "%s has no messages of %d of %d classes, such as %r", name, len(lacking), len(counts), lacking[0]
                )
        if self.several_windows:
            several = _counts(self.several_windows)
            log.info("windows  read in more than one: %s messages; lengths count what windows repeat", several)
        for name, counts in self.overlap.items():
            if counts["near"]:
                log.warning(
                    "%d of %d %s messages also occur in the training set (%d when case, digits and punctuation are "
                    "ignored), which makes the results look better than they are; data.deduplicate=near keeps them "
                    "apart",
                    counts["exact"],
                    sum(self.splits[name].values()),
                    name,
                    counts["near"],
                )
        if self.note:
            log.warning(self.note)


def _counts(counts: dict[str, int]) -> str:
    """`160 ham, 20 spam`; of classes that are numbers themselves `1: 160, 2: 20`."""
    numbers = any(name[:1].isdigit() for name in counts)
    shown = [f"{name}: {number}" if numbers else f"{number} {name}" for name, number in counts.items()]
    return ", ".join(shown if len(shown) <= 10 else [*shown[:10], "…"])


class MessageDataModule(LightningDataModule):
    """Loaders of padded token batches, prepared in the order load, deduplicate, split, balance.

    `test_dataloader` gives one loader for each split of `evaluated`, by default all that there are (`splits`), in the
    order train, val, test: an evaluation covers the whole of all of them.

    Args:
        source: where messages come from.
        tokenizer: texts to token ids.
        task: makes the task from the class names.
        context_length: tokens that the model can read.
        deduplicate: `none`, `exact` or `near`, see `prepare.deduplicate`.
        balance: how classes of different size are trained on, see `prepare`: `none` as they are; `undersample`
            drops training messages, `oversample` repeats them, `weights` weighs them; `undersample_all` drops
            messages before the split, as the book's chapter does, so that validation and test are balanced too.
        val_fraction: part of the messages for validation; 0 for no validation.
        test_fraction: part of the messages for testing; 0 for no test.
        split: `random`, `stratified`, `grouped` or `time`, see `splits.split`; `auto` is the chapter's `random` with
            `balance=undersample_all`, and `stratified` otherwise.
        split_seed: of the split and of what balancing takes.
        split_shuffles: how often the messages are shuffled before the split, see `splits.split`.
        train_size: train on that many messages, or that fraction of them; `None` for all. Taken after undersampling
            and before oversampling.
        subset_seed: which ones.
        batch_size: messages of a training step over all processes.
        bucket_batches: training batches that are sorted by length together, see `TrainBatches`; 1 sorts nothing,
            neither in training nor in evaluation.
        pad_to: `batch`, `train` (the longest training message, which then also caps the others), `context`,
            or a number of tokens, which caps all messages.
        max_length: tokens that are kept of a message, those that windows repeat counted once; `None` for the model's
            context, or `WINDOWED_LENGTH` with windows, if that is more.
        truncate: what is kept of a longer message, `head`, `tail` or `head_tail`, see `cut_rows`; `error` refuses it.
        seed: order of the training batches.
        folds: cross-validation with that many test sets, which cover each message once; `None` for a single test set.
        fold: which of them, from 0.
        keep_texts: whether a run may keep a copy of the texts; `auto` if they are small, see `keeps_texts`.
        evaluation_tokens: of a batch of messages of like length, see `EvaluationBatches`.
        windows: how a long message is read; `None` for all at once. With windows `pad_to` is `batch`.
        corrections: a table of labels to put right and messages to leave out, see `corrections.corrected`; `None` for
            none.

    Attributes:
        needed: splits that a run passes through the model, by default all that there are.
        found: all messages of the source, as it gave them.
        unlabelled: texts of the source that have no label.
        announce: told a split and the rows of each batch some batches before it comes; `None` for nobody.

    Raises:
        UserError: an option out of its range; or, on `setup`, messages that can't be trained on.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenizer,
        task: Callable[[list[str]], Task],
        context_length: int,
        deduplicate: prepare.Deduplicate,
        balance: prepare.Balance,
        val_fraction: float,
        test_fraction: float,
        split: Split | Literal["auto"],
        split_seed: int,
        split_shuffles: int,
        train_size: float | int | None,
        subset_seed: int,
        batch_size: int,
        bucket_batches: int,
        pad_to: PadTo | str,
        max_length: int | None,
        truncate: Truncate,
        seed: int,
        folds: int | None = None,
        fold: int = 0,
        keep_texts: bool | Literal["auto"] = "auto",
        evaluation_tokens: int = EVALUATION_TOKENS,
        windows: Windows | None = None,
        corrections: str | None = None,
    ) -> None:
        super().__init__()
        if source is None:  # as in a configuration for texts from Python
            raise OptionError("source", "what texts and labels come from, as data=csv names it", "null")
        expect_one_of("balance", balance, BALANCES)
        expect_number("batch_size", batch_size, 1, whole=True)
        expect_number("bucket_batches", bucket_batches, 1, whole=True)
        expect_number("split_seed", split_seed, 0, 2**32 - 1, whole=True)
        expect_number("seed", seed, 0, 2**32 - 1, whole=True)
        expect_number("split_shuffles", split_shuffles, 1, 100, whole=True)
        expect_number("subset_seed", subset_seed, 0, 2**32 - 1, whole=True)
        expect_one_of("truncate", truncate, TRUNCATES)
        if not isinstance(keep_texts, bool) and keep_texts != "auto":
            raise OptionError("keep_texts", "true, false or auto", keep_texts)
        if not isinstance(corrections, str | None):
            raise OptionError("corrections", "the path of a table", corrections)
        fixed = pad_to if isinstance(pad_to, int) else None
        if fixed is None and pad_to not in ("batch", "train", "context"):
            raise OptionError("pad_to", "batch, train, context or a number of tokens", pad_to)
        if windows is not None and pad_to != "batch":
            hint = "What is read in windows does not depend on padding."
            raise OptionError("pad_to", "batch, as pooling=windows pads no text beyond its batch", pad_to, hint)
        most = context_length if windows is None else MOST_WINDOWED
        for option, value in (("max_length", max_length), ("pad_to", fixed)):
            if value is not None:
                hint = f"The model reads at most {context_length} tokens at once; pooling=windows reads more."
                expect_number(option, value, 1, most, whole=True, hint=hint)
        self.source = source
        self.tokenizer = tokenizer
        self.make_task = task
        self.deduplicate = deduplicate
        self.balance = balance
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.split: Split = split if split != "auto" else "random" if balance == "undersample_all" else "stratified"
        self.split_seed = split_seed
        self.split_shuffles = split_shuffles
        self.train_size = train_size
        self.subset_seed = subset_seed
        self.batch_size = batch_size
        self.bucket_batches = bucket_batches
        self.truncate: Truncate = truncate
        self.seed = seed
        self.windows = windows
        self.corrections = corrections
        self.pad_to: PadTo = {"context": context_length, "train": "batch"}.get(pad_to, pad_to)  # type: ignore
        self.pad_to_train = pad_to == "train"
        self.folds = folds
        self.fold = fold
        self.keep_texts = keep_texts
        self.evaluation_tokens = evaluation_tokens
        whole = context_length if windows is None else max(WINDOWED_LENGTH, context_length)
        self.max_length = min(limit for limit in (max_length or whole, fixed, most) if limit is not None)
        self.frame: pd.DataFrame | None = None
        self.announce: Callable[[str, list[int]], None] | None = None

    def prepare_data(self) -> None:
        self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        if self.frame is not None:
            return
        messages, fixed = self.source.load(), ""
        if self.corrections is not None:
            messages, fixed = corrected(messages, self.corrections)
        found = messages.frame if "row" in messages.frame else messages.frame.assign(row=range(len(messages.frame)))
        self.found, self.unlabelled = found, messages.unlabelled
        unique, dropped = prepare.deduplicate(found, self.deduplicate)
        self.splits = planned_splits(unique, self.val_fraction, self.test_fraction, self.folds)
        if "probabilities" not in unique:  # which tell of classes that no message was decided to be of
            prepare.check_classes(unique, messages.class_names, self.splits)
        frame, balanced = self._split_and_balance(unique, messages.class_names)
        self.evaluated = self.needed = self.splits
        self.class_names = messages.class_names
        self.whole_numbers = messages.whole_numbers
        self.task = self.make_task(messages.class_names)
        self.report = DataReport(
            found=_class_counts(messages.frame, self.class_names),
            dropped=dropped,
            splits={name: _class_counts(frame[frame["split"] == name], self.class_names) for name in self.splits},
            overlap=prepare.overlap(frame),
            note=messages.note,
            balanced=balanced,
            corrected=fixed,
            taught=tuple(frame.dropna(subset="probabilities")["split"].unique()) if "probabilities" in frame else (),
        )
        self._tokenize(frame)
        self.frame = frame

    def _split_and_balance(self, frame: pd.DataFrame, class_names: list[str]) -> tuple[pd.DataFrame, str]:
        """The split messages, and a sentence about what balancing did."""
        balanced = []
        if self.balance == "undersample_all":
            frame, told = prepare.undersample_all(frame, class_names, self.split_seed)
            balanced.append(told)
        frame = split(
            frame,
            self.val_fraction,
            self.test_fraction,
            self.split,
            self.split_seed,
            self.split_shuffles,
            self.folds,
            self.fold,
        )
        if self.balance == "undersample":
            frame, told = prepare.undersample(frame, class_names, self.split_seed)
            balanced.append(told)
        frame = prepare.subset_train(frame, self.train_size, self.subset_seed)
        if self.balance == "oversample":
            frame, told = prepare.oversample(frame, class_names, self.split_seed)
            balanced.append(told)
        frame, told = prepare.weigh(frame, class_names, by_class=self.balance == "weights")
        return frame, "".join([*balanced, told])

    def _tokenize(self, frame: pd.DataFrame) -> None:
        self.datasets = {}
        for name in self.splits:  # training first: its longest message may cap the others
            part = frame[frame["split"] == name]
            rows, cut = self._encode(part)
            weights = part["weight"].tolist() if "weight" in part else None
            targets = self.task.targets(part["label"].tolist())
            if name == "train" and name in self.report.taught:
                targets = torch.from_numpy(np.stack(part["probabilities"].tolist()))
            dataset = TokenDataset(name, rows, targets, self.pad_id, weights)
            if name == "train" and self.pad_to_train:
                self.pad_to = self.max_length = int(dataset.lengths.max())
            self.datasets[name] = dataset
            self.report.longest[name] = int(dataset.lengths.max())
            self.report.truncated[name] = cut
            if self.windows is not None:
                self.report.several_windows[name] = int((dataset.lengths > self.windows.size).sum())
        if len(self.datasets["train"]) < self.batch_size:
            found = len(self.datasets["train"])
            raise OptionError("batch_size", f"at most {found}, the number of training messages", self.batch_size)
        self.report.max_length = self.max_length
        self.report.pad_to = self.pad_to

    def _encode(self, part: pd.DataFrame) -> tuple[list[np.ndarray], int]:
        options = {} if self.windows is None else {"windows": self.windows}
        try:
            return self.tokenizer.encode(part["text"].tolist(), self.max_length, self.truncate, **options)
        except TextTooLong as error:
            message = part.iloc[error.index]
            raise OptionError(
                "truncate",
                f"head, tail or head_tail where a message has more than {self.max_length:,} tokens",
                f"error, and data row {int(message['row']) + 1} ({beginning(message['text'])}) has {error.tokens:,}",
                "Set {field}=head, tail or head_tail to cut it, or {group}max_length, if the model can read more; "
                "pooling=windows reads all of it.",
            ) from error

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_id

    def token_rows(self) -> dict[str, list[np.ndarray]]:
        """Token ids of the messages of each split of `needed`, in the order of their indices."""
        return {name: self.datasets[name].rows for name in self.needed}

    def split_frame(self, name: str) -> pd.DataFrame:
        """The messages of a split in the order of their indices: `row`, `label`, `text`, other columns of the source.

        Raises:
            UserError: there is no such split.
        """
        assert self.frame is not None, "setup() comes first"
        if name not in self.splits:
            raise UserError(f"There are no {name} messages: {name}_fraction is 0.")
        columns = ["row", "label", "text", *extra_columns(self.frame)]
        return self.frame.loc[self.frame["split"] == name, columns].reset_index(drop=True)

    def fingerprint(self) -> str:
        """A hash of the messages and their splits."""
        assert self.frame is not None, "setup() comes first"
        columns = [column for column in ("label", "text", "split", "weight") if column in self.frame]
        digest = hashlib.sha256(self.frame[columns].to_csv(index=False).encode("utf-8", "surrogatepass"))
        if "train" in self.report.taught:
            digest.update(self.datasets["train"].labels.numpy().tobytes())
        return digest.hexdigest()[:12]

    @property
    def keeps_texts(self) -> bool:
        """Whether a run may copy the texts into its folder; otherwise it keeps their row numbers and hashes."""
        if isinstance(self.keep_texts, bool):
            return self.keep_texts
        assert self.frame is not None, "setup() comes first"
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in self.frame["text"]) <= SMALL_TEXTS

    def _processes(self) -> dict[str, int]:
        if self.trainer is None:
            return {}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def train_dataloader(self) -> DataLoader:
        dataset = self.datasets["train"]
        batches = TrainBatches(
            dataset.lengths,
            self.batch_size,
            self.pad_to,
            bucket_batches=self.bucket_batches,
            seed=self.seed,
            **self._processes(),
        )
        if self.trainer is not None:  # a resumed run fetches its first batch before Lightning calls set_epoch
            batches.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return self._loader(dataset, batches)

    def _evaluation_dataloader(self, name: str) -> DataLoader:
        dataset = self.datasets[name]
        in_order = self.bucket_batches == 1
        batches = EvaluationBatches(
            dataset.lengths,
            self.batch_size,
            self.pad_to,
            in_order=in_order,
            budget=self.evaluation_tokens,
            **self._processes(),
        )
        return self._loader(dataset, batches)

    def _loader(self, dataset: TokenDataset, batches: TrainBatches | EvaluationBatches) -> DataLoader:
        def announce(indices: list[int]) -> None:
            if self.announce is not None:  # it may be set when the loader has been made
                self.announce(dataset.split, indices)

        batches.announce = announce
        return DataLoader(dataset, sampler=batches, batch_size=None)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        return self._evaluation_dataloader("val") if "val" in self.splits else []

    def test_dataloader(self) -> list[DataLoader]:
        return [self._evaluation_dataloader(name) for name in self.evaluated]


def _class_counts(frame: pd.DataFrame, class_names: list[str]) -> dict[str, int]:
    counts = frame["label"].value_counts()
    return {name: int(counts.get(name, 0)) for name in class_names}
