"""Training from Python: `TextClassifier`'s parameters as a configuration, and a run that leaves no files."""

import copy
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf, open_dict

from gpt_classifier.artifact import Artifact
from gpt_classifier.config import compose
from gpt_classifier.data.sources import Texts
from gpt_classifier.errors import OptionError, expect_number, first_line
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.run import train

VALUES = {
    "weights": "model.weights",
    "epochs": "trainer.max_epochs",
    "lr": "optimizer.lr",
    "batch_size": "data.batch_size",
    "max_length": "data.max_length",
    "validation": "data.val_fraction",
    "precision": "trainer.precision",
    "seed": "seed",
    "with_ngrams": "with_ngrams",
}
"""Parameters of `TextClassifier` that are keys of the configuration; `None` leaves what `conf/fit.yaml` says."""

TRAINERS = {None: "auto", "cpu": "cpu", "cuda": "gpu", "mps": "mps"}


@dataclass(frozen=True)
class Fitted:
    """What `fit` made.

    Args:
        model: with the best weights.
        artifact: as it would be read from a file.
        classes: `(C,)` sorted labels, as they came.
        history: of the curves.
        score: the best epoch's accuracy on the validation part; `nan` without one.
        interrupted: whether Ctrl-C ended it.
    """

    model: Classifier
    artifact: Artifact
    classes: np.ndarray
    history: list[dict[str, float]]
    score: float
    interrupted: bool


def fit(
    params: Mapping[str, Any],
    texts: list[Any],
    labels: list[Any],
    sample_weight: Sequence[float] | None,
    unlabelled: Sequence[str] | None = None,
) -> Fitted:
    """Fine-tune on labelled texts.

    Args:
        params: those of `TextClassifier`.
        texts: N of them.
        labels: N classes.
        sample_weight: `(N,)`, or `None`.
        unlabelled: texts that the model learns from first, or `None`.

    Raises:
        UserError: texts, labels or parameters that can't be trained with. KeyboardInterrupt: before the first epoch's
            end.
    """
    with own_parameters():
        config, context, classes = prepared(params, texts, labels, sample_weight, unlabelled=unlabelled)
        with isolate_rng():
            result = train(config, context)
    if result.interrupted and result.stages["last"]["epoch"] == 0:
        raise KeyboardInterrupt
    module = result.module
    numbers = all(isinstance(label, int) for label in classes.tolist())
    spec = replace(module.spec, choices=dict(context.choices), whole_numbers=numbers)
    tensors = {
        name.removeprefix("model."): tensor.detach().cpu() for name, tensor in module.kept(module.state_dict()).items()
    }
    artifact = Artifact(Path(), spec, tensors, {})
    artifact = artifact if result.ngrams is None else artifact.joined(result.ngrams)
    return Fitted(module.model, artifact, classes, module.history, result.score, result.interrupted)


@contextmanager
def own_parameters(further: Mapping[str, str] | None = None) -> Iterator[None]:
    """Inside, errors name parameters of Python, not keys of the configuration.

    Args:
        further: names of parameters by key, beside those of `TextClassifier`.
    """
    try:
        yield
    except OptionError as error:
        names = {key: name for name, key in VALUES.items()} | dict(further or {})
        error.field = names.get(error.field, error.field)
        raise


