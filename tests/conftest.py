"""What all tests share: a run of the real command in this process, and the real data where it is at hand."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from gpt_classifier.model.gpt import GPT
from gpt_classifier.model.pretrained import TRANSPOSED

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # train.py and scripts/

# Progress is for people; the tests' processes share two cores.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
torch.set_num_threads(1)  # models are tiny, and two threads wait for each other on a busy machine
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPT_CLASSIFIER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def same_random_state() -> None:
    torch.manual_seed(0)


def from_environment(variable: str) -> Path:
    """The path in an environment variable, or a skipped test that says which one is not set."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    return Path(value)


@pytest.fixture
def sms_file() -> Path:
    """The real SMS Spam Collection, unpacked."""
    return from_environment("GPT_CLASSIFIER_SMS_FILE")


@pytest.fixture
def sms_zip() -> Path:
    """The real SMS Spam Collection as a zip archive."""
    return from_environment("GPT_CLASSIFIER_SMS_ZIP")


@pytest.fixture
def gpt2_vocabulary() -> None:
    """tiktoken's GPT-2 files, in the folder that tiktoken's own variable names."""
    from_environment("TIKTOKEN_CACHE_DIR")


def save_as_released(model: GPT, folder: Path) -> Path:
    """A folder of weights as they are on the Hugging Face Hub."""
    folder.mkdir()
    tensors = {
        name: (tensor.t() if name.endswith(TRANSPOSED) else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


class Run:
    """The folder that `python train.py` left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def metrics(self) -> dict:
        return json.loads((self.folder / "metrics.json").read_text())

    def texts(self, split: str) -> list[str]:
        return pd.read_csv(self.folder / "splits" / f"{split}.csv", keep_default_na=False)["text"].tolist()

    def labels(self, split: str) -> list[str]:
        return pd.read_csv(self.folder / "splits" / f"{split}.csv", dtype=str)["label"].tolist()

    def checkpoint(self, name: str = "best") -> dict:
        return torch.load(self.folder / "checkpoints" / f"{name}.ckpt", map_location="cpu", weights_only=True)


SMALL = [
    "experiment=quickstart",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.precision=32-true",
    "data.train_size=64",
    "model.weights=random",
    "model.backbone.n_layer=2",
    "model.backbone.n_embd=48",
]
"""Overrides that make a training of seconds."""


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Run]:
    """Runs the real `train.py` with overrides, in this process, quickly: `train("seed=1") -> Run`."""
    from train import main

    def run(*overrides: str, folder: str = "run") -> Run:
        monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, f"hydra.run.dir={tmp_path / folder}", *overrides])
        main()
        return Run(tmp_path / folder)

    return run
