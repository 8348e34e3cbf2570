"""What all tests share: a run of the real command in this process, and the real data where it is at hand."""

import gc
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hydra._internal.hydra import Hydra
from matplotlib.figure import Figure
from safetensors.torch import save_file

from gpt_classifier import figures
from gpt_classifier.models.gpt import GPT
from gpt_classifier.models.weights import TRANSPOSED

ROOT = Path(__file__).resolve().parents[1]

# Progress is for people; the tests' processes share two cores.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
torch.set_num_threads(1)  # models are tiny, and two threads wait for each other on a busy machine
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported


def pytest_collection_finish() -> None:
    """The garbage collector looks neither through what was imported nor often, which took a fifth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 50)


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPT_CLASSIFIER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def same_random_state() -> None:
    torch.manual_seed(0)


def blank(*_: object, **__: object) -> Figure:
    """An empty picture in place of one of `figures`."""
    return Figure(figsize=(1, 1))


BLANK = SimpleNamespace(**{**vars(figures), "curves": blank, "confusion_matrix": blank, "precision_recall": blank})
"""`figures` for runs whose pictures nobody looks at."""


@pytest.fixture(autouse=True)
def blank_pictures_of_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs leave empty pictures, unless a test has the mark `pictures`: seven took half of a short run's time."""
    report = sys.modules.get("gpt_classifier.training.report")  # or no run was imported, which tests of others need not
    if report is not None and request.node.get_closest_marker("pictures") is None:
        monkeypatch.setattr(report, "figures", BLANK)


@pytest.fixture(autouse=True)
def one_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands compose once: Hydra would compose before, to see whether a file sets `hydra.mode`, which none does."""
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)


@pytest.fixture(autouse=True)
def no_handlers_of_earlier_runs() -> Iterator[None]:
    """Hydra's handlers write to the standard output of the test that they were made in, which is closed afterwards."""
    yield
    for handler in logging.root.handlers[:]:
        if type(handler) in (logging.StreamHandler, logging.FileHandler):
            logging.root.removeHandler(handler)


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


def book_state(ours: dict[str, torch.Tensor], out_head: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a GPT in the naming of the book's GPTModel, its masks among them."""
    names = {"wte.weight": "tok_emb.weight", "wpe.weight": "pos_emb.weight"}
    names |= {"ln_f.weight": "final_norm.scale", "ln_f.bias": "final_norm.shift"}
    state = {book: ours[name] for name, book in names.items()}
    state |= {f"out_head.{name}": tensor for name, tensor in out_head.items()}
    for i in range(sum(name.endswith("ln_1.bias") for name in ours)):
        layer, block = f"h.{i}.", f"trf_blocks.{i}."
        for what in ("weight", "bias"):
            parts = ours[f"{layer}attn.c_attn.{what}"].chunk(3)
            for name, part in zip(("W_query", "W_key", "W_value"), parts, strict=True):
                state[f"{block}att.{name}.{what}"] = part.contiguous()
            linear = {"att.out_proj": "attn.c_proj", "ff.layers.0": "mlp.c_fc", "ff.layers.2": "mlp.c_proj"}
            for book, name in linear.items():
                state[f"{block}{book}.{what}"] = ours[f"{layer}{name}.{what}"].contiguous()
        for number in (1, 2):
            state[f"{block}norm{number}.scale"] = ours[f"{layer}ln_{number}.weight"]
            state[f"{block}norm{number}.shift"] = ours[f"{layer}ln_{number}.bias"]
        state[f"{block}att.mask"] = torch.triu(torch.ones(8, 8), diagonal=1)
    return state


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
    "recipe=book",
    "scheduler=cosine",
    "optimizer.lr=1e-3",
    "trainer=cpu",
    "evaluate=all",
    "trainer.max_epochs=2",
    "trainer.precision=32-true",
    "data.train_size=64",
    "model.weights=random",
    "model.backbone.n_layer=2",
    "model.backbone.n_embd=48",
]
"""Overrides that make a run of seconds, measured before, after and at its best."""


def run_train(patch: pytest.MonkeyPatch, folder: Path, base: Sequence[str], overrides: Sequence[str]) -> Run:
    """Runs the real `train.py` in this process."""
    from gpt_classifier.commands.train import main

    patch.setattr(sys, "argv", ["train.py", *base, f"hydra.run.dir={folder}", *overrides])
    main()
    return Run(folder)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Run]:
    """Runs the real `train.py` with overrides, in this process, quickly: `train("seed=1") -> Run`."""

    def run(*overrides: str, folder: str = "run", base: list[str] = SMALL) -> Run:
        return run_train(monkeypatch, tmp_path / folder, base, overrides)

    return run


@pytest.fixture(scope="session")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that no test changes."""
    place = tmp_path_factory.mktemp("one_epoch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT_CLASSIFIER_CACHE", str(place / "cache"))
        return run_train(patch, place / "run", SMALL, ["trainer.max_epochs=1"]).folder


@pytest.fixture
def short_run(one_epoch: Path, tmp_path: Path) -> Run:
    """A run of one epoch, as `train("trainer.max_epochs=1")` leaves it, without training again."""
    return Run(shutil.copytree(one_epoch, tmp_path / "run"))
