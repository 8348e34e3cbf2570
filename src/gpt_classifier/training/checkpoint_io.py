"""How checkpoints are written."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a file is whole or not there, and is not held in memory meanwhile."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        try:
            torch.save(checkpoint, part)
            os.replace(part, path)
        except BaseException:  # an interruption too leaves nothing behind
            part.unlink(missing_ok=True)
            raise
