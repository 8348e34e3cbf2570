"""Released weights into `gpt.py`.

Reads the naming of the released GPT-2 checkpoints on the Hugging Face Hub (`Conv1D` weights stored transposed) and
that of the book's `GPTModel` (`tok_emb`, `trf_blocks.0.att.W_query`, …). The `config.json` that transformers writes
beside weights tells what shapes do not, such as the activation function: weights of a model that `gpt.py` would
compute differently are refused.
"""

import contextlib
import hashlib
import json
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpt_classifier import torch_files
from gpt_classifier.assets import ASSETS
from gpt_classifier.device import expect_memory
from gpt_classifier.errors import OptionError, UserError, first_line
from gpt_classifier.hub import WEIGHT_FILES, fetch_file
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.limits import expect_weights

log = logging.getLogger(__name__)

StateDict = dict[str, Tensor]


def locate_weights(weights: str, hub: str | None = None, revision: str | None = None) -> Path | None:
    """Where weights are on this machine, fetched first if need be.

    Args:
        weights: `random` for fresh ones; `pretrained` for those of `hub`; otherwise a path.
        hub: `gpt2-nano`, which comes with the package, or a repository on the Hugging Face Hub, such as
            `openai-community/gpt2`, whose weights and `config.json` are fetched through huggingface_hub's
            cache; `None` if there is neither.
        revision: commit, tag or branch of the repository; `None` for its main branch. A commit always gives the same
            weights, and needs no network once they are in the cache.

    Returns:
        A path, or `None` for random weights.

    Raises:
        UserError: no network, no released weights, no such revision, or no such path.
    """
    if weights == "random":
        return None
    expect_weights(weights)
    path = _fetch(hub, revision) if weights == "pretrained" else Path(weights).expanduser()
    return path.absolute()


def expect_head(head: StateDict, wanted: nn.Linear, path: Path | None, required: bool) -> None:
    """Refuse the head of a file that does not fit.

    Raises:
        UserError: it is for another number of classes or another width, or there is none where one is required.
    """
    if required and not head:
        raise UserError(f"{path} has no head for classes: it is a language model, not fine-tuned yet.")
    found, features = head["weight"].shape if head else wanted.weight.shape
    if found != wanted.out_features:
        raise UserError(
            f"{path} was fine-tuned for {found} classes, but the data has {wanted.out_features}. Train on data with "
            f"{found} classes, or start from weights that were only pretrained."
        )
    if features != wanted.in_features:
        raise UserError(
            f"{path} has a head that reads {features} features of a text, but this model has {wanted.in_features}. "
            f"Start from weights that were only pretrained."
        )


def load_backbone(config: GPTConfig, path: Path | None) -> tuple[GPT, StateDict]:
    """A GPT with weights in float32, as far as possible mapped from the file and not yet read.

    Such weights are not for training in place: `gpt_classifier.models.freezing.hold_trained` gives those that are
    trained memory of their own.

    Args:
        config: sizes that the weights must have.
        path: a safetensors file, a state dict (`.pth`, `.pt`, `.bin`), which is opened with `weights_only=True`, or
            a folder with `model.safetensors` or `pytorch_model.bin`, whole or in parts; `None` for random weights.
            The `config.json` of a folder, or beside a file of the kinds that transformers writes, is checked.

    Returns:
        The backbone, and the `weight` and `bias` of a classification head if the file holds one, else `{}`.

    Raises:
        UserError: a damaged file, values that are no weights, weights of another model, or more than fit in memory.
    """
    with torch.device("meta"):  # shapes only: each weight is allocated once, when its value is known
        model = GPT(config)
    expect_memory(sum(4 * p.numel() for p in model.parameters()), "the weights of this model")
    if path is None:
        return model.to_empty(device="cpu").initialise(), {}
    _check_config(config, path)
    state, head = _read(path)
    _check_tensors(config, model, state, path)
    model.load_state_dict(state, assign=True)
    return model, head


