"""What a run trains with where its configuration says `auto`: settled once the training messages are known."""

import logging
from math import ceil
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.errors import OptionError
from gpt_classifier.training.context import RunContext

log = logging.getLogger(__name__)

AUTO = "auto"
BATCHES = ((32_000, 32), (8_000, 16), (0, 8))
"""Messages of a step, by the least number of training messages."""
SKEWED = 2  # times as many messages as the smallest class has: then accuracy says little about that class


def settle(config: DictConfig, context: RunContext, data: MessageDataModule) -> DictConfig:
    """A configuration with values where it said `auto`, which a line tells.

    The batch, the number of epochs and the monitored metric follow from the training messages, the learning rate from
    `recipe.rates`.

    Args:
        config: as it was composed.
        context: what was chosen of the groups `model` and `freeze`.
        data: prepared; its batch and its task's monitor are set.

    Raises:
        OptionError: `optimizer.lr` is `auto`, and the recipe has no rate for it.
    """
    settled: dict[str, Any] = {}
    assert data.frame is not None, "data is prepared"
    counts = data.frame.loc[data.frame["split"] == "train", "label"].value_counts()
    if config.data.batch_size == AUTO:
        size = next(size for least, size in BATCHES if counts.sum() >= least)
        settled["data.batch_size"] = data.batch_size = int(max(1, min(size, counts.sum() // 2)))
    if config.trainer.max_epochs == AUTO:
        settled["trainer.max_epochs"] = epochs_for(config.recipe, int(counts.sum()) // data.batch_size)
    if config.optimizer.get("lr") == AUTO:
        settled["optimizer.lr"] = rate_for(config, context)
    if config.monitor == AUTO:
        skewed = counts.max() >= SKEWED * counts.min()
        settled["monitor"] = data.task.monitor = "macro_f1" if skewed else "accuracy"
    if settled:
        log.info("recipe   %s", " ".join(f"{key}={value}" for key, value in settled.items()))
    config = config.copy()
    with open_dict(config):
        for key, value in settled.items():
            OmegaConf.update(config, key, value)
    return config


def epochs_for(recipe: DictConfig, steps: int) -> int:
    """As many epochs as make `min_steps`, within the bounds of the recipe.

    Args:
        recipe: the node of that name.
        steps: of one epoch.
    """
    return min(max(ceil(recipe.min_steps / max(steps, 1)), recipe.min_epochs), recipe.most_epochs)


def rate_for(config: DictConfig, context: RunContext) -> float:
    """The recipe's learning rate for a model and what is trained of it."""
    rates = config.recipe.get("rates") or {}
    model, freeze = context.choices.get("model", ""), context.choices.get("freeze", "")
    of_model = rates.get(model) or rates.get("default") or {}
    if freeze not in of_model:
        raise OptionError(
            "optimizer.lr",
            f"a number, as recipe.rates has none for model={model} freeze={freeze}",
            AUTO,
            "Set {field}=1e-3, or recipe.rates.",
        )
    return float(of_model[freeze])
