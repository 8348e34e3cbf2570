"""The LightningDataModule: from a source to the loaders of its three splits."""

import logging
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from gpt_classifier.data import prepare
from gpt_classifier.data.batching import EvaluationBatches, PadTo, TokenDataset, TrainBatches
from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.data.sources import Source
from gpt_classifier.data.tokenizers import Truncate, encode, load_encoding
from gpt_classifier.errors import UserError, expect_number

log = logging.getLogger(__name__)


@dataclass
class DataReport:
    """What was done to the messages, as numbers.

    Args:
        found: messages of each class in the source.
        dropped: by deduplication.
        splits: for each split the messages of each class.
        overlap: validation and test messages that also occur in training, see `prepare.overlap`.
        longest: most tokens of a message in each split, after cutting.
        truncated: messages cut in each split.
        max_length: tokens that a message may have.
        pad_to: what batches are padded to, in tokens, or `batch`.
        note: what every report on this data must say.
    """

    found: dict[str, int]
    dropped: dict[str, int]
    splits: dict[str, dict[str, int]]
    overlap: dict[str, dict[str, int]]
    longest: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    max_length: int = 0
    pad_to: PadTo = "batch"
    note: str = ""

    def log(self) -> None:
        """Tell a person, with warnings for what makes results look better than they are."""
        log.info("found    %s", _counts(self.found))
        if any(self.dropped.values()):
            log.info("dropped  %s", _counts(self.dropped))
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
        for name, counts in self.overlap.items():
            if counts["near"]:
                log.warning(
                    "%d of %d %s messages also stand in the training set (%d when case, digits and punctuation are "
                    "folded), which flatters the results; data.deduplicate=near keeps them apart",
                    counts["exact"],
                    sum(self.splits[name].values()),
                    name,
                    counts["near"],
                )
        if self.note:
            log.warning(self.note)


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{number} {name}" for name, number in counts.items()]
    return ", ".join(shown if len(shown) <= 10 else [*shown[:10], "…"])


