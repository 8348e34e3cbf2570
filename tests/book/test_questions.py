"""The book's table of further experiments: every row means what the published one means."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from gpt_classifier.book import questions as questions_module
from gpt_classifier.book.questions import NOT_APPLICABLE, find_questions, rows_of
from gpt_classifier.commands.experiments import main
from gpt_classifier.config import compose
from gpt_classifier.errors import UserError
from gpt_classifier.experiments import table


@pytest.fixture(autouse=True)
def hub_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions_module, "_can_fetch", lambda repository, revision: True)


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
    questions = find_questions("1,6,7,8,9,12,13", "gpt2-nano")
    assert [q.row for q in questions if q.not_run] == ["6", "7", "8", "9", "12"]
    assert not any(q.not_run for q in find_questions("8,9,12", "gpt2-xl"))
    lines = table(questions, []).splitlines()[2:]
    assert [i for i, line in enumerate(lines, start=1) if NOT_APPLICABLE in line] == [2, 3, 4, 5, 6]


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


IMDB = {
    "01_gpt2_small": 91.88,
    "02_bert": 90.89,
    "03_distilbert": 91.40,
    "04_roberta": 92.95,
    "05_deberta_v3": 94.69,
    "06_modernbert_base": 93.79,
    "07_modernbert_large": 95.07,
    "08_logistic_regression": 88.85,
}


@pytest.mark.parametrize("name", IMDB)
def test_rows_of_the_third_bonus_are_the_published_ones(name: str) -> None:
    model = re.search(r"override /model: (\S+)", (ROOT / f"conf/experiment/imdb/{name}.yaml").read_text())
    if model and not (ROOT / f"conf/model/{model[1]}.yaml").is_file():
        pytest.skip(f"there is no model={model[1]}")
    (question,) = find_questions(f"imdb/{name}")
    assert question.published == IMDB[name]
    swapped = {"04_roberta": "94.69 in the log", "05_deberta_v3": "92.95 in the log"}
    assert question.note.startswith(swapped.get(name, ""))
    cfg = compose([f"experiment=imdb/{name}"])
    assert (cfg.data.max_length, cfg.data.split_shuffles, cfg.data.split, cfg.data.official_split) == (
        256,
        2,
        "random",
        False,
    )
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay, cfg.data.batch_size, cfg.trainer.max_epochs) == (
        5e-5,
        0.1,
        8,
        1,
    )
    assert cfg.freeze.get("n") == (1 if name == "04_roberta" else None)


def test_a_folders_numbered_rows_are_asked_together(tmp_path: Path) -> None:
    assert [name.partition("/")[2] for name in rows_of("imdb")][:8] == list(IMDB)
    folder = tmp_path / "experiment" / "mine"
    folder.mkdir(parents=True)
    for name in ("02_second", "01_first", "base"):
        (folder / f"{name}.yaml").write_text("# @package _global_\ndefaults: [/experiment/quickstart]\n")
    found = find_questions("mine/all", config_dir=tmp_path)
    assert [question.row for question in found] == ["mine/01_first", "mine/02_second"]
    with pytest.raises(UserError, match=r"FOLDER/all, .* but it is 'none/all'"):
        find_questions("none/all")


def test_nano_is_asked_for_blocks_poolings_and_lengths_by_the_recipe_for_own_data() -> None:
    questions = find_questions("imdb/10_nano", overrides=["pooling=mean"])
    assert [question.row.partition(" ")[2] for question in questions] == [
        f"freeze={freeze} data.max_length={tokens}"
        for freeze in ("last_block", "last_two_blocks", "none")
        for tokens in (256, 512, 1024)
    ]
    assert len({question.identity for question in questions}) == 9
    cfg = compose(questions[-1].overrides)
    assert (cfg.pooling._target_.rpartition(".")[2], cfg.freeze._target_, cfg.data.max_length) == (
        "Mean",
        compose(["freeze=none"]).freeze._target_,
        1024,
    )
    assert (cfg.recipe.lr, cfg.data.official_split) == ("auto", True)


def test_linear_rows_do_not_depend_on_a_model_or_a_seed() -> None:
    (alone,), (with_model,) = (find_questions("imdb/09_linear", model) for model in (None, "gpt2-nano"))
    assert alone.identity == with_model.identity
    assert alone.seeds([3, 1, 2]) == [3]
    assert find_questions("imdb/08_logistic_regression")[0].identity != alone.identity
    assert len({question.identity for question in find_questions("imdb/11_linear_official")}) == 5


def test_rows_without_their_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions_module, "_can_fetch", lambda repository, revision: revision == "there")
    (small,) = find_questions("imdb/01_gpt2_small")
    assert "hf download openai-community/gpt2 --revision 607a30d" in small.not_run
    assert small.not_run in table([small], [])
    (newest,) = find_questions("imdb/01_gpt2_small", overrides=["model.revision=null"])
    assert "hf download openai-community/gpt2, or model.weights=FOLDER" in newest.not_run
    for rows, overrides in (
        ("imdb/01_gpt2_small", ["model.weights=random"]),
        ("imdb/01_gpt2_small", ["model.revision=there"]),
        ("imdb/09_linear", []),
        ("quickstart", []),
    ):
        assert not any(question.not_run for question in find_questions(rows, overrides=overrides))


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