def prepared(
    params: Mapping[str, Any],
    texts: list[Any],
    labels: list[Any],
    sample_weight: Sequence[float] | None = None,
    groups: Sequence[Any] | None = None,
    unlabelled: Sequence[str] | None = None,
) -> tuple[DictConfig, RunContext, np.ndarray]:
    """The configuration of a fit, where it takes place, and `(C,)` sorted labels, as they came.

    Args:
        params: those of `TextClassifier`.
        texts: N of them.
        labels: N classes.
        sample_weight: `(N,)`, or `None`.
        groups: what each text belongs to, or `None`.
        unlabelled: texts that the model learns from first, or `None`.

    Raises:
        UserError: texts, labels or parameters that can't be trained with.
    """
    if len(texts) != len(labels):
        raise OptionError("labels", f"one for each of {len(texts)} texts", len(labels))
    classes = _classes(labels)
    weights = _weights(params["class_weight"], sample_weight, labels, classes)
    config = configure(params)
    if unlabelled is not None:
        if config.data.adapt == "train":
            hint = "Leave out unlabelled, or the override."
            raise OptionError("data.adapt", "all_unlabelled where unlabelled is given", "train", hint)
        config.data.adapt = "all_unlabelled"
    chosen = {name: params[name] for name in ("model", "freeze", "pooling") if isinstance(params[name], str)}
    context = RunContext(
        folder=None,
        choices=chosen,
        source=Texts(
            texts, [str(label) for label in labels], weights, groups, () if unlabelled is None else unlabelled
        ),
        pooling=None if isinstance(params["pooling"], str | None) else params["pooling"],
        interruptible=True,
        progress=bool(params["progress"]),
    )
    return config, context, classes


def configure(params: Mapping[str, Any]) -> DictConfig:
    """The configuration of a fit.

    Args:
        params: those of `TextClassifier`.

    Raises:
        UserError: a parameter that does not fit.
    """
    if params["device"] not in TRAINERS:
        raise OptionError("device", "cpu, cuda, mps or None", params["device"])
    groups = [f"model={params['model']}", f"freeze={params['freeze']}", f"trainer={TRAINERS[params['device']]}"]
    if isinstance(params["pooling"], str):
        groups.append(f"pooling={params['pooling']}")
    config = copy.deepcopy(_composed((*groups, *params["overrides"])))
    expect_number("validation", params["validation"], 0, 0.9)
    with open_dict(config):
        for name, key in VALUES.items():
            if params[name] is not None:
                OmegaConf.update(config, key, _plain(params[name]))
        config.cache.enabled = params["cache"] is not False
        in_memory = params["cache"] in (True, False, "memory")
        config.cache.dir = None if in_memory else str(Path(params["cache"]).expanduser())
        if not params["validation"]:
            config.evaluate = "never"
    return config


def _plain(value: Any) -> Any:
    """As a configuration keeps it: scikit-learn's searches set numbers of numpy, and paths may be `Path`s."""
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@lru_cache(maxsize=64)
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    return compose(list(overrides), "fit")


def _classes(labels: list[Any]) -> np.ndarray:
    kinds = {type(label) for label in labels}
    if not (kinds <= {str} or kinds <= {int} or kinds <= {bool}):
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise OptionError("labels", "strings, or whole numbers", f"of type {shown}")
    for label in set(labels) if kinds <= {str} else ():
        if label != label.strip().rstrip("\0"):  # numpy takes NULs at the end away, and class names have no spaces
            raise OptionError("labels", "strings without white space or NUL at their ends", repr(label))
    return np.unique(np.array(labels))


def _weights(
    class_weight: str | Mapping[Any, float] | None,
    sample_weight: Sequence[float] | None,
    labels: list[Any],
    classes: np.ndarray,
) -> list[float] | None:
    """Of each text, of mean 1; `None` where all are alike."""
    if class_weight is None and sample_weight is None:
        return None
    expected = f"{len(labels)} finite numbers of at least 0, not all 0"
    try:
        weights = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    except (TypeError, ValueError) as error:
        raise OptionError("sample_weight", expected, f"something else: {first_line(error)}") from error
    if weights.shape != (len(labels),) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum():
        raise OptionError("sample_weight", expected, "something else")
    if isinstance(class_weight, Mapping):
        unknown = set(class_weight) - set(classes.tolist())
        if unknown:
            raise OptionError("class_weight", f"classes among {', '.join(map(str, classes))}", f"for {unknown}")
        weights = weights * np.array([class_weight.get(label, 1.0) for label in labels])
    elif class_weight == "balanced":
        counts = Counter(labels)
        weights = weights * np.array([len(labels) / (len(classes) * counts[label]) for label in labels])
    elif class_weight is not None:
        raise OptionError("class_weight", "None, balanced or a weight by class", class_weight)
    return (weights / weights.mean()).tolist()
