"""Class names and probabilities for texts."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt_classifier.data.batching import EvaluationBatches, pad
from gpt_classifier.data.tokenizers import encode, encoding_of, load_encoding, ranks_from_text
from gpt_classifier.device import best_device, has_native_bf16, keep_few_kernels
from gpt_classifier.errors import UserError, first_line
from gpt_classifier.models.classifier import FORMAT, GPTClassifier
from gpt_classifier.models.freezing import hold_frozen
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.lora import LoRA, add_adapters, merge
from gpt_classifier.models.pooling import POOLINGS
from gpt_classifier.models.weights import Base, content_hash, load_backbone, locate_weights


class TextClassifier:
    """A fine-tuned classifier with scikit-learn's verbs. `TextClassifier.from_checkpoint` makes one.

    It is trained by `train.py`; within scikit-learn's own procedures wrap it in `sklearn.frozen.FrozenEstimator`.

    Args:
        model: the classifier, in eval mode, on the device to compute on.
        spec: what the checkpoint says of tokens, lengths and class names.
        precision: `auto` for bfloat16 products where the hardware multiplies it natively, `32-true`, or `bf16-mixed`.

    Attributes:
        classes_: `(C,)` class names, in the order of the columns of `predict_proba`.
        temperature: logits are divided by it; 1 unless the checkpoint was calibrated (`scripts/evaluate.py`).
        note: what every report on its data must say, or an empty string.
    """

    _estimator_type = "classifier"

    def __init__(self, model: GPTClassifier, spec: dict[str, Any], precision: str = "auto") -> None:
        if precision not in ("auto", "32-true", "bf16-mixed"):
            raise UserError(f"precision: expected auto, 32-true or bf16-mixed, but it is {precision}.")
        keep_few_kernels()
        self.model = model
        self.reduced = precision == "bf16-mixed" or (precision == "auto" and has_native_bf16(self.device.type))
        hold_frozen(model, torch.bfloat16 if self.reduced else torch.float32)
        self.spec = spec
        self.classes_ = np.array(sorted(spec["class_names"]))  # as scikit-learn has them
        self._order = [spec["class_names"].index(name) for name in self.classes_]
        self.temperature: float = spec["temperature"]
        self.note: str = spec["note"]
        ranks: str | None = spec["vocabulary"]
        self.encoding = encoding_of(ranks_from_text(ranks)) if ranks else load_encoding("gpt2")

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike,
        device: str | None = None,
        weights: str | os.PathLike | None = None,
        precision: str = "auto",
    ) -> "TextClassifier":
        """Open a checkpoint without executing anything that it contains.

        Args:
            path: `best.ckpt` or `last.ckpt` of a run.
            device: where to compute; `None` for the best device there is.
            weights: the pretrained weights that were fine-tuned, if they are no longer where training found them.
            precision: as `TextClassifier`.

        Raises:
            UserError: there is no such file, it is not a whole checkpoint of this project, or the pretrained weights
                that it builds on are missing or other ones.
        """
        path = Path(path).expanduser()
        place = _device(device)
        checkpoint = open_checkpoint(path)
        spec = checkpoint["classifier"]
        try:
            trained = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
            if not all(torch.isfinite(tensor).all() for tensor in trained.values()):
                raise ValueError("its weights are not numbers: the training diverged")
            if not 0 < spec["temperature"] < float("inf"):
                raise ValueError("its temperature is not above 0")
            config = GPTConfig(**spec["backbone"])
            with torch.device("meta"):
                pooling = POOLINGS[spec["pooling"]]()
                model = GPTClassifier(GPT(config), pooling, len(spec["class_names"]), spec["causal"])
            if spec["base"] is not None:
                given = Path(weights).expanduser() if weights else None
                model.backbone, _ = load_backbone(config, _find_base(Base(**spec["base"]), given, path))
            if spec["lora"]:
                add_adapters(model, LoRA(**spec["lora"]))
            _, unknown = model.load_state_dict(trained, strict=spec["base"] is None, assign=True)
            if unknown or any(tensor.is_meta for tensor in model.state_dict().values()):
                raise ValueError("its weights are not those of its model")
            merge(model)
            classifier = cls(model.requires_grad_(False).eval().to(place), spec, precision)
        except UserError:
            raise
        except Exception as error:  # whatever a damaged file leads to
            raise _not_ours(path, error) from error
        return classifier

    @property
    def device(self) -> torch.device:
        return self.model.head.weight.device

    def in_order(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's logits `(…, C)` with the columns of `classes_`."""
        return logits[..., self._order]

    def fit(self, texts: Any = None, labels: Any = None) -> "TextClassifier":
        """Not here: `python train.py` trains."""
        raise UserError(
            "A TextClassifier is trained by python train.py; TextClassifier.from_checkpoint opens the result."
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(string=True, one_d_array=True, two_d_array=False),
        )

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most probable class name of each text, `(N,)`."""
        return self.classes_[self.logits(texts).argmax(axis=1)]

    def score(self, texts: Sequence[str], labels: Sequence[Any], sample_weight: Sequence[float] | None = None) -> float:
        """Accuracy: the part of the texts whose label is predicted.

        Args:
            texts: none of them empty.
            labels: their true classes, as many; numbers are compared by how they are written.
            sample_weight: how much each text counts; `None` for all alike.
        """
        if len(texts) != len(labels):
            raise UserError(f"score: expected a label for each of {len(texts)} texts, but there are {len(labels)}.")
        right = self.predict(texts) == np.array([str(label) for label in labels])
        return float(np.average(right, weights=sample_weight))

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of all classes.

        Args:
            texts: messages, none of them empty.

        Returns:
            `(N, C)` float32, rows in the order of the texts, columns in that of `classes_`. What else is asked at the
            same time, and in which order, makes no difference of more than 1e-5 in float32, or 0.01 in bfloat16.

        Raises:
            UserError: an empty text.
        """
        logits = torch.from_numpy(self.logits(texts)) / self.temperature
        return logits.softmax(dim=-1).numpy()

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits before calibration, `(N, C)` float32.

        Texts are cut and padded as in training. With a pooling that reads padding and batches that were padded
        to their longest message, each text is read alone, without padding.

        Raises:
            UserError: an empty text.
        """
        return self.logits_of_rows(self.token_rows(texts))

    def logits_of_rows(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """The same for token ids, as `token_rows` makes them."""
        found = np.empty((len(rows), len(self.classes_)), dtype=np.float32)
        alone = self.model.pooling.reads_padding and self.spec["pad_to"] == "batch"
        lengths_of_rows = np.array([len(row) for row in rows], dtype=np.int64)
        for chosen, T in EvaluationBatches(lengths_of_rows, 1 if alone else 32, self.spec["pad_to"], in_order=alone):
            ids, lengths = pad([rows[i] for i in chosen], T, self.encoding.eot_token)
            with self.computing():
                logits = self.model(ids.to(self.device), lengths.to(self.device))  # (B, C)
            found[chosen] = self.in_order(logits).cpu().numpy()
        return found

    def token_rows(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, cut as in training.

        Raises:
            UserError: a text is empty.
        """
        if isinstance(texts, str):
            raise UserError("texts: expected a list of texts, but it is one text. Put it into a list.")
        for i, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                what = "empty" if isinstance(text, str) else f"{type(text).__name__}, not text"
                raise UserError(f"text {i + 1} of {len(texts)} is {what}; a classifier needs something to read.")
        return encode(texts, self.encoding, self.spec["max_length"], self.spec["truncate"])[0]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, no gradients are kept, and products are of this classifier's precision."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.reduced):
            yield


