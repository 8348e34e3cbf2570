"""A run whose training messages are labelled by teachers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from gpt_classifier.config import instantiate
from gpt_classifier.distillation.teachers import mean_probabilities, open_teachers
from gpt_classifier.distillation.texts import Taught, Unlabelled
from gpt_classifier.errors import OptionError, option_group
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.run import Result, train

SOFT_LABELS = "soft_labels"  # the folder of `cache_dir` with the teachers' probabilities


def distil(config: DictConfig, context: RunContext, paths: Sequence[Path]) -> Result:
    """Train a student on the mean of what teachers say of texts (Hinton et al., 2015).

    Args:
        config: what `conf/distil.yaml` composes; `teachers` is set.
        context: where the run takes place.
        paths: of the teachers, checkpoints or saved classifiers, at least one.

    Raises:
        UserError: something that a user can fix.
    """
    if OmegaConf.select(config, "data.source._target_") != f"{Unlabelled.__module__}.{Unlabelled.__name__}":
        hint = "Leave {field} out, and set {field}.path to a file of texts."
        raise OptionError("data", "unlabelled, texts that the teacher labels", context.choices.get("data"), hint)
    with option_group("data"):
        files = instantiate(config.data.source)
        files.texts.read()  # refused before a teacher takes its time
    if config.procedure._target_ != f"{train.__module__}.{train.__name__}":
        raise OptionError("procedure", "usual, as only that learns probabilities", context.choices.get("procedure"))
    teachers = open_teachers(paths)
    with open_dict(config):
        config.teachers = [{"name": teacher.name, "sha256": teacher.sha256} for teacher in teachers]
    fractions = {"val": config.data.val_fraction, "test": config.data.test_fraction or config.data.folds}
    held_out = [split for split, part in fractions.items() if part and split not in files.labelled]
    folder = Path(config.cache_dir).expanduser() / SOFT_LABELS
    teach = partial(mean_probabilities, teachers, folder=folder)
    whole_numbers = all(teacher.artifact.spec.whole_numbers for teacher in teachers)
    source = Taught(files, teachers[0].classes, teach, held_out, whole_numbers)
    return train(config, replace(context, source=source))
