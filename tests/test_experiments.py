"""The runner of experiments: each run is done once, and a table shows the results."""

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from gpt_classifier import experiments, figures
from gpt_classifier.errors import UserError
from gpt_classifier.experiments import Runner, as_frame, chart, find_questions, table

TINY = [
    "model=gpt2-nano",
    "data=sample_sms",
    "data.train_size=64",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.precision=32-true",
    "model.weights=random",
    "model.backbone.n_layer=2",
    "model.backbone.n_embd=48",
]


NAMED_FILES = {
    "data.path": ["data=csv", "data.path={}/messages.csv"],
    "data.val_path": ["data=csv", "data.path=x.csv", "data.val_path={}/messages.csv"],
    "data.test_path": ["data=csv", "data.path=x.csv", "data.test_path={}/messages.csv"],
    "an option of one's own source": ["data=csv", "data.path=x.csv", "+data.source.further=[{}/messages.csv]"],
    "a path with a variable": ["data=csv", "data.path=${{oc.env:FOLDER}}/messages.csv"],
    "model.tokenizer": ["model.tokenizer={}/vocabulary.tiktoken"],
    "model.weights, a file": ["model.weights={}/model.safetensors"],
    "model.weights, a folder": ["model.weights={}"],
}


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The identity of a question whose settings name a folder, written as `{}`."""

    def find(overrides: list[str], folder: Path) -> str:
        monkeypatch.setenv("FOLDER", str(folder))
        return find_questions(["quickstart"], [override.format(folder) for override in overrides])[0].identity

    return find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("messages.csv", "vocabulary.tiktoken", "model.safetensors"):
        (folder / name).write_bytes(b"one")
    return folder


def rewrite(folder: Path) -> None:
    """Other content in every file, of the same size and with the same time of change."""
    for path in folder.iterdir():
        before = path.stat()
        path.write_bytes(b"two")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size


def set_times(folder: Path, seconds: int) -> None:
    for path in folder.iterdir():
        os.utime(path, (seconds, seconds))


@pytest.mark.parametrize("overrides", NAMED_FILES.values(), ids=NAMED_FILES)
def test_moved_files_are_the_same_question_and_changed_ones_another(
    identity: Callable[..., str], folder: Path, tmp_path: Path, overrides: list[str]
) -> None:
    first = identity(overrides, folder)
    moved = folder.rename(tmp_path / "moved")
    set_times(moved, 1)  # as a fresh checkout does
    assert identity(overrides, moved) == first
    rewrite(moved)
    assert identity(overrides, moved) != first


def test_large_files_are_read_once(
    identity: Callable[..., str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "READ_AT_EVERY_START", 0)
    overrides = [*NAMED_FILES["data.path"], *NAMED_FILES["model.weights, a folder"]]
    first = identity(overrides, folder)
    with monkeypatch.context() as patch:
        patch.delattr(hashlib, "file_digest")  # what reads a file
        assert identity(overrides, folder) == first
    rewrite(folder)  # with the size and the times that it had
    changed = identity(overrides, folder)
    assert changed != first
    assert identity(overrides, folder.rename(tmp_path / "moved")) == changed


def test_identity_of_bundled_weights_is_their_content(
    identity: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "ASSETS", folder.parent)
    bundled = ["model=gpt2-nano", "model.hub=folder"]
    first = identity(bundled, folder)
    set_times(folder, 1)
    assert identity(bundled, folder) == first
    rewrite(folder)
    assert identity(bundled, folder) != first


def test_settings_are_part_of_the_identity_but_the_seed_is_not() -> None:
    def identity(*overrides: str) -> str:
        return find_questions(["quickstart"], overrides)[0].identity

    assert identity("seed=1") == identity("seed=2") == identity("+question.asks=the same in other words")
    assert identity("optimizer.lr=1") != identity("optimizer.lr=2")
    assert identity("data.text_column=no/such/file", "data=csv") != identity("data=csv")


def test_question_without_words_is_called_by_its_experiment() -> None:
    (question,) = find_questions(["quickstart"])
    assert (question.row, question.asks, question.published) == ("quickstart", "quickstart", None)


def test_a_run_makes_a_row_and_equal_rows_share_it(tmp_path: Path) -> None:
    said: list[str] = []
    runner = Runner([sys.executable, "-m", "gpt_classifier", "train"], tmp_path / "run s", said.append)
    setting, again, other = find_questions(["book/01_setting", "book/18_ignore_index", "book/06_medium"], TINY)
    questions = [setting, again, replace(other, not_run="too large")]
    answers, failures = runner.answer(questions, [1])
    assert not failures
    assert [answer.question.row for answer in answers] == ["book/01_setting", "book/18_ignore_index"]
    assert answers[0].accuracies == answers[1].accuracies
    assert len([line for line in said if line.startswith("[")]) == 1
    assert not list((tmp_path / "run s").rglob("last.ckpt"))

    rows = [line.split(" | ") for line in table(questions, answers).splitlines()]
    assert rows[2][4] == f"{100 * answers[0].accuracies['test'][0]:.2f}"
    assert rows[2][5] == "95.00"
    assert rows[4][2] == "too large"
    assert as_frame(answers)["trained_parameters"][0] > 0
    chart(answers, "tiny", tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 10_000


FAKE = (
    "import sys\n"
    "if 'seed=1' in sys.argv:\n"
    "    sys.exit('no such file: messages.csv\\n\\nSet the environment variable HYDRA_FULL_ERROR=1')\n"
    "import json, pathlib\n"
    "folder = pathlib.Path(sys.argv[-1].split('=', 1)[1].strip(\"'\"))\n"
    "last = {split: {'accuracy': 0.6 if 'seed=3' in sys.argv else 0.5} for split in ('train', 'val', 'test')}\n"
    "run = {'last': last, 'seconds': {'run': 1.0}, 'parameters': {'trained': 3}, 'peak_memory_gb': None}\n"
    "if 'evaluate=final' in sys.argv:\n"
    "    best = {split: {'accuracy': 0.75} for split in ('val', 'test')}\n"
    "    run = {**run, 'last': best, 'best': best}\n"
    "(folder / 'metrics.json').write_text(json.dumps({**run, 'note': 'words, C=1'}))\n"
)
"""A command that takes the place of a run, fails with seed 1 and is better with seed 3."""


@pytest.fixture
def fake(tmp_path: Path) -> Runner:
    (tmp_path / "fake.py").write_text(FAKE)
    return Runner([sys.executable, str(tmp_path / "fake.py")], tmp_path / "runs", lambda line: None)


def test_runs_are_done_once_and_those_that_were_interrupted_again(tmp_path: Path) -> None:
    (tmp_path / "fake.py").write_text(FAKE)
    said: list[str] = []
    runner = Runner([sys.executable, str(tmp_path / "fake.py")], tmp_path / "run s", said.append)
    questions = find_questions(["book/01_setting", "book/18_ignore_index"])
    answers, failures = runner.answer(questions, [2, 3])
    assert not failures
    assert len([line for line in said if line.startswith("[")]) == 2  # two seeds, shared by two equal rows

    interrupted = next((tmp_path / "run s").glob("*/seed3/done"))
    interrupted.unlink()
    (interrupted.parent / "left-over").touch()
    said.clear()
    repeated, _ = runner.answer(questions, [2, 3])
    assert [answer.accuracies for answer in repeated] == [answer.accuracies for answer in answers]
    assert not (interrupted.parent / "left-over").exists()
    assert said[0].startswith("1 of 2 runs are already in")
    assert len([line for line in said if line.startswith("[")]) == 1
    test = answers[0].accuracies["test"]
    assert test[0] != test[1]
    assert f"{50 * sum(test):.2f} ± " in table(questions, answers)
    assert as_frame(answers)["test_mean"][0] == pytest.approx(sum(test) / 2)


def test_a_run_that_fails_is_reported_and_the_others_go_on(fake: Runner) -> None:
    answers, failures = fake.answer(find_questions(["book/01_setting"]), [1, 2])
    assert len(failures) == 1
    assert "row book/01_setting, seed 1" in failures[0]
    assert "no such file: messages.csv" in failures[0]
    assert answers[0].accuracies["test"] == [0.5]
    assert isinstance(as_frame(answers), pd.DataFrame)


def test_a_question_may_be_about_the_best_weights(
    tmp_path: Path, fake: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (last,) = find_questions(["mine"], config_dir=with_question(tmp_path, "{asks: it}"))
    with_question(tmp_path / "other", "{asks: it, weights: best}")
    (best,) = find_questions(["mine"], config_dir=tmp_path / "other")
    assert best.identity != last.identity  # they measure other splits
    answers, _ = fake.answer([best], [2])
    assert answers[0].accuracies == {"val": [0.75], "test": [0.75]}
    assert table([best], answers).splitlines()[2].startswith("| mine | it |  | 75.00 | 75.00 |")
    assert as_frame(answers)["test_mean"].tolist() == [0.75]
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure.axes[0].get_xlabel()))
    drawn: list[str] = []
    chart(answers, "tiny", tmp_path / "chart.png")
    assert "(best weights;" in drawn[0]
    linear = [
        find_questions(["mine"], ["procedure=baseline"], config_dir=folder)[0]
        for folder in (tmp_path / "other", tmp_path)
    ]
    answers, _ = fake.answer(linear, [2])
    assert [set(answer.accuracies) for answer in answers] == [{"val", "test"}, {"train", "val", "test"}]
    with pytest.raises(UserError, match=r"mine: question\.weights"):
        find_questions(["mine"], config_dir=with_question(tmp_path / "third", "{weights: first}"))


def test_one_command_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    runner = Runner([sys.executable, "-c", "exit(1)"], tmp_path, lambda line: None)
    questions = find_questions(["book/01_setting"])
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(UserError, match="folder: expected a folder that no other command is using"),
    ):
        runner.answer(questions, [1])
    _, failures = runner.answer(questions, [1])
    assert "failed with status 1" in failures[0]


def with_question(tmp_path: Path, question: str) -> Path:
    """A folder with an experiment of one's own."""
    (tmp_path / "experiment").mkdir(parents=True)
    text = f"# @package _global_\ndefaults: [/experiment/quickstart]\nquestion: {question}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    return tmp_path


