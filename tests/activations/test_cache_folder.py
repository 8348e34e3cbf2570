"""Listing and clearing the cache, which must be quick."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpt_classifier.commands.cache import main
from gpt_classifier.config import compose
from gpt_classifier.paths import activations_folder, cache_folder

KEY = '{"backbone": {"family": "gpt2", "n_layer": 12}, "width": 768, "depth": 11, "dtype": "bfloat16"}'


def shard(folder: Path, messages: int = 3) -> Path:
    folder.mkdir(parents=True)
    path = folder / "a.safetensors"
    save_file({"lengths": torch.ones(messages, dtype=torch.int64)}, path, {"key": KEY})
    return path


def test_listing_needs_neither_torch_nor_hydra(tmp_path: Path) -> None:
    shard(tmp_path / ("0" * 32))
    code = (
        "import sys; from gpt_classifier.commands import main; "
        f"main(['cache', '--dir', {str(tmp_path)!r}]); "
        "assert not {'torch', 'hydra', 'omegaconf', 'numpy', 'safetensors'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "3 messages, gpt2, depth 11, width 768, bfloat16" in done.stdout


def test_what_no_shard_describes_is_listed_and_cleared_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / ("0" * 32)).mkdir()
    (tmp_path / ("1" * 32)).mkdir()
    (tmp_path / ("1" * 32) / "a.safetensors").write_bytes(b"damaged")
    (tmp_path / "notes.txt").write_text("the user's")
    main(["--dir", str(tmp_path)])
    assert capsys.readouterr().out.count("unknown") == 2
    main(["--dir", str(tmp_path), "--clear"])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_without_a_directory_it_lists_that_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for variable, expected in (("", tmp_path / ".cache" / "gpt-classifier"), ("~/here", tmp_path / "here")):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("GPT_CLASSIFIER_CACHE", variable)
        assert cache_folder() == expected
        assert compose([]).cache_dir == str(expected)
        assert compose([]).cache.dir == str(activations_folder())
        shard(activations_folder() / ("0" * 32))
        main([])
        assert f"in {activations_folder()}" in capsys.readouterr().out.splitlines()[-1]


def test_an_unreadable_directory_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("gpt_classifier.commands.cache.list_cache", refused)
    with pytest.raises(SystemExit, match="Permission denied"):
        main(["--dir", str(tmp_path)])
