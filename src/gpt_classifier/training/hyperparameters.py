"""What was set for a run: all of it, and what TensorBoard's page HParams shows of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from gpt_classifier.training.context import RunContext

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

GROUPS = ("model", "freeze", "pooling", "data", "optimizer", "scheduler")
USUAL = (*GROUPS[:4], "optimizer.lr", "data.batch_size", "trainer.max_epochs", "seed")
"""What TensorBoard shows of every run."""


def describe_settings(config: DictConfig, context: RunContext) -> dict[str, Any]:
    """Everything that a sweep may vary, as plain values under their names on the command line."""
    settings: dict[str, Any] = {group: context.choices[group] for group in GROUPS if group in context.choices}
    alone = ("seed", "monitor", "head_init", "head_rate", "bag_of_tokens", "with_ngrams")
    settings |= {key: config[key] for key in alone}
    for group in (*GROUPS, "trainer"):
        for key, value in (config.get(group) or {}).items():
            if isinstance(value, str | int | float | bool) and not key.startswith("_"):
                settings[f"{group}.{key}"] = value
    return settings


@dataclass(frozen=True)
class Trial:
    """A run as a row of the page HParams.

    Args:
        name: of the row; rows with the same name are shown as one.
        varied: what the sweep of the run varies, with the values that the run had.
        usual: what tells runs of different sweeps apart.
    """

    name: str
    varied: dict[str, str | int | float]
    usual: dict[str, str | int | float]

    @classmethod
    def of(cls, settings: Mapping[str, Any], context: RunContext) -> "Trial":
        """A run by its settings.

        Args:
            settings: all of them; a value that is not among them is taken from the command line.
            context: of the run, which has a folder.
        """
        assert context.folder is not None
        name = f"{context.folder.name} of {context.folder.parent.name}" if context.sweep else context.folder.name
        varied = {key: _plain(settings.get(key, text)) for key, text in context.varied.items()}
        usual = {key: _plain(settings[key]) for key in USUAL if key in settings and key not in varied}
        return cls(name, varied, usual)


def _plain(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value  # torch takes it for a number


def log_trial(board: "SummaryWriter", trial: Trial, metrics: dict[str, float]) -> None:
    """Write a run for the page HParams, where what is varied comes first and is ticked.

    Args:
        board: of the run.
        trial: the row.
        metrics: names of scalars that are logged, with their final values.
    """
    # TensorBoard is there: the run has its logger
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # type: ignore[import-untyped]
    from torch.utils.tensorboard.summary import hparams

    shown = {**trial.varied, **trial.usual}
    experiment, _, end = hparams(shown, metrics)
    packed = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(packed.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in trial.varied
    packed.content = content.SerializeToString()
    for summary in (experiment, hparams_pb(shown, trial_id=trial.name), end):  # torch's own has no name
        board._get_file_writer().add_summary(summary)
