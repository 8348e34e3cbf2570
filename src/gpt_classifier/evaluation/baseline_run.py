"""A run of scikit-learn in a transformer's place: the same data, and results in the same file."""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig

from gpt_classifier.atomic import write_json, write_table
from gpt_classifier.config import instantiate
from gpt_classifier.confusion import Confusion
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.device import peak_memory_gb
from gpt_classifier.errors import UserError, option_group
from gpt_classifier.evaluation.baselines import BEST, Baseline, fit_best
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.hyperparameters import describe_settings
from gpt_classifier.training.run import what_to_measure

ANSWERS = "predictions_test.csv"
"""In the folder of a run, which keeps no model: by it a sweep measures the best of its runs on test."""

CHOOSES = "accuracy"
"""What the best candidate is best at, whatever `monitor` says."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaselineResult:
    """What a run gave.

    Args:
        baseline: fitted.
        measured: number of messages, accuracy and macro F1 of each split that was measured.
        score: accuracy in validation, which sweeps compare.
    """

    baseline: Baseline
    measured: dict[str, dict[str, Any]]
    score: float


def run_baseline(config: DictConfig, context: RunContext, family: str = BEST) -> BaselineResult:
    """Fit one of scikit-learn's classifiers, chosen on validation, and measure it.

    Args:
        config: what `conf/config.yaml` composes; of it the data, and what is measured.
        context: where the run takes place.
        family: one of `baselines.families`, `words_and_characters` or `hashed`; `linear` for the best of all.

    Raises:
        UserError: something that a user can fix.
    """
    began = time.perf_counter()
    data = _load(config)
    if "val" not in data.splits:
        raise UserError("procedure=baseline chooses on validation messages. Set data.val_fraction above 0.")
    with option_group("procedure"):
        baseline = fit_best(_labelled(data, "train"), _labelled(data, "val"), family)
    if baseline is None:
        raise UserError(f"procedure.family: {family} can't be fitted to these messages: they have no words.")
    wanted = {"all": data.splits, "final": ("val", "test")}.get(what_to_measure(config, context), ("val",))
    measured = {split: measure(_answers(baseline, data, split)) for split in data.splits if split in wanted}
    result = BaselineResult(baseline, measured, baseline.val_accuracy)
    seconds = {"training": baseline.seconds, "run": time.perf_counter() - began}
    if context.folder is not None:
        _write(config, context, data, result, seconds)
    log.info("%s", baseline)
    for split, metrics in measured.items():
        log.info("%-8s accuracy %.2f%%, macro F1 %.4f", split, 100 * metrics["accuracy"], metrics["macro_f1"])
    return result


class _NoTokens:
    """In the place of a tokenizer: these classifiers read texts, and no vocabulary has to be there for the splits."""

    pad_id = 0

    def encode(self, texts: Sequence[str], *_: object) -> tuple[list[np.ndarray], int]:
        return [np.zeros(1, dtype=np.int32)] * len(texts), 0


def _load(config: DictConfig) -> MessageDataModule:
    """The prepared splits, as a run of a transformer has them."""
    parts = {"tokenizer": _NoTokens(), "context_length": sys.maxsize, "batch_size": 1}
    parts["task"] = instantiate(config.task, monitor="accuracy")
    with option_group("data"):
        data: MessageDataModule = instantiate(config.data.module, **parts)
        data.prepare_data()
        data.setup()
    if data.datasets["train"].weights is not None:
        log.warning("procedure=baseline weighs all training messages alike, whatever data.balance says")
    for split in data.splits:
        log.info("%-8s %d messages", split, len(data.datasets[split]))
    return data


def _labelled(data: MessageDataModule, split: str) -> tuple[list[str], list[str]]:
    frame = data.split_frame(split)
    return frame["text"].tolist(), frame["label"].tolist()


def _answers(baseline: Baseline, data: MessageDataModule, split: str) -> pd.DataFrame:
    """`row`, `label` and `predicted` of the messages of a split."""
    frame = data.split_frame(split)
    return frame[["row", "label"]].assign(predicted=baseline.model.predict(frame["text"].tolist()))


def measure(answers: pd.DataFrame) -> dict[str, Any]:
    """Metrics of messages with `label` and `predicted`."""
    names = np.unique(answers[["label", "predicted"]])
    truth, predicted = (np.searchsorted(names, answers[column]) for column in ("label", "predicted"))
    return {
        "messages": len(answers),
        "accuracy": float((truth == predicted).mean()),
        "macro_f1": Confusion(truth, predicted, len(names)).macro_f1,
    }


def _write(
    config: DictConfig, context: RunContext, data: MessageDataModule, result: BaselineResult, seconds: dict[str, float]
) -> None:
    """`metrics.json`, of the form that runs of transformers leave, and `ANSWERS` where there are test messages."""
    assert context.folder is not None
    if "test" in data.splits:
        write_table(context.folder / ANSWERS, _answers(result.baseline, data, "test"))
    stage: dict[str, Any] = {"epoch": 0, "step": 0, **result.measured}
    own = {"procedure.family": config.procedure.family, "monitor": CHOOSES}
    settings = describe_settings(config, context) | own
    classifier = result.baseline.model[-1]
    weights = getattr(classifier, "coef_", getattr(classifier, "feature_log_prob_", np.empty(0)))
    write_json(
        context.folder / "metrics.json",
        {
            "settings": settings,
            "parameters": {"trained": int(weights.size), "frozen": 0},
            "data": asdict(data.report),
            "note": f"{result.baseline.name}: {result.baseline.chosen}",
            "last": stage,
            "best": stage,
            "seconds": seconds,
            "peak_memory_gb": peak_memory_gb(torch.device("cpu")),
        },
    )
