"""Released weights into `gpt.py`.

Reads the naming of the released GPT-2 checkpoints on the Hugging Face Hub (safetensors, `Conv1D` weights
stored transposed) and that of the book's `GPTModel` (`tok_emb`, `trf_blocks.0.att.W_query`, …).
"""

import contextlib
import hashlib
import json
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt_classifier.assets import ASSETS
from gpt_classifier.errors import UserError, first_line
from gpt_classifier.models.classifier import GPTClassifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import Pooling

log = logging.getLogger(__name__)

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Base:
    """The file that frozen weights come from, so that a checkpoint need not repeat them.

    Args:
        path: file or folder, absolute.
        hub: repository on the Hugging Face Hub that it was fetched from, if it was.
        sha256: of its content, see `content_hash`.
    """

    path: str
    hub: str | None
    sha256: str


def locate_weights(weights: str, hub: str | None = None) -> Path | None:
    """Where weights are on this machine, fetched first if need be.

    Args:
        weights: `random` for fresh ones; `pretrained` for those of `hub`; otherwise a path.
        hub: `gpt2-nano`, which comes with the package, or a repository on the Hugging Face Hub, such as
            `openai-community/gpt2`, whose `model.safetensors` is fetched through huggingface_hub's cache; `None` if
            there is neither.

    Returns:
        A path, or `None` for random weights.

    Raises:
        UserError: no network, no released weights, or no such path.
    """
    if weights == "random":
        return None
    path = _fetch(hub) if weights == "pretrained" else Path(weights).expanduser()
    if not path.exists():
        raise UserError(f"model.weights: expected pretrained, random or a path, but {path} does not exist.")
    return path.absolute()


def load_classifier(
    config: GPTConfig,
    path: Path | None,
    pooling: Pooling,
    num_classes: int,
    causal: bool = True,
    require_head: bool = False,
) -> GPTClassifier:
    """A classifier on a pretrained (or random) backbone.

    A file that holds an already fine-tuned classifier, such as the book's `review_classifier.pth`,
    brings its head along; else the head is fresh.

    Args:
        config: sizes of the backbone.
        path: of the weights, as in `load_backbone`.
        pooling: one of `gpt_classifier.models.pooling.POOLINGS`.
        num_classes: C.
        causal: as `GPTClassifier`.
        require_head: refuse a file without a head.

    Raises:
        UserError: as `load_backbone`; or the file's head is for another number of classes, or it has none where one is
            required.
    """
    backbone, head = load_backbone(config, path)
    if require_head and not head:
        raise UserError(f"model.weights: {path} has no head for classes: it is a language model, not fine-tuned yet.")
    model = GPTClassifier(backbone, pooling, num_classes, causal)
    if head:
        found = head["weight"].shape[0]
        if found != num_classes:
            raise UserError(
                f"model.weights: {path} was fine-tuned for {found} classes, but the data has {num_classes}. "
                f"Set data.path to data with {found} classes, or model.weights to a model that was only "
                f"pretrained."
            )
        model.head.load_state_dict({"bias": torch.zeros(num_classes), **head})
    return model


def load_backbone(config: GPTConfig, path: Path | None) -> tuple[GPT, StateDict]:
    """A GPT with weights in float32, as far as possible mapped from the file and not yet read.

    Such weights are not for training in place: `gpt_classifier.models.freezing.hold_trained` gives those that are
    trained memory of their own.

    Args:
        config: sizes that the weights must have.
        path: a safetensors file, a Hub-style folder, or a state dict (`.pth`, `.pt`, `.bin`), which is opened with
            `weights_only=True`; `None` for random weights.

    Returns:
        The backbone, and the `weight` and `bias` of a classification head if the file holds one, else `{}`.

    Raises:
        UserError: a damaged file, or weights of another model.
    """
    with torch.device("meta"):  # shapes only: each weight is allocated once, when its value is known
        model = GPT(config)
    if path is None:
        return model.to_empty(device="cpu").initialise(), {}
    state, head = _read(path)
    _check(model, state, path)
    model.load_state_dict(state, assign=True)
    return model, head


def content_hash(path: Path, memory: Path) -> str:
    """sha256 of the weights in a file, or in all weight files of a folder.

    Args:
        path: file or folder.
        memory: a JSON file that remembers hashes by path, size and time of change, so that a file is read once.
    """
    files = _weight_files(path)
    stats = [file.stat() for file in files]
    identity = json.dumps([[str(f), s.st_size, s.st_mtime_ns] for f, s in zip(files, stats, strict=True)])
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if identity not in known:
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        known[identity] = digest.hexdigest()
        with contextlib.suppress(OSError):  # a memory that can't be written only costs time
            memory.parent.mkdir(parents=True, exist_ok=True)
            part = memory.with_name(f"{memory.name}.{os.getpid()}.part")
            part.write_text(json.dumps(known, indent=1), encoding="utf-8")
            os.replace(part, memory)
    return known[identity]


