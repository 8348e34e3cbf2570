"""A trained classifier as files: the only module that knows what checkpoints and bundles contain."""

import contextlib
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt_classifier import torch_files
from gpt_classifier.atomic import not_written, replacing_folder
from gpt_classifier.checkpoints import expect_there, run_folder
from gpt_classifier.errors import UserError, first_line
from gpt_classifier.families import FAMILIES, config_from_state, empty_backbone
from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.lora import LoRA, add_adapters
from gpt_classifier.models.pooling import Pooling, find_pooling
from gpt_classifier.models.weights import content_hash, locate_weights
from gpt_classifier.ngrams import NGrams
from gpt_classifier.paths import cache_folder
from gpt_classifier.spec import ONNX_FILE, SPEC_FILE, Base, Spec, read_spec, write_spec

log = logging.getLogger(__name__)

WEIGHTS_FILE = "model.safetensors"  # of a bundle
KEY = "classifier"  # of a checkpoint
NGRAMS = "ngrams."
"""How the names of tensors begin that are of the linear model beside the fine-tuned one."""
BESIDE = "ngrams"  # where a checkpoint has these


def pooling_state(pooling: Pooling) -> dict[str, Any]:
    """A pooling as `Spec` keeps it."""
    return {"name": pooling.name(), "options": pooling.state()}


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
            own = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(NGRAMS)}
            _, unknown = model.load_state_dict(own, strict=spec.base is None, assign=True)
            if unknown or any(tensor.is_meta for tensor in model.state_dict().values()):
                raise ValueError("its weights are not those of its model")
        except UserError:
            raise
        except Exception as error:  # whatever a damaged file leads to
            raise _not_ours(self.path, error) from error
        return model

    def ngrams(self) -> NGrams | None:
        """The linear model of n-grams that it is joined with; `None` where there is none.

        Raises:
            UserError: this is no whole artifact.
        """
        if self.spec.ngrams is None:
            return None
        own = {name: tensor for name, tensor in self.tensors.items() if name.startswith(NGRAMS)}
        try:
            arrays = {name.removeprefix(NGRAMS): tensor.numpy() for name, tensor in own.items()}
            return NGrams.from_state(self.spec.ngrams, arrays)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _not_ours(self.path, error) from error

    def joined(self, ngrams: NGrams) -> "Artifact":
        """The same with a linear model of n-grams beside it."""
        plain, arrays = ngrams.state()
        tensors = {f"{NGRAMS}{name}": torch.from_numpy(array) for name, array in arrays.items()}
        return replace(self, spec=replace(self.spec, ngrams=plain), tensors=self.tensors | tensors)


def open_artifact(path: Path) -> Artifact:
    """Open a checkpoint or a bundle.

    Raises:
        UserError: there is no such file, or it is not a whole artifact of this project.
    """
    expect_there(path)
    if (path / ONNX_FILE).is_file():
        raise UserError(
            f"checkpoint: {path} is an export to ONNX, which only predict, serve and TextClassifier.load take. Give "
            f"the checkpoint that it was exported from."
        )
    try:
        return _open_bundle(path) if path.is_dir() else _open_checkpoint(path)
    except UserError:
        raise
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise _not_ours(path, error) from error


def _open_checkpoint(path: Path) -> Artifact:
    checkpoint = torch_files.load(path)
    spec = Spec.from_plain(checkpoint.pop(KEY))
    tensors = {name.removeprefix("model."): tensor for name, tensor in checkpoint.pop("state_dict").items()}
    return Artifact(path, spec, tensors | checkpoint.pop(BESIDE, {}), checkpoint)


def _open_bundle(path: Path) -> Artifact:
    from safetensors.torch import load_file

    values, checked = read_spec(path, [path / WEIGHTS_FILE])
    if not checked:
        log.warning("%s was saved without a checksum: damage to it would not be noticed. Save it again.", path)
    spec = Spec.from_plain(values)
    tensors = {
        name: tensor if name.startswith(NGRAMS) else tensor.float()
        for name, tensor in load_file(path / WEIGHTS_FILE).items()
    }
    return Artifact(path, spec, tensors, {})


def save_bundle(folder: Path, spec: Spec, model: Classifier, ngrams: NGrams | None = None) -> None:
    """Write a folder that needs nothing beside it; it appears whole or not at all.

    Weights that bfloat16 holds exactly are stored in it, others in float32: nothing is rounded.

    Args:
        folder: to write; an existing bundle is replaced, any other folder or file is refused.
        spec: what prediction needs; its `base` is dropped.
        model: with all weights.
        ngrams: the linear model beside it, if there is one.

    Raises:
        UserError: the place is taken, or can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if folder.exists() and not (folder / SPEC_FILE).is_file():
        raise UserError(f"{folder} exists and is no saved classifier. Name another folder.")
    tensors = {name: _narrow(tensor.detach().cpu()) for name, tensor in model.state_dict().items()}
    if ngrams is not None:
        whole = Artifact(folder, spec, tensors, {}).joined(ngrams)
        spec, tensors = whole.spec, whole.tensors
    with replacing_folder(folder) as part:
        try:
            save_file(tensors, part / WEIGHTS_FILE, {"format": "pt"})
        except SafetensorError as error:  # which does not say what the system said
            raise not_written(folder, OSError(first_line(error))) from error
        write_spec(part, replace(spec, base=None).plain(), [part / WEIGHTS_FILE])


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
        write_spec(path, replace(open_artifact(path).spec, temperature=temperature).plain(), [path / WEIGHTS_FILE])
        return
    checkpoint = torch_files.load(path)
    checkpoint[KEY]["temperature"] = temperature
    written = path.stat()
    torch_files.save(checkpoint, path)
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))  # it is no newer run: latest stays latest


def store_ngrams(path: Path, ngrams: NGrams) -> None:
    """Write a linear model of n-grams into a checkpoint, which is replaced as a whole.

    Raises:
        UserError: it is damaged, or can't be written.
    """
    whole = open_artifact(path).joined(ngrams)
    checkpoint = torch_files.load(path)
    checkpoint[KEY] = whole.spec.plain()
    # not in state_dict, which a resumed run loads into its module
    checkpoint[BESIDE] = {name: whole.tensors[name] for name in whole.tensors if name.startswith(NGRAMS)}
    torch_files.save(checkpoint, path)


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
