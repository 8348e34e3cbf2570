"""After a run: both models are asked out of fold, weighted, and made one classifier."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from gpt_classifier.confusion import Confusion
from gpt_classifier.crossfitting.folds import inseparable
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.sources import Messages
from gpt_classifier.data.splits import FOLDS
from gpt_classifier.errors import UserError, expect_number
from gpt_classifier.ngrams import ABSENT, NGrams
from gpt_classifier.stacking.linear import Candidate, Counts, Examples, Search
from gpt_classifier.stacking.scales import calibrated_loss, fit_scales
from gpt_classifier.training.build import expect_one_process
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.module import ClassifierModule
from gpt_classifier.training.predictions import MOST_KEPT, SplitPredictions
from gpt_classifier.training.run import train

log = logging.getLogger(__name__)

FEWEST = 20  # messages that tell how much each of two models counts
KEPT = ("best", "early_stopping")  # callbacks of the runs of folds, which write nothing


@dataclass(frozen=True)
class HeldOut:
    """Messages that neither of two models was trained on.

    Args:
        texts: N of them.
        labels: `(N,)` class ids.
        logits: `(N, C)` of the fine-tuned model.
        counts: of the messages that it was trained on.
    """

    texts: list[str]
    labels: np.ndarray
    logits: np.ndarray
    counts: Counts


class Stacking:
    """Joins a run's model with a linear model of n-grams.

    Args:
        folds: parts of the training messages; each is predicted by models of the others.
    """

    def __init__(self, folds: int) -> None:
        expect_number("stacking.folds", folds, 2, whole=True)
        self.folds = folds

    def expect_possible(self, config: DictConfig, data: MessageDataModule) -> None:
        """Refuse what can't be joined, before the run takes its time.

        Args:
            config: of the run.
            data: prepared.

        Raises:
            UserError: it can't.
        """
        expect_one_process(config)
        if config.get("teachers"):
            raise UserError("with_ngrams: a linear model can't learn a teacher's probabilities. Leave it out.")
        frame, classes = _split(data, "train"), len(data.class_names)
        Search(frame["text"].tolist())
        if (most := max(map(len, data.datasets.values()))) * classes > MOST_KEPT:
            raise UserError(
                f"with_ngrams: expected messages times classes of a split of {MOST_KEPT:,} at most, but they are "
                f"{most * classes:,}. Leave it out, or set data.train_size."
            )
        validated = "val" in data.splits and config.evaluate != "never"
        if not validated and not self._parts(frame, config.seed):
            raise UserError(
                f"with_ngrams: expected at least {FEWEST} training messages of classes with two or more, or validation "
                f"messages, to tell how much each model counts, but there are fewer. Leave it out, or add messages."
            )

    def join(
        self,
        config: DictConfig,
        context: RunContext,
        data: MessageDataModule,
        module: ClassifierModule,
        best: dict[str, Any],
        overrides: Mapping[str, Any],
    ) -> tuple[NGrams, dict[str, Any]]:
        """Fit a linear model to the training messages, and join a run's model with it.

        Args:
            config: of the run, as it was composed.
            context: where the run takes place.
            data: of the run.
            module: trained; its predictions become those of both.
            best: the splits that were measured, which become those of both, too.
            overrides: keys of `config` that are others in the runs of folds.

        Raises:
            UserError: the texts have no words. KeyboardInterrupt: Ctrl-C.

        Returns:
            The linear model, and facts about it for reports: with `accuracy` and `macro_f1` of `model`, `ngrams` and
            `joined` on messages that were `held_out`, and on each measured split.
        """
        config = config.copy()
        with open_dict(config):
            for key, value in overrides.items():
                OmegaConf.update(config, key, value)
        ngrams, facts = self._fitted(config, context, data, module)
        for split in [name for name in module.predictions if name in best]:
            found = module.predictions[split]
            assert found.logits is not None, "there are not too many"
            texts, logits = data.split_frame(split)["text"].tolist(), found.logits.numpy()
            margins = ngrams.margins(texts)
            joined = ngrams.sum_of(logits, margins)
            facts[split] = compared(logits, margins, joined, found.targets.numpy())
            module.predictions[split] = SplitPredictions.of(module.task, torch.from_numpy(joined), found.targets)
            best[split] = module.predictions[split].metrics(module.task)
        return ngrams, facts

    def _fitted(
        self, config: DictConfig, context: RunContext, data: MessageDataModule, module: ClassifierModule
    ) -> tuple[NGrams, dict[str, Any]]:
        """The linear model, fitted to all training messages, with the scales of both; and facts about it."""
        began = time.perf_counter()
        frame = _split(data, "train")
        whole = Counts(_examples(frame), data.class_names)
        parts = self._parts(frame, config.seed)
        found = []
        for i, part in enumerate(parts):
            found.append(_out_of_fold(config, context, data, part))
            log.info("ngrams   fold %d/%d, %.0f s", i + 1, len(parts), time.perf_counter() - began)
        if not parts:
            found.append(_validated(module, data, whole))
        labels, logits = (np.concatenate([getattr(one, name) for one in found]) for name in ("labels", "logits"))

        def margins(tried: Sequence[Candidate]) -> list[np.ndarray]:
            """Of each candidate, `(N, C)`."""
            each = [one.counts.margins(tried, one.texts) for one in found]
            return [np.concatenate(of_parts) for of_parts in zip(*each, strict=True)]

        best = Search(frame["text"].tolist()).best(lambda tried: [calibrated_loss(m, labels) for m in margins(tried)])
        ngrams, chosen = whole.fit(best), margins([best])[0]
        ngrams = ngrams.scaled(*fit_scales(logits, chosen, labels))
        joined = ngrams.sum_of(logits, chosen)
        facts = {
            "ngrams": str(best),
            "number": len(ngrams.weight),
            "megabytes": ngrams.megabytes,
            "scales": list(ngrams.scales),
            "fitted_on": f"{len(labels)} messages, {f'out of {len(parts)} folds' if parts else 'validation'}",
            "seconds": time.perf_counter() - began,
            "held_out": compared(logits, chosen, joined, labels),
        }
        log.info(
            "ngrams   %s: %s of them, %.1f MB; weights from %s, %.0f s",
            *(facts["ngrams"], f"{facts['number']:,}", facts["megabytes"], facts["fitted_on"], facts["seconds"]),
        )
        return ngrams, facts

    def _parts(self, frame: pd.DataFrame, seed: int) -> list["Part"]:
        """The folds, near-duplicates in one; empty where they have too few messages."""
        groups = inseparable(frame[[column for column in ("text", "group") if column in frame]])
        if len(np.unique(groups)) < self.folds:
            return []
        fold = FOLDS["grouped"](frame.assign(group=groups), self.folds, seed)
        rests = [frame[fold != i] for i in range(self.folds)]
        parts = [
            Part(rest, frame[(fold == i) & frame["label"].isin(rest["label"])])
            for i, rest in enumerate(rests)
            if rest["label"].nunique() > 1
        ]
        usable = [part for part in parts if len(part.asked)]
        return usable if sum(len(part.asked) for part in usable) >= FEWEST else []


@dataclass(frozen=True)
class Part:
    """A fold.

    Args:
        rest: messages that models are trained on.
        asked: those of the fold, of classes that the rest has.
    """

    rest: pd.DataFrame
    asked: pd.DataFrame


class Fold:
    """A fold as a source of training and test messages, of the classes that can be learned there.

    Args:
        part: the fold.
        val: validation messages of the run.
        class_names: of the run.
    """

    def __init__(self, part: Part, val: pd.DataFrame, class_names: Sequence[str]) -> None:
        known = set(part.rest["label"])
        self.class_names = [name for name in class_names if name in known]
        splits = {None: part.rest, "val": val[val["label"].isin(known)], "test": part.asked}
        columns = [column for column in ("text", "label", "weight") if column in part.rest]
        frame = pd.concat([rows[columns].assign(split=name) for name, rows in splits.items()], ignore_index=True)
        self.frame = frame.assign(row=np.arange(len(frame)))

    def prepare(self) -> None:
        pass

    def load(self) -> Messages:
        return Messages(self.frame, self.class_names)


def _split(data: MessageDataModule, name: str) -> pd.DataFrame:
    assert data.frame is not None, "data is prepared"
    return data.frame[data.frame["split"] == name].reset_index(drop=True)


def _examples(frame: pd.DataFrame) -> Examples:
    weights = frame["weight"].to_numpy() if "weight" in frame else None
    return Examples(frame["text"].tolist(), frame["label"].tolist(), weights)


def _ids(frame: pd.DataFrame, class_names: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(class_names)}
    return np.array([place[label] for label in frame["label"]])


def _out_of_fold(config: DictConfig, context: RunContext, data: MessageDataModule, part: Part) -> HeldOut:
    """What models of the rest of the messages say of a fold."""
    source = Fold(part, _split(data, "val"), data.class_names)
    result = train(
        _of_fold(config, data, len(part.rest)),
        replace(context, folder=None, source=source, callbacks=(), interruptible=True),
    )
    if result.interrupted:
        raise KeyboardInterrupt
    logits = result.module.predictions["test"].logits
    assert logits is not None, "there are not too many"
    found = np.full((len(part.asked), len(data.class_names)), float(logits.min()) - ABSENT, dtype=np.float32)
    found[:, [data.class_names.index(name) for name in source.class_names]] = logits.numpy()
    asked = result.data.split_frame("test")
    counts = Counts(_examples(part.rest), data.class_names)
    return HeldOut(asked["text"].tolist(), _ids(asked, data.class_names), found, counts)


def _of_fold(config: DictConfig, data: MessageDataModule, messages: int) -> DictConfig:
    """The configuration of a fold's run: the messages are split, balanced and adapted to already."""
    own = config.copy()
    with open_dict(own):
        own.with_ngrams, own.evaluate, own.run_dir, own.ckpt_path = False, "final", None, None
        own.data.deduplicate = own.data.balance = "none"
        own.data.split, own.data.split_shuffles = "stratified", 1
        own.data.val_fraction = own.data.test_fraction = 0
        own.data.train_size = own.data.folds = own.data.corrections = own.data.adapt = None
        own.data.transductive = False
        own.data.max_length, own.data.pad_to = data.max_length, data.pad_to
        if isinstance(own.data.batch_size, int):
            own.data.batch_size = min(own.data.batch_size, messages)
        own.callbacks = {name: callback for name, callback in (own.get("callbacks") or {}).items() if name in KEPT}
        if own.callbacks.get("best"):
            own.callbacks.best.path = None
        own.logger = None
    return own


def _validated(module: ClassifierModule, data: MessageDataModule, whole: Counts) -> HeldOut:
    """Validation, for models of all training messages."""
    val = data.split_frame("val")
    logits = module.predictions["val"].logits
    assert logits is not None, "there are not too many"
    return HeldOut(val["text"].tolist(), _ids(val, data.class_names), logits.numpy(), whole)


def compared(logits: np.ndarray, margins: np.ndarray, joined: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """`accuracy` and `macro_f1` of the model, of n-grams and of both, each from `(N, C)`, with class ids `(N,)`."""
    told = {}
    for name, found in (("model", logits), ("ngrams", margins), ("joined", joined)):
        predicted = found.argmax(axis=1)
        f1 = Confusion(labels, predicted, logits.shape[1]).macro_f1
        told[name] = {"accuracy": float((predicted == labels).mean()), "macro_f1": f1}
    return told