def content_hash(path: Path, memory: Path, verify: bool = False) -> str:
    """sha256 of the weights in a file, or in all weight files of a folder.

    Args:
        path: file or folder.
        memory: a JSON file that remembers hashes by path, inode, size and times of change, so that a file is read
            once. A memory that can't be read or written only costs time.
        verify: read the weights even if their hash is remembered.

    Raises:
        OSError: a file can't be read.
        UserError: a folder without weights.
    """
    files = _weight_files(path)
    stats = [file.stat() for file in files]
    # ctime: a file that was changed in place can be given its old mtime, but not its old ctime
    identity = json.dumps(
        [[str(f), s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for f, s in zip(files, stats, strict=True)]
    )
    hashes = _remembered(memory)
    if verify or not isinstance(hashes.get(identity), str):
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        hashes[identity] = digest.hexdigest()
        with contextlib.suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            part = memory.with_name(f"{memory.name}.{os.getpid()}.part")
            part.write_text(json.dumps(hashes, indent=1), encoding="utf-8")
            os.replace(part, memory)
    return hashes[identity]


def _remembered(memory: Path) -> dict[str, Any]:
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _fetch(hub: str | None, revision: str | None) -> Path:
    if hub is None:
        raise OptionError(
            "weights",
            "random or a path, because this model has no released weights",
            "pretrained",
            "Set {field}=random, or {field}=PATH to weights of your own.",
        )
    if (ASSETS / hub / "model.safetensors").is_file():
        return ASSETS / hub
    return fetch_file(hub, WEIGHT_FILES, revision, beside=("config.json",))


SETTINGS: dict[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
"""The values of a released `config.json` that mean what `gpt.py` computes; all five activations are the tanh form.

Three keys are missing on purpose. `reorder_and_upcast_attn` only says in which order and precision float16 scores are
computed. An untied output layer (`tie_word_embeddings`) changes no hidden state; one that differs is warned of when
it is read. Dropout is for whoever trains to choose.
"""

SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")


def _check_config(config: GPTConfig, path: Path) -> None:
    """Refuse weights whose `config.json` asks for another computation; keys that it leaves out are not checked."""
    if not path.is_dir() and path.suffix not in (".safetensors", ".bin"):  # others are not from transformers
        return
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.exists():
        return
    told = _json_object(file)
    width = told.get("n_embd")
    supported = SETTINGS | {"n_inner": (None, 4 * (width if isinstance(width, int) else config.n_embd))}
    other = {key: values for key, values in supported.items() if key in told and told[key] not in values}
    if other:
        expected = ", ".join(f"{key}={' or '.join(map(json.dumps, values))}" for key, values in other.items())
        found = ", ".join(f"{key}={json.dumps(told[key])}" for key in other)
        raise OptionError(
            "weights",
            f"those of a GPT-2 with {expected}",
            f"{path}, which has {found} in its config.json",
            "No option changes this; set {field} to other weights.",
        )
    _expect_sizes(config, {name: told[name] for name in SIZES if name in told}, str(file))


def _expect_sizes(config: GPTConfig, sizes: dict[str, Any], source: str) -> None:
    other = {name: size for name, size in sizes.items() if size != getattr(config, name)}
    if other:
        raise OptionError(
            "backbone",
            f"{', '.join(f'{name}={size}' for name, size in other.items())} as in {source}",
            ", ".join(f"{name}={getattr(config, name)}" for name in other),
            f"Set {' '.join(f'{{field}}.{name}={size}' for name, size in other.items())}, or choose a model or weights "
            f"of the same size.",
        )


def _json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"It holds a {type(content).__name__}.")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: expected a JSON object, as transformers writes it beside weights, but it can't be read as one. "
            f"It may be truncated; fetch it again. ({first_line(error)})"
        ) from error
    return content