class MessageDataModule(LightningDataModule):
    """Loaders of padded token batches, prepared in the order parse, deduplicate, balance, split.

    `test_dataloader` gives one loader for each of train, val and test, in this order: an evaluation covers
    the whole of all three.

    Args:
        source: where messages come from.
        tokenizer: name of the vocabulary.
        context_length: tokens that the model can read.
        deduplicate: `none`, `exact` or `near`, see `prepare.deduplicate`.
        balance: `none` or `undersample`.
        val_fraction: part of the messages for validation.
        test_fraction: part of the messages for testing.
        stratify: whether each split has its share of every class.
        split_seed: of undersampling and of the split.
        split_shuffles: how often the messages are shuffled before the split, see `prepare.split`.
        train_size: train on that many messages, or that fraction of them; `None` for all.
        subset_seed: which ones.
        batch_size: messages of a training step over all processes.
        bucket_batches: training batches that are sorted by length together, see `TrainBatches`; 1 sorts nothing,
            neither in training nor in evaluation.
        pad_to: `batch`, `train` (the longest training message, which then also caps the others), `context`,
            or a number of tokens, which caps all messages.
        max_length: tokens that are kept of a message; `None` for the model's context.
        truncate: the end of a longer message that is kept, `head` or `tail`.
        seed: order of the training batches.

    Raises:
        UserError: an option out of its range; or, on `setup`, messages that can't be trained on.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: str,
        context_length: int,
        deduplicate: prepare.Deduplicate,
        balance: prepare.Balance,
        val_fraction: float,
        test_fraction: float,
        stratify: bool,
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
    ) -> None:
        super().__init__()
        expect_number("data.batch_size", batch_size, 1, whole=True)
        expect_number("data.bucket_batches", bucket_batches, 1, whole=True)
        expect_number("data.split_seed", split_seed, 0, 2**32 - 1, whole=True)
        expect_number("data.split_shuffles", split_shuffles, 1, 100, whole=True)
        expect_number("data.subset_seed", subset_seed, 0, 2**32 - 1, whole=True)
        if truncate not in ("head", "tail"):
            raise UserError(f"data.truncate: expected head or tail, but it is {truncate}.")
        fixed = pad_to if isinstance(pad_to, int) else None
        if fixed is None and pad_to not in ("batch", "train", "context"):
            raise UserError(f"data.pad_to: expected batch, train, context or a number, but it is {pad_to}.")
        for option, value in (("max_length", max_length), ("pad_to", fixed)):
            if value is not None:
                expect_number(f"data.{option} (tokens, at most the model's context)", value, 1, context_length, True)
        self.source = source
        self.tokenizer = tokenizer
        self.deduplicate = deduplicate
        self.balance = balance
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.stratify = stratify
        self.split_seed = split_seed
        self.split_shuffles = split_shuffles
        self.train_size = train_size
        self.subset_seed = subset_seed
        self.batch_size = batch_size
        self.bucket_batches = bucket_batches
        self.truncate: Truncate = truncate
        self.seed = seed
        self.pad_to: PadTo = {"context": context_length, "train": "batch"}.get(pad_to, pad_to)  # type: ignore
        self.pad_to_train = pad_to == "train"
        self.max_length = min(limit for limit in (max_length, fixed, context_length) if limit is not None)
        self.frame: pd.DataFrame | None = None

    def prepare_data(self) -> None:
        self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        if self.frame is not None:
            return
        messages = self.source.load()
        frame, dropped = prepare.deduplicate(messages.frame, self.deduplicate)
        prepare.check_classes(frame, messages.class_names)
        frame = prepare.balance(frame, self.balance, messages.class_names, self.split_seed)
        frame = prepare.split(
            frame, self.val_fraction, self.test_fraction, self.stratify, self.split_seed, self.split_shuffles
        )
        frame = prepare.subset_train(frame, self.train_size, self.subset_seed)
        self.class_names = messages.class_names
        self.report = DataReport(
            found=_class_counts(messages.frame, self.class_names),
            dropped=dropped,
            splits={name: _class_counts(frame[frame["split"] == name], self.class_names) for name in SPLITS},
            overlap=prepare.overlap(frame),
            note=messages.note,
        )
        self._tokenize(frame)
        self.frame = frame

    def _tokenize(self, frame: pd.DataFrame) -> None:
        encoding = load_encoding(self.tokenizer)
        ids = {name: i for i, name in enumerate(self.class_names)}
        self.datasets = {}
        for name in SPLITS:  # training first: its longest message may cap the others
            part = frame[frame["split"] == name]
            rows, cut = encode(part["text"].tolist(), encoding, self.max_length, self.truncate)
            dataset = TokenDataset(rows, part["label"].map(ids).tolist(), self.pad_id)
            if name == "train" and self.pad_to_train:
                self.pad_to = self.max_length = int(dataset.lengths.max())
            self.datasets[name] = dataset
            self.report.longest[name] = int(dataset.lengths.max())
            self.report.truncated[name] = cut
        if len(self.datasets["train"]) < self.batch_size:
            raise UserError(
                f"data.batch_size: {self.batch_size} is more than the {len(self.datasets['train'])} training messages. "
                f"Set it lower."
            )
        self.report.max_length = self.max_length
        self.report.pad_to = self.pad_to

    @property
    def pad_id(self) -> int:
        return load_encoding(self.tokenizer).eot_token

    def token_rows(self) -> dict[str, list[np.ndarray]]:
        """Token ids of the messages of each split, in the order of their indices."""
        return {name: dataset.rows for name, dataset in self.datasets.items()}

    def split_frame(self, name: str) -> pd.DataFrame:
        """The messages of a split: `label`, `text`, in the order of their indices."""
        assert self.frame is not None, "setup() comes first"
        return self.frame.loc[self.frame["split"] == name, ["label", "text"]].reset_index(drop=True)

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
        return DataLoader(dataset, sampler=batches, batch_size=None)

    def _evaluation_dataloader(self, name: str) -> DataLoader:
        dataset = self.datasets[name]
        in_order = self.bucket_batches == 1
        batches = EvaluationBatches(
            dataset.lengths, self.batch_size, self.pad_to, in_order=in_order, **self._processes()
        )
        return DataLoader(dataset, sampler=batches, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_dataloader("val")

    def test_dataloader(self) -> list[DataLoader]:
        return [self._evaluation_dataloader(name) for name in SPLITS]


def _class_counts(frame: pd.DataFrame, class_names: list[str]) -> dict[str, int]:
    counts = frame["label"].value_counts()
    return {name: int(counts.get(name, 0)) for name in class_names}
