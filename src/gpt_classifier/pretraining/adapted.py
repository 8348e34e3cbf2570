"""Adapted weights as files: found again by what they were made from, and as a folder that `model.weights` takes."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gpt_classifier.activations.cache_folder import GB, SHARD, make_room, read_header
from gpt_classifier.atomic import replacing, write_json, write_text
from gpt_classifier.models.gpt import GPTConfig
from gpt_classifier.pretraining.export import released, released_config

LIMIT = 10 * GB  # of all adapted weights that are kept for later runs
FILE = f"model{SHARD}"
FACTS = "adaptation"  # of the file's metadata


@dataclass(frozen=True)
class Facts:
    """What is known of adapted weights, kept in their file.

    Args:
        key: the hash of what they were made from.
        texts: that they learned from.
        held_out: texts that said when to stop.
        before: loss of these with the weights as they were, in nats per token.
        after: with the adapted weights.
        passes: over the texts; 0 where none made held-out texts likelier, and the weights are as they were.
    """

    key: str
    texts: int
    held_out: int
    before: float
    after: float
    passes: float

    def told(self) -> str:
        """In a sentence."""
        if not self.passes:
            return f"no pass made held-out texts likelier than {self.before:.3f} nats per token: weights as they were"
        return f"held-out loss {self.before:.3f} → {self.after:.3f} nats per token after {self.passes:.4g} passes"


def facts_of(file: Path, key: str) -> Facts | None:
    """What is known of the weights in a file; `None` if it is not there, not whole, or made from something else."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError), file.open("rb") as opened:
        facts = Facts(**json.loads(read_header(opened)[0][FACTS]))
        return facts if facts.key == key else None
    return None


def save_weights(file: Path, state: Mapping[str, Tensor], facts: Facts) -> None:
    """Write weights under the released names; the least recently used ones of other texts make room.

    Args:
        file: in a folder of its own in the directory of adapted weights.
        state: under the names of `gpt.py`; what bfloat16 holds exactly is stored in it, other weights in float32.
        facts: of them.

    Raises:
        UserError: it can't be written.
    """
    tensors = released({name: tensor.detach().cpu() for name, tensor in state.items()})
    if all(torch.equal(tensor.bfloat16().to(tensor.dtype), tensor) for tensor in tensors.values()):
        tensors = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    make_room(file.parent.parent, sum(tensor.nbytes for tensor in tensors.values()), LIMIT, in_use=())
    with replacing(file) as part:
        save_file(tensors, part, {"format": "pt", FACTS: json.dumps(vars(facts))})


def write_folder(folder: Path, file: Path, config: GPTConfig, vocabulary: str | None, base: str, facts: Facts) -> None:
    """A folder that `model.weights` takes, and transformers too; it does not need the file that it is made from.

    Args:
        folder: is made; files of the same names are replaced.
        file: of weights, hard-linked where that is possible.
        config: sizes.
        vocabulary: ranks as `ranks_to_text` writes them; `None` for GPT-2's own.
        base: which weights were adapted, in words.
        facts: of the adapted ones.

    Raises:
        UserError: it can't be written.
    """
    with file.open("rb") as opened:
        dtype = "bfloat16" if all(t.dtype == "BF16" for t in read_header(opened)[1].values()) else "float32"
    write_json(folder / "config.json", released_config(config, dtype))
    if vocabulary is not None:
        write_text(folder / "vocabulary.tiktoken", vocabulary)
    write_text(folder / "README.md", _card(base, facts))
    with replacing(folder / FILE) as part:  # last: without it the folder is refused
        _link(file, part)


def _link(file: Path, place: Path) -> None:
    with contextlib.suppress(OSError):
        place.unlink(missing_ok=True)
        os.link(file, place)
        return
    shutil.copyfile(file, place)


def _card(base: str, facts: Facts) -> str:
    return f"""# Adapted weights

{base}, which went on predicting next tokens on {facts.texts:,} texts, without their labels.

| | |
|---|---|
| texts learned from | {facts.texts:,} |
| texts held out | {facts.held_out:,} |
| passes | {facts.passes:.4g} |
| held-out loss before | {facts.before:.3f} nats per token |
| held-out loss after | {facts.after:.3f} nats per token |

What is in the texts, the weights may repeat: share them with no one who may not read the texts.
"""


def plain(facts: Facts) -> dict[str, Any]:
    """As metrics.json has them."""
    return {name: value for name, value in vars(facts).items() if name != "key"}