def _read(path: Path) -> tuple[StateDict, StateDict]:
    tensors = read_tensors(path)
    try:
        return _from_book(tensors) if "tok_emb.weight" in tensors else _from_released(tensors)
    except (RuntimeError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


def _weight_files(path: Path) -> list[Path]:
    """The files that hold weights: the first of `WEIGHT_FILES` that a folder has, whole or in parts."""
    if not path.is_dir():
        return [path]
    for name in WEIGHT_FILES:
        if (path / name).is_file():
            return [path / name]
        index = path / f"{name}.index.json"
        if index.is_file():
            places = _json_object(index).get("weight_map")
            if not isinstance(places, dict) or not all(isinstance(part, str) for part in places.values()):
                raise UserError(f"{index}: expected weight_map to give each tensor its file. Fetch the folder again.")
            return [path / Path(part).name for part in sorted(set(places.values()))]
    raise OptionError(
        "weights",
        "a folder with model.safetensors or pytorch_model.bin, or one of them in parts with its .index.json",
        f"{path}, which has neither",
    )


BUFFERS = (".attn.bias", ".attn.masked_bias", ".att.mask", "embeddings.position_ids", "embeddings.token_type_ids")
"""Ends of names of what real files hold beside weights: causal masks, and whole numbers that count positions."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

LARGEST = 1e4
"""No weight of a model that works comes near."""


def read_tensors(path: Path) -> StateDict:
    """All tensors of weights but `BUFFERS`, by the names of the file, in float32.

    Args:
        path: as `load_backbone` takes it.

    Raises:
        UserError: it is no such file or folder, or holds values that are no weights.
    """
    try:
        return dict(_weights(path))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} can't be read as a safetensors file, a state dict of tensors, or a folder with model.safetensors "
        f"or pytorch_model.bin. It may be truncated; fetch it again. ({first_line(error)})"
    )


def _weights(path: Path) -> Iterator[tuple[str, Tensor]]:
    for file in _weight_files(path):
        for name, tensor in _safetensors(file) if file.suffix == ".safetensors" else _state_dict(file):
            if not name.endswith(BUFFERS):
                yield name, _in_float32(tensor.detach(), name, file)


def _in_float32(tensor: Tensor, name: str, file: Path) -> Tensor:
    """Looks at each value once, which takes about 0.1 s/GB where the file is in the page cache."""
    if tensor.dtype not in FLOATS:
        raise UserError(
            f"{file}: expected weights in float32, bfloat16, float16 or float64, but {name} is "
            f"{str(tensor.dtype).removeprefix('torch.')}. Quantized weights can't be read; use the original ones."
        )
    tensor = tensor.float()
    low, high = (float(bound) for bound in tensor.aminmax()) if tensor.numel() else (0.0, 0.0)
    if not (low >= -LARGEST and high <= LARGEST):  # false for nan too
        raise UserError(
            f"{file}: expected weights between {-LARGEST:,.0f} and {LARGEST:,.0f}, but {name} holds "
            f"{low if -low > high else high:g}. The file is damaged, or its training diverged; use another."
        )
    return tensor


def _safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Yields one tensor at a time, mapped from its file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
        for name in names:  # each with a mapping of its own, which goes when the tensor is converted
            with safe_open(file, framework="pt") as tensors:
                yield name, tensors.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _state_dict(file: Path) -> Iterable[tuple[str, Tensor]]:
    torch_files.check(file)
    mapped = zipfile.is_zipfile(file)  # files of torch before 1.6 are not, and are read whole
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("It does not map names to tensors.")
    return state.items()


TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""Released as `Conv1D` weights, `(in, out)`; `nn.Linear` keeps `(out, in)`."""


def _from_released(tensors: StateDict) -> tuple[StateDict, StateDict]:
    state = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    output = state.pop("lm_head.weight", None)
    if output is not None and "wte.weight" in state:
        _warn_if_untied(output, state["wte.weight"])
    # a view: matrix products are as fast on it
    return {name: tensor.t() if name.endswith(TRANSPOSED) else tensor for name, tensor in state.items()}, {}


def _warn_if_untied(output: Tensor, embedding: Tensor) -> None:
    if not torch.equal(output, embedding):
        log.warning(
            "the language-model head of these weights is not their token embedding, as it is in GPT-2: "
            "a classifier does not need it, but generated text will not be the file's"
        )


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
        _warn_if_untied(head["weight"], state["wte.weight"])
        head = {}
    return state, head


def expect_names(expected: StateDict, found: StateDict, path: Path, names: str) -> None:
    """Refuse tensors that are not those of a model.

    Args:
        expected: tensors of the model.
        found: tensors of the file.
        path: of the file.
        names: what the names of `expected` are, in words.

    Raises:
        UserError: some are missing or unknown.
    """
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise UserError(
            f"{path} does not hold this model's weights: of {len(expected)} tensors {len(missing)} are missing (such "
            f"as {', '.join(missing[:2]) or 'none'}) and {len(unknown)} are unknown (such as "
            f"{', '.join(unknown[:2]) or 'none'}). Expected are {names}."
        )


def _check_tensors(config: GPTConfig, model: GPT, state: StateDict, path: Path) -> None:
    _expect_sizes(config, _sizes(state), str(path))
    expected = model.state_dict()
    expect_names(expected, state, path, "the names of the released GPT-2 files or of the book's GPTModel")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise UserError(
                f"{path} is no GPT-2 of width {config.n_embd}, whose MLPs are {4 * config.n_embd} wide: {name} has "
                f"shape {tuple(state[name].shape)} where {tuple(tensor.shape)} was expected. No option changes this; "
                f"use other weights."
            )


def _sizes(state: StateDict) -> dict[str, int]:
    """What shapes and names tell of a model's sizes: all but `n_head`."""
    sizes: dict[str, int] = {}
    for name, size in (("wte.weight", "vocab_size"), ("wpe.weight", "n_positions")):
        if name in state and state[name].dim() == 2:
            sizes |= {size: state[name].shape[0], "n_embd": state[name].shape[1]}
    layers = {int(found[1]) for name in state if (found := re.match(r"h\.(\d+)\.", name))}
    return sizes | ({"n_layer": max(layers) + 1} if layers else {})
