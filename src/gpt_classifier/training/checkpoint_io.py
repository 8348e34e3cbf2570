"""How checkpoints are written."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO

from gpt_classifier import torch_files


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes files that are whole or not there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        torch_files.save(checkpoint, Path(path))
