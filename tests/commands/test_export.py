"""The command export: what it writes, and what it refuses before it begins."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from gpt_classifier import TextClassifier
from gpt_classifier.assets import ASSETS
from gpt_classifier.commands import export as module
from gpt_classifier.commands import main as command

TEXTS = ["WINNER!! Call now to claim your prize", "See you at five"]


def test_bundle_opens_where_the_weights_that_it_was_trained_on_have_moved(
    train: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pretrained, moved = tmp_path / "pretrained", tmp_path / "moved"
    shutil.copytree(ASSETS / "gpt2-nano", pretrained)
    sizes = ("model.backbone.n_layer=6", "model.backbone.n_embd=192", f"model.weights={pretrained}")
    train(*sizes, "freeze=lora", "data.train_size=16", "trainer.max_epochs=1", "evaluate=final")
    checkpoint = str(tmp_path / "run")
    expected = TextClassifier.load(checkpoint, precision="32-true").predict_proba(TEXTS)
    pretrained.rename(moved)
    out = tmp_path / "new" / "bundle"
    arguments = [
        "export",
        "--checkpoint",
        checkpoint,
        "--weights",
        str(moved),
        "--to",
        "bundle",
        "--out",
        str(out),
    ]
    command(arguments)
    assert f'TextClassifier.load("{out}")' in capsys.readouterr().out
    found = TextClassifier.load(out, precision="32-true").predict_proba(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(SystemExit, match="expected a folder that is new or empty"):
        command(arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--to", "hf", "--out", "x", "--int8"], "--int8 is for --to onnx, not for --to hf"),
        (["--to", "onnx", "--out", "x", "--license", "mit"], "--license is for --to hf, not for --to onnx"),
        (["--to", "html", "--out", "x", "--push", "me/x"], "--push is for --to hf, not for --to html"),
        (["--to", "hf", "--out", "x", "--public"], "--public says how to --push NAME"),
        (["--to", "pdf", "--out", "x"], "invalid choice: 'pdf'"),
        (["--to", "hf"], "the following arguments are required: --out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        command(["export", *arguments])
    assert expected in capsys.readouterr().err


def test_no_checkpoint_and_a_folder_in_use_are_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Train one first"):
        command(["export", "--outputs", str(tmp_path), "--to", "hf", "--out", str(tmp_path / "out")])
    (tmp_path / "a.ckpt").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for name in ("mine", "a.ckpt"):
        with pytest.raises(SystemExit, match="--out: expected a folder that is new or empty"):
            command(["export", "--checkpoint", str(tmp_path / "a.ckpt"), "--to", "hf", "--out", str(tmp_path / name)])
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_library(name: str) -> None:
        raise ImportError("No module named 'onnxruntime'")

    monkeypatch.setattr(module.importlib, "import_module", no_library)
    with pytest.raises(module.UserError, match=r"--to onnx needs the extra onnx: pip install -e \"\.\[onnx\]\""):
        module.write(None, "onnx", tmp_path, {})


def test_default_of_own_data_is_refused_with_what_to_train_with(train: Callable[..., Run], tmp_path: Path) -> None:
    train("recipe=own", "trainer.max_epochs=1")
    out = tmp_path / "out"
    wanted = r"Train with pooling=last_token bag_of_tokens=false data\.truncate=head for it"
    with pytest.raises(SystemExit, match=wanted):
        command(["export", "--checkpoint", str(tmp_path / "run"), "--to", "hf", "--out", str(out)])
    assert not out.exists()
