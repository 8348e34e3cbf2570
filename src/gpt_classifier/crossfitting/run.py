"""Cross-fitting: as many runs as there are folds, each tested on the messages that it leaves out, on one cache."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf, open_dict

from gpt_classifier.config import instantiate
from gpt_classifier.crossfitting.folds import Folded
from gpt_classifier.crossfitting.out_of_fold import OutOfFold
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.errors import OptionError, UserError, option_group
from gpt_classifier.evaluation.baselines import Baseline, families, fit_best
from gpt_classifier.evaluation.metrics import Predictions, fit_temperature
from gpt_classifier.training.build import expect_one_process
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.run import Result, train

log = logging.getLogger(__name__)

ABSENT = 10.0  # how far below the lowest the logit of a class is that a baseline's training messages do not have


def crossfit_messages(config: DictConfig, context: RunContext) -> list[OutOfFold]:
    """Predict every message by a model that was not trained on it.

    The folds are stratified by class, and keep near-duplicates and groups together. Activations of the frozen blocks
    are computed once for all folds, as each passes all messages through the model.

    Args:
        config: what `conf/crossfit.yaml` composes.
        context: where the run takes place; the runs of the folds write nothing.

    Returns:
        The answers of the model, and of each of `config.baselines`, to all messages in the order of the source.

    Raises:
        UserError: something that a user can fix. KeyboardInterrupt: Ctrl-C, after any part of a fold.
    """
    _check(config)
    with option_group("data"):
        folded = Folded(context.source or instantiate(config.data.source))
    parts: dict[str, list[OutOfFold]] = {name: [] for name in ("model", *config.baselines)}
    title = context.title() or "fine-tuned"
    for fold in range(config.data.folds):
        own = config.copy()
        with open_dict(own):
            own.data.fold, own.evaluate = fold, "final"
        result = train(own, replace(context, folder=None, source=folded))
        if result.interrupted:
            raise KeyboardInterrupt
        parts["model"].append(_of_model(title, result, fold))
        for name in config.baselines:
            parts[name].append(_of_baseline(name, result.data, fold))
        _tell(fold, config.data.folds, [part[-1] for part in parts.values()], result.data)
    return [_joined(part) for part in parts.values()]


def _check(config: DictConfig) -> None:
    """Refuse what can't be cut into folds, or what would mix them up, before the first fold takes its time.

    Raises:
        UserError: at the first of these.
    """
    if config.procedure._target_ != f"{train.__module__}.{train.__name__}":
        raise OptionError(
            "procedure", "usual, as baselines are asked for beside it", "another", "Set baselines=[words]."
        )
    if config.data.split != "grouped":
        hint = "Leave {field} out; folds are stratified by class all the same."
        raise OptionError("data.split", "grouped, as near-duplicates have to be in one fold", config.data.split, hint)
    if config.data.balance == "undersample_all":
        hint = "Set {field}=none, or undersample, which drops training messages alone."
        raise OptionError("data.balance", "a way that leaves every message in its fold", config.data.balance, hint)
    if not isinstance(config.data.folds, int):
        raise OptionError("data.folds", "a whole number of at least 2", config.data.folds)
    expect_one_process(config)
    if not OmegaConf.is_list(config.baselines):
        raise OptionError("baselines", "a list of baselines", config.baselines, "Set {field}=[words], or {field}=[].")
    if config.baselines:
        families()  # is scikit-learn there?
        if not config.data.val_fraction:
            hint = "Set it above 0, or baselines=[]."
            raise OptionError("data.val_fraction", "above 0, as validation chooses baselines", 0, hint)


def _of_model(title: str, result: Result, fold: int) -> OutOfFold:
    logits = result.module.predictions["test"].logits
    if logits is None:
        raise UserError(
            "data: expected messages times classes of a fold of 10 million at most, as a probability of each class is "
            "kept, but there are more. Set data.folds to a larger number."
        )
    frame = result.data.split_frame("test").assign(fold=fold)
    return OutOfFold(title, frame, result.data.class_names, logits.numpy(), result.seconds["run"])


def _of_baseline(name: str, data: MessageDataModule, fold: int) -> OutOfFold:
    """One of scikit-learn's classifiers, chosen on the validation messages of the fold's run and fitted as that is."""
    began = time.perf_counter()
    train_on, val, test = (data.split_frame(split) for split in ("train", "val", "test"))
    with option_group("baselines"):
        baseline = fit_best(_labelled(train_on), _labelled(val), name)
    if baseline is None:
        raise UserError(f"baselines: {name} can't be fitted to these messages: they have no words. Leave it out.")
    place = {label: i for i, label in enumerate(data.class_names)}
    of_val = _logits(baseline, val["text"].tolist(), data.class_names)
    ids = np.array([place[label] for label in val["label"]])
    chosen_on = Predictions(val["text"].tolist(), ids, of_val, np.zeros(len(ids)), data.class_names)
    logits = _logits(baseline, test["text"].tolist(), data.class_names) / (fit_temperature(chosen_on) or 1.0)
    seconds, frame = time.perf_counter() - began, test.assign(fold=fold)
    return OutOfFold(baseline.name, frame, data.class_names, logits, seconds, (baseline.chosen,))


def _labelled(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    return frame["text"].tolist(), frame["label"].tolist()


def _logits(baseline: Baseline, texts: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """`(N, C)` float32: logarithms of probabilities, or of a support vector machine, which has none, its margins."""
    known = [str(name) for name in baseline.model.classes_]
    if hasattr(baseline.model, "decision_function"):
        scores = np.asarray(baseline.model.decision_function(texts))
        scores = np.stack([-scores, scores], axis=1) / 2 if scores.ndim == 1 else scores
    else:
        scores = np.log(np.maximum(baseline.model.predict_proba(texts), 1e-30))
    found = np.full((len(texts), len(class_names)), scores.min() - ABSENT, dtype=np.float32)
    found[:, [list(class_names).index(name) for name in known]] = scores
    return found


def _joined(parts: Sequence[OutOfFold]) -> OutOfFold:
    """All folds, in the order of the source."""
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    order = frame["row"].to_numpy().argsort(kind="stable")
    logits = np.concatenate([part.logits for part in parts])[order]
    chosen = tuple(words for part in parts for words in part.chosen)
    seconds = sum(part.seconds for part in parts)
    return OutOfFold(
        parts[0].name, frame.iloc[order].reset_index(drop=True), parts[0].class_names, logits, seconds, chosen
    )


def _tell(fold: int, folds: int, found: Sequence[OutOfFold], data: MessageDataModule) -> None:
    trained = sum(len(data.datasets[split]) for split in data.splits if split != "test")
    own = f"{len(found[0].frame):,} messages by a model of the other {trained:,}"
    shown = [f"{one.name} {one.predictions.right.mean():.2%} in {one.seconds:.1f} s" for one in found]
    log.info("fold %d/%d  %s: accuracy of %s", fold + 1, folds, own, ", ".join(shown))