def _fetch(hub: str | None) -> Path:
    if hub is None:
        raise UserError(
            "model.weights=pretrained: this model has no released weights. "
            "Set model.weights=random, or model.weights=PATH to weights of your own."
        )
    if (ASSETS / hub / "model.safetensors").is_file():
        return ASSETS / hub
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub, "model.safetensors"))
    except Exception as error:  # whatever its HTTP library of the day raises
        raise UserError(
            f"model.weights=pretrained: expected to fetch model.safetensors of {hub} from the Hugging Face Hub "
            f"or to find it in the local cache, but: {first_line(error)} Connect to the network once, "
            f"or set model.weights=PATH to a local copy. experiment=quickstart needs no network."
        ) from error


def _read(path: Path) -> tuple[StateDict, StateDict]:
    try:
        if path.is_dir() or path.suffix == ".safetensors":
            return _from_released(_safetensors(path))
        state = _state_dict(path)
        return _from_book(state) if "tok_emb.weight" in state else _from_released(iter(state.items()))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"model.weights: {path} can't be read as a safetensors file, a folder with model.safetensors, or a "
            f"state dict of tensors. It may be truncated; fetch it again. ({first_line(error)})"
        ) from error


def _weight_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    index = path / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text())["weight_map"].values())
    return [path / Path(name).name for name in sorted(names)]


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yields one tensor at a time, mapped from its file."""
    from safetensors import SafetensorError, safe_open

    for file in _weight_files(path):
        try:
            with safe_open(file, framework="pt") as tensors:
                names = list(tensors.keys())
            for name in names:  # each with a mapping of its own, which goes when the tensor is converted
                with safe_open(file, framework="pt") as tensors:
                    yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(str(error)) from error


def _state_dict(path: Path) -> StateDict:
    mapped = zipfile.is_zipfile(path)  # files of torch before 1.6 are not, and are read whole
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("It does not map names to tensors.")
    return state


TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""Released as `Conv1D` weights, `(in, out)`; `nn.Linear` keeps `(out, in)`."""

NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")
"""Causal-mask buffers of real files, and the language-model head, which is the token embedding."""


def _from_released(tensors: Iterator[tuple[str, Tensor]]) -> tuple[StateDict, StateDict]:
    state = {}
    for name, tensor in tensors:
        name = name.removeprefix("transformer.")
        if name.endswith(NOT_WEIGHTS):
            continue
        if name.endswith(TRANSPOSED):
            tensor = tensor.t()  # a view: matrix products are as fast on it
        state[name] = tensor.float()
    return state, {}


BOOK_NAMES = [
    (r"tok_emb\.", "wte."),
    (r"pos_emb\.", "wpe."),
    (r"final_norm\.", "ln_f."),
    (r"trf_blocks\.", "h."),
    (r"att\.W_qkv\.", "attn.c_attn."),
    (r"att\.out_proj\.", "attn.c_proj."),
    (r"ff\.layers\.0\.", "mlp.c_fc."),
    (r"ff\.layers\.2\.", "mlp.c_proj."),
    (r"norm(\d)\.", r"ln_\1."),
    (r"\.scale$", ".weight"),
    (r"\.shift$", ".bias"),
]


def _from_book(book: StateDict) -> tuple[StateDict, StateDict]:
    book = {name: tensor.float() for name, tensor in book.items() if not name.endswith("att.mask")}
    head = {name.removeprefix("out_head."): book.pop(name) for name in list(book) if name.startswith("out_head.")}
    for name in [name for name in book if ".att.W_query." in name]:
        parts = [book.pop(name.replace("W_query", part)) for part in ("W_query", "W_key", "W_value")]
        book[name.replace("W_query", "W_qkv")] = torch.cat(parts)
    state = {}
    for name, tensor in book.items():
        for pattern, replacement in BOOK_NAMES:
            name = re.sub(pattern, replacement, name)
        state[name] = tensor
        if name.endswith("c_attn.weight"):  # the book leaves these biases out where qkv_bias=False
            state.setdefault(name.replace("weight", "bias"), torch.zeros(tensor.shape[0]))
    if head and head["weight"].shape[0] == state["wte.weight"].shape[0]:
        if not torch.equal(head["weight"], state["wte.weight"]):
            log.warning(
                "model.weights: the file's language-model head is not its token embedding, as in GPT-2; "
                "a classifier does not need it, and generated text will not be the file's."
            )
        head = {}
    return state, head


def _check(model: GPT, state: StateDict, path: Path) -> None:
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name in state and state[name].shape != tensor.shape:
            raise UserError(
                f"model.weights: {path} is of another size than the configured model: {name} has shape "
                f"{tuple(state[name].shape)} where {tuple(tensor.shape)} was expected. Set model= to the size "
                f"of the file, one of gpt2-small, gpt2-medium, gpt2-large, gpt2-xl, gpt2-nano."
            )
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise UserError(
            f"model.weights: {path} does not hold this model's weights: of {len(expected)} tensors "
            f"{len(missing)} are missing (such as {', '.join(missing[:2]) or 'none'}) and {len(unknown)} are "
            f"unknown (such as {', '.join(unknown[:2]) or 'none'}). Expected are the names of the released GPT-2 "
            f"files or of the book's GPTModel, and as many layers as model= has."
        )