def test_an_experiment_may_ask_about_each_of_several_values(tmp_path: Path) -> None:
    folder = with_question(tmp_path, "{asks: how much, each: {seed: [1], data.train_size: [64, 128]}}")
    questions = find_questions(["mine"], config_dir=folder)
    assert [question.row for question in questions] == [
        "mine seed=1 data.train_size=64",
        "mine seed=1 data.train_size=128",
    ]
    assert questions[1].overrides == ("experiment=mine", "seed=1", "data.train_size=128")
    (given,) = find_questions(["mine"], ["data.train_size=70"], config_dir=folder)
    assert given.overrides == ("experiment=mine", "seed=1", "data.train_size=70")


@pytest.mark.parametrize("each", ["[1, 2]", "{seed: 1}", "{seed: []}"])
def test_values_to_ask_about_are_lists(tmp_path: Path, each: str) -> None:
    with pytest.raises(UserError, match=r"mine: question\.each: expected options, each with a list of values"):
        find_questions(["mine"], config_dir=with_question(tmp_path, f"{{each: {each}}}"))


def test_a_linear_row_is_run_once_and_says_what_was_chosen(tmp_path: Path, fake: Runner) -> None:
    folder = with_question(tmp_path, "{asks: words, note: a note}")
    questions = find_questions(["mine"], ["procedure=baseline"], config_dir=folder)
    answers, failures = fake.answer(questions, [2, 1, 3])
    assert not failures
    assert answers[0].seconds == [1.0]
    head, _, row = table(questions, answers).splitlines()
    assert head.endswith("| peak memory, GB | notes |")
    assert row.endswith("| a note; words, C=1 |")
    assert as_frame(answers)["notes"].tolist() == ["a note; words, C=1"]


def test_a_table_without_notes_has_no_column_for_them() -> None:
    assert "notes" not in table(find_questions(["quickstart"]), [])