def open_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of this project holds, weights mapped from the file; nothing in it is executed.

    Raises:
        UserError: there is no such file, or it is not a whole checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"checkpoint: there is no file {path}. Give a run's checkpoints/best.ckpt, or latest.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if checkpoint["classifier"]["format"] != FORMAT:
            raise ValueError("it was written by another version")
        checkpoint["state_dict"].keys()
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise _not_ours(path, error) from error
    return checkpoint


def store_temperature(path: Path, temperature: float) -> None:
    """Write a temperature into a checkpoint, which is replaced as a whole."""
    path = path.resolve()
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    checkpoint["classifier"]["temperature"] = temperature
    written = path.stat()
    part = path.with_name(f"{path.name}.part")
    try:
        torch.save(checkpoint, part)
        os.utime(part, ns=(written.st_atime_ns, written.st_mtime_ns))  # it is no newer run: latest stays latest
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or best_device())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device: {name} can't be used here ({first_line(error)}). Leave it out for the best."
        ) from error
    return device


def _not_ours(path: Path, error: Exception) -> UserError:
    return UserError(
        f"checkpoint: {path} is not a whole checkpoint of this project ({first_line(error)}). "
        f"Give a run's checkpoints/best.ckpt, or latest."
    )


def _find_base(base: Base, given: Path | None, checkpoint: Path) -> Path:
    path = given or Path(base.path)
    if not given and not path.exists() and base.hub:
        path = locate_weights("pretrained", base.hub) or path
    hint = "Give their place with --weights PATH."
    if not (path.is_file() or path.is_dir()):
        raise UserError(
            f"checkpoint: {checkpoint} holds only what was trained; the pretrained weights that it builds on are not "
            f"at {path}. {hint}"
        )
    memory = Path(os.environ.get("GPT_CLASSIFIER_CACHE", "~/.cache/gpt-classifier")).expanduser() / "weights.json"
    try:
        found = content_hash(path, memory)
    except OSError as error:
        raise UserError(f"--weights: {path} can't be read as weights ({error}). {hint}") from error
    if found != base.sha256:
        raise UserError(
            f"checkpoint: {checkpoint} builds on pretrained weights with the content hash {base.sha256[:12]}…, but "
            f"those at {path} are other ones. {hint}"
        )
    return path


def find_checkpoint(name: str, outputs: Path) -> Path:
    """A checkpoint's path; `latest` is the most recently written `best.ckpt` below a folder of runs.

    Raises:
        UserError: there is none.
    """
    if name != "latest":
        return Path(name).expanduser().absolute()
    found = sorted(outputs.rglob("checkpoints/best.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            f"checkpoint=latest: no run below {outputs} has checkpoints/best.ckpt. Train one first "
            f"(python train.py experiment=quickstart), or name a checkpoint's path."
        )
    return found[-1].absolute()


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote a checkpoint, or the one that the checkpoint lies in."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
