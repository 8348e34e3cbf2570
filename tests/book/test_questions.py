"""The book's table of further experiments: every row means what the published one means."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from gpt_classifier.book.questions import NOT_APPLICABLE, find_questions
from gpt_classifier.commands.experiments import main
from gpt_classifier.config import compose
from gpt_classifier.errors import UserError
from gpt_classifier.experiments import table


def test_rows_are_the_published_ones() -> None:
    questions = {question.row: question for question in find_questions("all")}
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
    cfg = compose([f"experiment=book/{name}"])
    assert {key: OmegaConf.select(cfg, key) for key in expected} == expected


def test_rows_that_name_a_backbone_do_not_apply_to_another() -> None:
    questions = find_questions("all", "gpt2-nano")
    assert [q.row for q in questions if q.not_run] == ["6", "7", "8", "9", "12"]
    assert not any(q.not_run for q in find_questions("8,9,12", "gpt2-xl"))
    lines = table(questions, []).splitlines()[2:]
    assert [i for i, line in enumerate(lines, start=1) if NOT_APPLICABLE in line] == [6, 7, 8, 9, 12]


def test_rows_are_numbers_and_names_in_the_order_of_the_command() -> None:
    questions = find_questions(" 2, book/exercise_6_1,1,2", "gpt2-nano", ["optimizer.lr=0.5"])
    assert [(q.row, q.experiment) for q in questions] == [
        ("2", "book/02_first_token"),
        ("book/exercise_6_1", "book/exercise_6_1"),
        ("1", "book/01_setting"),
    ]
    assert questions[0].overrides == ("experiment=book/02_first_token", "model=gpt2-nano", "optimizer.lr=0.5")


def test_rows_may_be_experiments_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "experiment" / "mine").mkdir(parents=True)
    (tmp_path / "experiment" / "mine" / "shorter.yaml").write_text(
        "# @package _global_\n"
        "defaults: [/experiment/book/01_setting]\n"
        "data: {pad_to: 30}\n"
        "question: {asks: cut to 30 tokens, published: null}\n"
    )
    setting, shorter = find_questions("1,mine/shorter", config_dir=tmp_path)
    assert (shorter.row, shorter.asks, shorter.published) == ("mine/shorter", "cut to 30 tokens", None)
    assert shorter.identity != setting.identity == find_questions("1")[0].identity
    with pytest.raises(UserError, match="it is 'mine/shorter'"):
        find_questions("mine/shorter")


@pytest.mark.parametrize("rows", ["20", "1,,first", "book/none", ",", ""])
def test_unknown_rows_are_refused(rows: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rows: expected all, numbers from 1 to 19"):
        find_questions(rows)
    with pytest.raises(SystemExit, match=r"--rows: expected all.*Separate rows by commas, as in 1,2,book/exercise_6_1"):
        main(["--rows", rows, "--out", str(tmp_path)])


@pytest.mark.parametrize(
    "override", ["model=gpt2-nano", "seed=3", "experiment=quickstart", "hydra.run.dir=x", "++seed=3"]
)
def test_overrides_that_the_table_would_not_show_are_refused(override: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="set it by --model, --seeds, --rows or --out"):
        main(["--rows", "1", "--out", str(tmp_path), override])
