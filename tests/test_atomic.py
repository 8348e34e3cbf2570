"""A full disk costs nothing but the file that was to be written."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run
from matplotlib.figure import Figure
from test_artifact import made, saved_checkpoint

from gpt_classifier import figures, torch_files
from gpt_classifier.artifact import save_bundle, store_temperature
from gpt_classifier.atomic import replacing, write_json
from gpt_classifier.errors import UserError


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Inside, the system refuses to let a file grow beyond a number of bytes, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def picture() -> Figure:
    figure = Figure()
    figure.subplots().imshow(np.random.default_rng(0).random((50, 50)))
    return figure


WRITERS: dict[str, Callable[[Path], Any]] = {
    "metrics.json": lambda path: write_json(path, list(range(10_000))),
    "loss.png": lambda path: figures.save(picture(), path),
    "last.ckpt": lambda path: torch_files.save({"w": torch.zeros(100_000)}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_there_stays_and_nothing_else_is_left(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    before = path.read_bytes()
    with no_file_larger_than(4096), pytest.raises(UserError, match=rf"{name} can't be written: File too large\."):
        WRITERS[name](path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_bundle_that_can_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    spec, model = made()
    save_bundle(tmp_path / "saved", spec, model)
    before = {path: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    with no_file_larger_than(4096), pytest.raises(UserError, match="saved can't be written: "):
        save_bundle(tmp_path / "saved", spec, model)
    assert {path: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert list(tmp_path.iterdir()) == [tmp_path / "saved"]


def test_temperature_that_can_not_be_stored_leaves_the_checkpoint(tmp_path: Path) -> None:
    path = saved_checkpoint(tmp_path)
    before = path.read_bytes()
    with no_file_larger_than(4096), pytest.raises(UserError, match=r"best\.ckpt can't be written: File too large"):
        store_temperature(path, 2.0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("size", "place"),
    [(2**11, "\nFile too large. Make room"), (2**14, "best.ckpt can't be written: File too large.")],
    ids=["its options", "its checkpoint"],
)
def test_run_on_a_full_disk_ends_with_a_paragraph(
    train: Callable[..., Run], capfd: pytest.CaptureFixture, size: int, place: str
) -> None:
    with no_file_larger_than(size), pytest.raises(SystemExit) as stopped:
        train("evaluate=val", "cache.dir=null")
    assert stopped.value.code == 1
    told = capfd.readouterr().err
    assert place in told
    assert "Traceback" not in told


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with replacing(tmp_path / "there" / "table.csv") as part:
            part.write_text("half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list((tmp_path / "there").iterdir())
