"""A trained classifier as files: the only module that knows what checkpoints and bundles contain."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt_classifier import torch_files
from gpt_classifier.atomic import not_written, replacing_folder, write_text
from gpt_classifier.checkpoints import expect_there, run_folder
from gpt_classifier.errors import UserError, first_line
from gpt_classifier.families import FAMILIES, config_from_state, empty_backbone
from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.lora import LoRA, add_adapters
from gpt_classifier.models.pooling import Pooling, find_pooling
from gpt_classifier.models.weights import Base, content_hash, locate_weights
from gpt_classifier.paths import cache_folder
from gpt_classifier.tokenizers import load_tokenizer

log = logging.getLogger(__name__)

FORMAT = 4
SPEC_FILE, WEIGHTS_FILE = "classifier.json", "model.safetensors"  # of a bundle
KEY = "classifier"  # of a checkpoint


@dataclass(frozen=True)
class Spec:
    """What prediction needs beside weights, as plain values.

    Args:
        backbone: `Backbone.state`.
        pooling: `name` of its class and `options`, `Pooling.state`.
        tokenizer: `Tokenizer.state`.
        task: `Task.state`.
        max_length: most tokens that are read of a text.
        pad_to: what rows are padded to, in tokens, or `batch` for the longest of each batch.
        truncate: what is kept of a longer text, see `gpt_classifier.tokenizers.cutting.cut_rows`.
        lora: options of the adapters in the weights, if there are any.
        base: the file that has the frozen weights; `None` if the artifact has all of them.
        temperature: logits are divided by it.
        note: what every report on its data must say, or an empty string.
        choices: what was chosen of the config groups `model`, `freeze` and `pooling`, as far as these are names.
        whole_numbers: whether the class names are written-out whole numbers, which labels are to be given as.
        teachers: `name` and `sha256` of the files of each classifier whose probabilities it was trained on, if any.
    """

    backbone: dict[str, Any]
    pooling: dict[str, Any]
    tokenizer: dict[str, Any]
    task: dict[str, Any]
    max_length: int
    pad_to: int | str
    truncate: str
    lora: dict[str, Any] | None = None
    base: Base | None = None
    temperature: float = 1.0
    note: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    whole_numbers: bool = False
    teachers: list[dict[str, str]] = field(default_factory=list)

    @property
    def taught_by(self) -> str:
        """The names of its teachers, each with the beginning of its hash; empty without any."""
        return ", ".join(f"{teacher['name']} (sha256 {teacher['sha256'][:12]}…)" for teacher in self.teachers)

    def plain(self) -> dict[str, Any]:
        """As files keep it."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Spec":
        """Read what `plain` wrote, or what format 3 was.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        values = dict(values)
        if values.get("format") == 3:
            values = _from_format_3(values)
        elif values.get("format") != FORMAT:
            raise ValueError("it was written by another version")
        values.pop("format", None)
        if not 0 < values["temperature"] < float("inf"):
            raise ValueError("its temperature is not above 0")
        base = values.pop("base")
        return cls(**values, base=Base(**base) if base else None)


def _from_format_3(old: dict[str, Any]) -> dict[str, Any]:
    ranks = old["vocabulary"]
    kept = ("max_length", "pad_to", "truncate", "lora", "base", "temperature", "note")
    return {
        **{key: old[key] for key in kept},
        "backbone": {"family": "gpt2", **old["backbone"], "causal": old["causal"]},
        "pooling": {"name": old["pooling"], "options": {}},
        "tokenizer": {"kind": "tiktoken", "ranks": ranks} if ranks else load_tokenizer("gpt2").state(),
        "task": {"kind": "single_label", "classes": old["class_names"]},
    }


def pooling_state(pooling: Pooling) -> dict[str, Any]:
    """A pooling as `Spec` keeps it."""
    return {"name": pooling.name(), "options": pooling.state()}


def pooling_text(state: Mapping[str, Any]) -> str:
    """The same in one line, such as `windows inner=max size=256 overlap=64`."""
    return " ".join([state["name"], *(f"{option}={value}" for option, value in state["options"].items())])


@dataclass(frozen=True)
class Artifact:
    """An opened checkpoint or bundle, its weights mapped from the file; nothing in it was executed.

    Args:
        path: the checkpoint, or the folder of the bundle.
        spec: what prediction needs beside weights.
        tensors: weights by name; those of `spec.base` are not among them.
        rest: what else a checkpoint has, such as the state of a run that can be resumed.
    """

    path: Path
    spec: Spec
    tensors: dict[str, Tensor]
    rest: dict[str, Any]

    def build(self, weights: Path | None = None, verify: bool = False) -> Classifier:
        """The classifier, adapters and all, in the types that the files have.

        Args:
            weights: where the weights of `spec.base` are, if they are no longer where training found them.
            verify: read all of these to check them, even if they were checked before and their file has not changed.

        Raises:
            UserError: the weights that it builds on are missing or other ones, or this is no whole artifact.
        """
        spec = self.spec
        try:
            if not all(torch.isfinite(tensor).all() for tensor in self.tensors.values()):
                raise ValueError("its weights are not numbers: the training diverged")
            config = config_from_state(spec.backbone)
            pooling = find_pooling(spec.pooling["name"])(**spec.pooling["options"])
            with torch.device("meta"):
                model = Classifier(empty_backbone(config), pooling, len(spec.task["classes"]))
            if spec.base is not None:
                path = find_base(spec.base, weights, self.path, verify)
                model.backbone, _ = FAMILIES[spec.backbone["family"]].load(config, path)
            if "words.weight" in self.tensors:
                model.words = BagOfTokens(*self.tensors["words.weight"].shape)
            if spec.lora:
                add_adapters(model, LoRA(**spec.lora))
            _, unknown = model.load_state_dict(self.tensors, strict=spec.base is None, assign=True)
            if unknown or any(tensor.is_meta for tensor in model.state_dict().values()):
                raise ValueError("its weights are not those of its model")
        except UserError:
            raise
        except Exception as error:  # whatever a damaged file leads to
            raise _not_ours(self.path, error) from error
        return model


def open_artifact(path: Path) -> Artifact:
    """Open a checkpoint or a bundle.

    Raises:
        UserError: there is no such file, or it is not a whole artifact of this project.
    """
    expect_there(path)
    try:
        return _open_bundle(path) if path.is_dir() else _open_checkpoint(path)
    except UserError:
        raise
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise _not_ours(path, error) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a checkpoint's file, or of both files of a bundle, in hexadecimal: reading takes about 1 s/GB."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else [path / SPEC_FILE, path / WEIGHTS_FILE]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _open_checkpoint(path: Path) -> Artifact:
    checkpoint = torch_files.load(path)
    spec = Spec.from_plain(checkpoint.pop(KEY))
    tensors = {name.removeprefix("model."): tensor for name, tensor in checkpoint.pop("state_dict").items()}
    return Artifact(path, spec, tensors, checkpoint)


def _open_bundle(path: Path) -> Artifact:
    from safetensors.torch import load_file

    values = json.loads((path / SPEC_FILE).read_text(encoding="utf-8"))
    stored = values.pop("checksum", None)
    if stored is None:
        log.warning("%s was saved without a checksum: damage to it would not be noticed. Save it again.", path)
    elif stored != _checksum(values, path / WEIGHTS_FILE):
        raise ValueError("it is damaged, or was changed by hand: its checksum is another one")
    spec = Spec.from_plain(values)
    tensors = {name: tensor.float() for name, tensor in load_file(path / WEIGHTS_FILE).items()}
    return Artifact(path, spec, tensors, {})


def _checksum(values: Mapping[str, Any], weights: Path) -> str:
    """Of the values and the file of weights, as a bundle keeps it: reading takes about 1 s/GB."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    with weights.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _write_spec(folder: Path, values: Mapping[str, Any]) -> None:
    checked = {**values, "checksum": _checksum(values, folder / WEIGHTS_FILE)}
    write_text(folder / SPEC_FILE, json.dumps(checked, ensure_ascii=False, indent=1) + "\n")


