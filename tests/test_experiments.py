"""Questions and their table: every row means what the published one means, and is trained once."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from gpt_classifier.config import compose
from gpt_classifier.errors import UserError
from gpt_classifier.experiments import NOT_APPLICABLE, Runner, as_frame, chart, find_questions, table

TINY = [
    "data=sample_sms",
    "data.train_size=64",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.precision=32-true",
    "model.weights=random",
    "model.backbone.n_layer=2",
    "model.backbone.n_embd=48",
]


def test_rows_are_the_published_ones() -> None:
    questions = {question.number: question for question in find_questions("all", None, [])}
    assert list(questions) == [str(number) for number in range(1, 20)]
    published = [95.0, 75.0, 72.0, 98.33, 96.67, 84.67, 96.67, 98.33, 98.67, 93.67]
    published += [96.67, 98.33, 78.33, 98.0, 98.33, 98.33, 95.33, 95.0, 96.33]
    assert [question.published for question in questions.values()] == published
    assert questions["18"].identity == questions["1"].identity  # its script never reads the flag
    others = [question.identity for number, question in questions.items() if number != "18"]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("01_setting", {"data.pad_to": "train", "data.split_shuffles": 2, "optimizer.lr": 5e-5, "freeze.n": 1}),
        ("09_xl_all_layers", {"model.backbone.n_embd": 1600, "freeze.n": None}),
        ("12_xl_lora", {"model.backbone.n_layer": 48, "freeze.alpha": 8, "freeze.scaling": "alpha"}),
        ("13_padded_to_context", {"data.pad_to": "context"}),
        ("15_no_padding_accumulated", {"data.batch_size": 1, "trainer.accumulate_grad_batches": 8}),
        ("17_no_causal_mask", {"model.causal": False, "trainer.precision": "32-true"}),
        ("appendix_e", {"freeze.train_head": False, "data.split_shuffles": 1, "optimizer.lr": 8e-4}),
        ("exercise_6_1", {"data.pad_to": "context", "data.split_shuffles": 1, "procedure.eval_freq": 50}),
    ],
)
def test_a_row_overrides_what_it_asks_about(name: str, expected: dict) -> None:
    from omegaconf import OmegaConf

    cfg = compose([f"experiment=book/{name}"])
    assert {key: OmegaConf.select(cfg, key) for key in expected} == expected


def test_rows_that_name_a_backbone_do_not_apply_to_another() -> None:
    questions = find_questions("all", "gpt2-nano", [])
    assert [q.number for q in questions if not q.applies] == ["6", "7", "8", "9", "12"]
    assert all(q.applies for q in find_questions("8,9,12", "gpt2-xl", []))
    assert NOT_APPLICABLE in table(questions, [])


@pytest.mark.parametrize("rows", ["20", "1,,first", "book/none", ",", ""])
def test_unknown_rows_are_refused(rows: str) -> None:
    with pytest.raises(UserError, match="--rows: expected all, numbers from 1 to 19"):
        find_questions(rows, None, [])


@pytest.mark.parametrize("override", ["model=gpt2-nano", "seed=3", "experiment=quickstart"])
def test_overrides_that_would_belie_the_table_are_refused(override: str) -> None:
    with pytest.raises(UserError, match="set it by --model, --seeds, --rows or --out"):
        find_questions("1", None, [override])


def test_other_weights_or_messages_in_a_file_are_another_question(tmp_path: Path) -> None:
    def identity() -> str:
        return find_questions("1", None, [f"data.path={tmp_path / 'sms'}"])[0].identity

    (tmp_path / "sms").write_text("a")
    first = identity()
    assert identity() == first
    (tmp_path / "sms").write_text("ab")
    assert identity() != first


def test_trainings_are_done_once_and_make_a_table(tmp_path: Path) -> None:
    said: list[str] = []
    runner = Runner([sys.executable, "-m", "gpt_classifier", "train"], tmp_path / "run s", said.append)
    questions = find_questions("1,18,6", "gpt2-nano", TINY)
    answers, failures = runner.answer(questions, [1, 2])
    assert not failures
    assert [answer.question.number for answer in answers] == ["1", "18"]
    assert answers[0].accuracies == answers[1].accuracies
    assert len([line for line in said if line.startswith("[")]) == 2  # two seeds, for two equal rows

    assert not list((tmp_path / "run s").rglob("last.ckpt"))
    interrupted = next((tmp_path / "run s").glob("*/seed2/done"))
    interrupted.unlink()
    (interrupted.parent / "left-over").touch()
    said.clear()
    again, _ = runner.answer(questions, [1, 2])
    assert [answer.accuracies for answer in again] == [answer.accuracies for answer in answers]
    assert not (interrupted.parent / "left-over").exists()
    assert said[0].startswith("1 of 2 trainings are already in")

    text = table(questions, answers)
    rows = [line.split(" | ") for line in text.splitlines()]
    assert f"{100 * sum(answers[0].accuracies['test']) / 2:.2f} ± " in rows[2][4]
    assert rows[2][5] == "95.00"
    assert NOT_APPLICABLE in rows[4][2]
    frame = as_frame(answers)
    assert frame["test_mean"][0] == pytest.approx(sum(answers[0].accuracies["test"]) / 2)
    assert frame["trained_parameters"][0] > 0
    chart(answers, "tiny", tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 10_000


def test_a_training_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    failing = tmp_path / "failing.py"
    failing.write_text(
        "import sys\n"
        "if 'seed=1' in sys.argv:\n"
        "    sys.exit('no such file: messages.csv\\n\\nSet the environment variable HYDRA_FULL_ERROR=1')\n"
        "import json, pathlib\n"
        "folder = pathlib.Path(sys.argv[-1].split('=', 1)[1].strip(\"'\"))\n"
        "last = {split: {'accuracy': 0.5} for split in ('train', 'val', 'test')}\n"
        "run = {'last': last, 'seconds': {'run': 1.0}, 'parameters': {'trained': 3}, 'peak_memory_gb': None}\n"
        "(folder / 'metrics.json').write_text(json.dumps(run))\n"
    )
    runner = Runner([sys.executable, str(failing)], tmp_path / "runs", lambda line: None)
    answers, failures = runner.answer(find_questions("1", "gpt2-nano", []), [1, 2])
    assert len(failures) == 1
    assert "row 1, seed 1" in failures[0]
    assert "no such file: messages.csv" in failures[0]
    assert answers[0].accuracies["test"] == [0.5]
    assert isinstance(as_frame(answers), pd.DataFrame)


def test_one_command_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    runner = Runner([sys.executable, "-c", "exit(1)"], tmp_path, lambda line: None)
    questions = find_questions("1", "gpt2-nano", [])
    with FileLock(tmp_path / ".lock"), pytest.raises(UserError, match="another command is at work"):
        runner.answer(questions, [1])
    _, failures = runner.answer(questions, [1])
    assert "failed with status 1" in failures[0]
