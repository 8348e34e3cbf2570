"""The classifier as users of scikit-learn know one: fit, predict, predict_proba, score."""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt_classifier.checkpoints import find_checkpoint
from gpt_classifier.errors import UserError, missing_told
from gpt_classifier.inference.onnx_predictor import OnnxPredictor, expect_onnx, is_onnx
from gpt_classifier.inference.text_predictor import TextPredictor
from gpt_classifier.spec import Spec
from gpt_classifier.tables.texts import list_of

if TYPE_CHECKING:  # with torch, which an export to ONNX does without
    from gpt_classifier.artifact import Artifact
    from gpt_classifier.models.classifier import Classifier
    from gpt_classifier.models.pooling import Pooling


class TextClassifier:
    """A pretrained GPT that is fine-tuned into a text classifier, with scikit-learn's verbs.

    `fit` trains it, as `gpt-classifier train` does; `from_checkpoint` and `load` open one that was trained. It needs no
    scikit-learn, but works in its procedures: `clone`, `cross_val_score`, `GridSearchCV`, `Pipeline`,
    `CalibratedClassifierCV`, `StackingClassifier`. Fits on the same texts in one process share the activations of the
    frozen blocks. Nothing is written to disk but weights that `data.adapt` makes, which later fits find.

    Args:
        model: a file of `conf/model`, such as `gpt2-nano` or `gpt2-small`.
        freeze: a file of `conf/freeze`: `last_block`, `head_only`, `last_two_blocks`, `lora`, `none`, …
        pooling: where the head reads: a file of `conf/pooling`, such as `last_token`, `max` or `windows`; or what makes
            a `Pooling` from the width of the hidden states, such as a subclass that takes it; `None` for the one of
            `conf/recipe/own.yaml`, as in all that follows.
        epochs: passes over the training texts; by default as many as make enough steps.
        lr: peak learning rate of AdamW; by default what suits the model and what is trained of it.
        class_weight: how much each class counts in training: `None` for as many texts as it has, `balanced` for all
            classes alike, or a weight by class.
        validation: part of the texts, from every class, that chooses the best epoch and is not trained on; 0 for none:
            then the last epoch's weights are kept.
        batch_size: texts of a training step; by default more of them where there are more texts.
        max_length: most tokens that are read of a text; `None` for the model's context, or 4,096 with `windows`.
            A longer one keeps its beginning and its end (`data.truncate` in `overrides`).
        weights: `pretrained`, `random`, or a path, see `conf/model/base.yaml`.
        precision: `auto` (bfloat16 products where the hardware multiplies it natively), `32-true` or `bf16-mixed`.
        device: `cpu`, `cuda` or `mps`; `None` for the best there is.
        cache: `memory` keeps activations of the frozen blocks for later fits in this process; a folder keeps them for
            later processes, too; `False` keeps none.
        seed: of the head, the order of batches, dropout and the choice of validation texts.
        progress: show a bar while it trains, on a terminal or in a notebook.
        with_ngrams: join it with a linear model of character and word n-grams, see docs/stacking.md; takes six times
            as long (extra: `compare`).
        overrides: further Hydra overrides, such as `["scheduler=none", "freeze.rank=8"]`.

    Attributes:
        classes_: `(C,)` the labels, sorted, as they went into `fit`: the order of the columns of `predict_proba`.
        history_: what was measured in training: a dict a point, with `epoch`, `step` and `examples` and any of
            `train/running_loss`, `train/running_accuracy`, `val/loss`, `val/accuracy`.
        best_score_: accuracy on the validation part of the epoch whose weights were kept; `nan` without one.
        temperature: logits are divided by it; 1 unless the checkpoint was calibrated (`gpt-classifier evaluate`).
        note: what every report on its data must say, or an empty string.
    """

    _estimator_type = "classifier"
    _predictor: TextPredictor | None = None
    _artifact: "Artifact | None" = None
    _base_weights: Path | None = None  # where the frozen weights are, if they were moved

    def __init__(
        self,
        model: str = "gpt2-nano",
        freeze: str = "last_block",
        pooling: "str | Callable[[int], Pooling] | None" = None,
        epochs: int | None = None,
        lr: float | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        validation: float = 0.1,
        batch_size: int | None = None,
        max_length: int | None = None,
        weights: str | os.PathLike | None = None,
        precision: str = "auto",
        device: str | None = None,
        cache: str | os.PathLike | bool = "memory",
        seed: int = 123,
        progress: bool = True,
        with_ngrams: bool = False,
        overrides: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.freeze = freeze
        self.pooling = pooling
        self.epochs = epochs
        self.lr = lr
        self.class_weight = class_weight
        self.validation = validation
        self.batch_size = batch_size
        self.max_length = max_length
        self.weights = weights
        self.precision = precision
        self.device = device
        self.cache = cache
        self.seed = seed
        self.progress = progress
        self.with_ngrams = with_ngrams
        self.overrides = overrides

    # parameters, as scikit-learn handles them

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> "TextClassifier":
        """Change parameters for the next `fit`.

        Raises:
            ValueError: there is no such parameter.
        """
        known = self._names()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"Invalid parameter {name!r} for TextClassifier. Valid parameters are: {known}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        changed = {name: value for name, value in self.get_params().items() if value != defaults[name]}
        return f"TextClassifier({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __sklearn_is_fitted__(self) -> bool:
        return self._predictor is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(string=True, one_d_array=True, two_d_array=False),
        )

    # training

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        sample_weight: Sequence[float] | None = None,
        unlabelled: Sequence[str] | None = None,
    ) -> "TextClassifier":
        """Fine-tune on labelled texts. Ctrl-C keeps the best weights so far and is raised on.

        Args:
            texts: a list, a numpy array or a pandas Series of N non-empty strings.
            labels: their N classes, strings or whole numbers, at least two different ones.
            sample_weight: `(N,)`, how much each text counts in training; `None` for all alike.
            unlabelled: texts without labels, which a GPT learns to continue first, with the training texts
                (`data.adapt=all_unlabelled`, see docs/pretraining.md); those that are near-duplicates of a validation
                text are left out. `None` for none.

        Returns:
            The classifier itself.

        Raises:
            UserError: texts or labels that can't be trained on, or a parameter out of its range.
        """
        with _needs_torch("fit"):
            from gpt_classifier.inference.fitting import fit  # seconds of imports that prediction does not need
            from gpt_classifier.inference.predictor import Predictor

        fitted = fit(self.get_params(), list_of("texts", texts), list_of("labels", labels), sample_weight, unlabelled)
        self._artifact, self._base_weights = fitted.artifact, None
        artifact = fitted.artifact
        predictor = Predictor(fitted.model, artifact.spec, self.precision, artifact.ngrams())
        self._adopt(predictor, fitted.classes)
        self.history_ = fitted.history
        self.best_score_ = fitted.score
        if fitted.interrupted:
            raise KeyboardInterrupt
        return self

    def _adopt(self, predictor: TextPredictor, classes: np.ndarray) -> None:
        self._predictor = predictor
        self.classes_ = classes
        self._order = [predictor.classes.index(str(name)) for name in classes]
        self.temperature = predictor.temperature
        self.note = predictor.note

    # files

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike,
        device: str | None = None,
        weights: str | os.PathLike | None = None,
        precision: str = "auto",
        verify: bool = False,
    ) -> "TextClassifier":
        """Open a checkpoint of a run, what `save` wrote, or an export to ONNX; nothing in it is executed.

        An export to ONNX needs no torch. It predicts, and can't be saved.

        Args:
            path: `best.ckpt` or `last.ckpt` of a run, the run's folder, or a folder that `save` or `export --to onnx`
                wrote; or `latest`, the run below `outputs/` that finished last.
            device: where to compute; `None` for the best device there is, or the CPU for an export.
            weights: the pretrained weights that were fine-tuned, if they are no longer where training found them.
            precision: as for `TextClassifier`.
            verify: read all pretrained weights to check them, even if they were checked before and seem unchanged.

        Raises:
            UserError: there is no such file, it is not a whole checkpoint of this project, or the pretrained weights
                that it builds on are missing or other ones.
        """
        place = find_checkpoint(os.fspath(path), Path("outputs"))
        artifact: Artifact | None = None
        given = Path(weights).expanduser() if weights else None
        predictor: TextPredictor
        if is_onnx(place):
            expect_onnx(place, device, precision)
            predictor = OnnxPredictor.open(place)
        else:
            with _needs_torch("opening a checkpoint"):
                from gpt_classifier.artifact import open_artifact
                from gpt_classifier.inference.predictor import Predictor

            artifact = open_artifact(place)
            predictor = Predictor.of(artifact, device, given, precision, verify)
        spec = predictor.spec
        classifier = cls(precision=precision, device=device, with_ngrams=spec.ngrams is not None).set_params(
            **spec.choices
        )
        classifier._artifact = artifact
        classifier._base_weights = given
        classes = sorted(map(int, predictor.classes)) if spec.whole_numbers else predictor.classes
        classifier._adopt(predictor, np.array(classes))
        return classifier

    load = from_checkpoint

    def save(self, path: str | os.PathLike) -> None:
        """Write the classifier as a folder that needs nothing beside it, for `load`.

        Args:
            path: of the folder; one that `save` wrote is replaced, anything else refused.

        Raises:
            UserError: it is not fitted, or the place is taken or can't be written.
        """
        spec, model = self.whole()
        from gpt_classifier.artifact import save_bundle

        save_bundle(Path(path).expanduser(), spec, model, self._fitted().ngrams)

    def whole(self) -> "tuple[Spec, Classifier]":
        """What it consists of, for `gpt_classifier.export`: what prediction needs beside weights, and all weights.

        Returns:
            With `temperature`; and the model as it was trained, on the CPU, adapters folded in.

        Raises:
            UserError: it is not fitted, or was opened from an export to ONNX.
        """
        self._fitted()
        if self._artifact is None:
            raise UserError(
                "This TextClassifier was opened from an export to ONNX, which predicts alone. Copy its folder to save "
                "it, or open the checkpoint that it was exported from."
            )
        from gpt_classifier.models.lora import merge

        model = self._artifact.build(self._base_weights)  # not as it was converted for computing
        merge(model)
        return replace(self._artifact.spec, lora=None, temperature=self.temperature), model

    @property
    def path(self) -> Path | None:
        """The checkpoint or folder that it was opened from; `None` if it was fitted here."""
        return None if self._artifact is None or self._artifact.path == Path() else self._artifact.path

    # prediction

    def _fitted(self) -> TextPredictor:
        if self._predictor is None:
            message = "This TextClassifier is not fitted yet: call fit, or open a trained one with load."
            if "sklearn" in sys.modules:  # whose procedures expect their own error
                from sklearn.exceptions import NotFittedError

                raise NotFittedError(message)
            raise UserError(message)
        return self._predictor

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most probable class of each text, `(N,)`, as the labels went into `fit`."""
        logits = self.logits(texts)
        return self.classes_[logits.argmax(axis=1)]

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of all classes.

        Args:
            texts: N of them, none empty.

        Returns:
            `(N, C)` float32, columns in the order of `classes_`. What else is asked at the same time, and in which
            order, makes no difference of more than 1e-5 in float32, or 0.01 in bfloat16.

        Raises:
            UserError: an empty text, or it is not fitted.
        """
        predictor = self._fitted()
        predictor.temperature = self.temperature
        return predictor.predict_proba(texts)[:, self._order]

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits before calibration, `(N, C)` float32, columns in the order of `classes_`.

        Raises:
            UserError: an empty text, or it is not fitted.
        """
        predictor = self._fitted()
        return predictor.logits(texts, predictor.token_rows(texts))[:, self._order]

    def score(self, texts: Sequence[str], labels: Sequence[Any], sample_weight: Sequence[float] | None = None) -> float:
        """Accuracy: the part of the texts whose label is predicted.

        Args:
            texts: none of them empty.
            labels: their true classes, as many; compared by how they are written, 4 and "4" alike.
            sample_weight: how much each text counts; `None` for all alike.
        """
        texts, labels = list_of("texts", texts), list_of("labels", labels)
        if len(texts) != len(labels):
            raise UserError(f"score: expected a label for each of {len(texts)} texts, but there are {len(labels)}.")
        right = [str(found) == str(label) for found, label in zip(self.predict(texts), labels, strict=True)]
        return float(np.average(right, weights=sample_weight))


def _needs_torch(what: str) -> AbstractContextManager[None]:
    """Inside, modules are imported that an export to ONNX does without.

    Raises:
        UserError: torch is not installed.
    """
    return missing_told(
        lambda error: (
            f"{what} needs {error.name}, which is not installed; without it only an export to ONNX can be opened. "
            f"Install the package with all that it depends on: pip install gpt-classifier."
        )
    )
