"""What prediction needs beside weights, as a file of plain values: read without torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpt_classifier.atomic import write_text
from gpt_classifier.tokenizers import load_tokenizer

FORMAT = 4
SPEC_FILE = "classifier.json"
ONNX_FILE = "model.onnx"  # beside it, in an export to ONNX


@dataclass(frozen=True)
class Base:
    """The file that frozen weights come from, so that a checkpoint need not repeat them.

    Args:
        path: file or folder, absolute.
        hub: repository on the Hugging Face Hub that it was fetched from, if it was.
        sha256: of its content, see `gpt_classifier.models.weights.content_hash`.
        revision: commit, tag or branch of `hub`; `None` is its main branch.
    """

    path: str
    hub: str | None
    sha256: str
    revision: str | None = None


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
        ngrams: what is counted by the linear model beside it, see `ngrams.NGrams.state`, if there is one.
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
    ngrams: dict[str, Any] | None = None

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


def pooling_text(state: Mapping[str, Any]) -> str:
    """A pooling, as `Spec` keeps it, in one line, such as `windows inner=max size=256 overlap=64`."""
    return " ".join([state["name"], *(f"{option}={value}" for option, value in state["options"].items())])


def sha256_of(path: Path) -> str:
    """The SHA-256 of a checkpoint's file, or of a folder's spec and weights, in hexadecimal: it takes about 1 s/GB."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else [path / SPEC_FILE, *sorted(path.glob("model.*"))]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def write_spec(folder: Path, values: Mapping[str, Any], weights: Sequence[Path]) -> None:
    """Write `SPEC_FILE` with a checksum.

    Args:
        folder: where to.
        values: plain ones, those of `Spec.plain` among them.
        weights: the files that are part of the checksum, in this order.

    Raises:
        UserError: it can't be written.
    """
    checked = {**values, "checksum": _checksum(values, weights)}
    write_text(folder / SPEC_FILE, json.dumps(checked, ensure_ascii=False, indent=1) + "\n")


def read_spec(folder: Path, weights: Sequence[Path]) -> tuple[dict[str, Any], bool]:
    """The values that `write_spec` wrote.

    Args:
        folder: where from.
        weights: as it was given them.

    Returns:
        The values without the checksum, and whether there was one, as older versions wrote none.

    Raises:
        OSError, ValueError: they are not there, damaged or changed.
    """
    values = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    stored = values.pop("checksum", None)
    if stored is not None and stored != _checksum(values, weights):
        raise ValueError("it is damaged, or was changed by hand: its checksum is another one")
    return values, stored is not None


def _checksum(values: Mapping[str, Any], weights: Sequence[Path]) -> str:
    """Of the values and the files of weights: reading takes about 1 s/GB."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in weights:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
