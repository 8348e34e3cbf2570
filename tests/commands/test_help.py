"""What `--help` of train, pretrain and search says, and how quickly."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_classifier.commands.application import run_hydra
from gpt_classifier.commands.help import APPLICATIONS, commented, files_of, page
from gpt_classifier.config import NOT_CHOSEN, compose, conf_folder
from gpt_classifier.errors import UserError

NAMES = ("config", "adapt", "crossfit", "pretrain", "search")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_and_nothing_runs(name: str, flag: str, capsys: pytest.CaptureFixture) -> None:
    run_hydra(lambda cfg: pytest.fail("it ran"), name, ["seed=1", flag])
    told = capsys.readouterr().out
    assert "Groups and their files" in told
    assert "Hydra" not in told


def test_help_whose_reader_has_read_enough_ends_without_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gpt_classifier", "search", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("name", NAMES)
def test_every_file_and_every_group_has_its_line(name: str) -> None:
    text = page(name)
    known = commented(conf_folder() / f"{name}.yaml")
    groups = [key.removeprefix("defaults.") for key in known if key.startswith("defaults.")]
    for line in (conf_folder() / f"{name}.yaml").read_text().splitlines():
        if line.startswith("  - ") and "_self_" not in line:
            assert "#" in line, f"{line} has no comment for --help"
    for group in groups:
        assert re.search(rf"^  {group} +\w", text, re.MULTILINE)
        for file, what in files_of(group.partition("@")[0]).items():
            assert what, f"conf/{group}/{file}.yaml begins with no comment"
            assert file.rpartition("/")[2] in text


@pytest.mark.parametrize("name", NAMES)
def test_nothing_internal_is_offered(name: str) -> None:
    text = page(name)
    assert not re.search(rf"^ +\*? +({'|'.join(NOT_CHOSEN)}) ", text, re.MULTILINE)
    assert "_target_" not in text
    assert "${" not in text


@pytest.mark.parametrize("name", NAMES)
def test_examples_and_keys_exist(name: str) -> None:
    for example in APPLICATIONS[name].examples:
        parts = shlex.split(example)
        compose([part.split(",")[0] if "-m" in parts else part for part in parts if part != "-m"], name)
    text = page(name)
    cfg = compose(["data=csv"] if name == "config" else [], name)
    for key in (key for keys in APPLICATIONS[name].keys.values() for key in keys):
        assert re.search(rf"^  {re.escape(key)} +\w", text, re.MULTILINE)
        node = cfg
        for part in key.split("."):
            assert part in list(node), key
            node = node._get_node(part)


def test_defaults_are_those_of_the_files() -> None:
    text = " ".join(page("config").split())
    assert "seed head, order of batches, dropout, random weights; the split has its own" in text
    assert "data.split_seed (default: 123)" in text
    assert "* gpt2-small 124M parameters" in text
    assert "trainer.max_epochs passes over the training messages (default: the recipe's)" in text


def test_files_of_a_folder_of_ones_own_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "freeze").mkdir()
    (tmp_path / "freeze" / "mine.yaml").write_text("# Train what I like.\n_target_: x\n")
    run_hydra(lambda cfg: None, "config", ["--config-dir", str(tmp_path), "--help"])
    assert re.search(r"^ +mine +Train what I like\.$", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(SystemExit, match="expected a folder"):
        run_hydra(lambda cfg: None, "config", ["--config-dir=nowhere", "--help"])
    with pytest.raises(UserError):
        page("config", tmp_path / "nowhere")


@pytest.mark.parametrize("command", ["train", "adapt", "crossfit", "pretrain", "search"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        f"import sys; from gpt_classifier.commands import main; main(['{command}', '--help']); "
        "print([name for name in ('torch', 'lightning', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("\n[]\n")