def save_bundle(folder: Path, spec: Spec, model: Classifier) -> None:
    """Write a folder that needs nothing beside it; it appears whole or not at all.

    Weights that bfloat16 holds exactly are stored in it, others in float32: nothing is rounded.

    Args:
        folder: to write; an existing bundle is replaced, any other folder or file is refused.
        spec: what prediction needs; its `base` is dropped.
        model: with all weights.

    Raises:
        UserError: the place is taken, or can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if folder.exists() and not (folder / SPEC_FILE).is_file():
        raise UserError(f"{folder} exists and is no saved classifier. Name another folder.")
    tensors = {name: _narrow(tensor.detach().cpu()) for name, tensor in model.state_dict().items()}
    with replacing_folder(folder) as part:
        try:
            save_file(tensors, part / WEIGHTS_FILE, {"format": "pt"})
        except SafetensorError as error:  # which does not say what the system said
            raise not_written(folder, OSError(first_line(error))) from error
        _write_spec(part, replace(spec, base=None).plain())


def _narrow(tensor: Tensor) -> Tensor:
    narrow = tensor.to(torch.bfloat16)
    exact = torch.equal(narrow.to(tensor.dtype), tensor)
    return (narrow if exact else tensor).contiguous()


def store_temperature(path: Path, temperature: float) -> None:
    """Write a temperature into a checkpoint or bundle, which is replaced as a whole.

    Raises:
        UserError: it is damaged, or can't be written.
    """
    path = path.resolve()
    if path.is_dir():
        _write_spec(path, replace(open_artifact(path).spec, temperature=temperature).plain())
        return
    checkpoint = torch_files.load(path)
    checkpoint[KEY]["temperature"] = temperature
    written = path.stat()
    torch_files.save(checkpoint, path)
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))  # it is no newer run: latest stays latest


def _not_ours(path: Path, error: Exception) -> UserError:
    return UserError(
        f"checkpoint: {path} is not a whole checkpoint of this project ({first_line(error)}). "
        f"Give a run's checkpoints/best.ckpt, or latest."
    )


def find_base(base: Base, given: Path | None, artifact: Path, verify: bool = False) -> Path:
    """Where the frozen weights of an artifact are, their content checked.

    Args:
        base: what the artifact says of them.
        given: a place to look instead of theirs.
        artifact: for messages.
        verify: read all of them even if they were checked before.

    Raises:
        UserError: they are not there, or other ones are.
    """
    path = given or Path(base.path)
    if not given and not path.exists() and (beside := run_folder(artifact) / path.name).exists():
        path = beside  # adapted for this run, whose folder has been moved
    if not given and not path.exists() and base.hub:
        with contextlib.suppress(UserError):  # said below, with what to do about it
            path = locate_weights("pretrained", base.hub, base.revision) or path
    hint = "Give their place with --weights PATH."
    if not (path.is_file() or path.is_dir()):
        raise UserError(
            f"checkpoint: {artifact} holds only what was trained; the pretrained weights that it builds on are not "
            f"at {path}. {hint}"
        )
    try:
        found = content_hash(path, cache_folder() / "weights.json", verify)
    except OSError as error:
        raise UserError(f"--weights: {path} can't be read as weights ({error}). {hint}") from error
    if found != base.sha256:
        raise UserError(
            f"checkpoint: {artifact} builds on pretrained weights with the content hash {base.sha256[:12]}…, but "
            f"those at {path} are other ones. {hint}"
        )
    return path
