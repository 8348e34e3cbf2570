"""predict and evaluate: abstaining, costs of mistakes, other frequencies of the classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gpt_classifier.commands import main
from gpt_classifier.crossfitting.known import trained_prior
from gpt_classifier.crossfitting.out_of_fold import OutOfFold
from gpt_classifier.decisions.rule import Rule
from gpt_classifier.errors import UserError
from gpt_classifier.evaluation.abstaining import candidates
from gpt_classifier.inference.files import Row
from gpt_classifier.inference.writing import UNANSWERED, Shown, Writer, classify, written

TEXTS = [f"{word} {'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]}" for i in range(100) for word in ("lunch", "prize")]
LABELS = ["ham", "spam"] * 100


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two classes that are easy to tell apart, three of four training messages ham."""
    folder = tmp_path_factory.mktemp("run")
    table = pd.DataFrame({"text": TEXTS, "label": LABELS})
    table.drop(index=range(1, 134, 2)).to_csv(folder / "messages.csv", index=False)
    small = ["model.weights=random", "model.backbone.n_layer=1", "model.backbone.n_embd=24", "cache.dir=null"]
    data = ["data=csv", f"data.path={folder / 'messages.csv'}", "data.val_fraction=0.3", "data.test_fraction=0.2"]
    run = [f"hydra.run.dir={folder / 'run'}", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2"]
    main(["train", "model=gpt2-nano", *small, *data, *run])
    return folder / "run"


def predicted(run: Path, tmp_path: Path, *options: str) -> list[dict[str, Any]]:
    Path(tmp_path / "in.txt").write_text("lunch aa\nprize bb\nzebra\n")
    out = tmp_path / "out.jsonl"
    main(["predict", "--checkpoint", str(run), "--input", str(tmp_path / "in.txt"), "--output", str(out), *options])
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_promise_says_what_it_rests_on(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = predicted(run, tmp_path, "--abstain", "0.2")
    told = capsys.readouterr().err
    assert "at most 0.2 of what is answered is wrong, with 0.95 confidence, whichever of the 15 models" in told
    assert "answers everything: 40 of 40 validation messages of its run, 0 of them wrong" in told
    assert [row["predicted_label"] for row in found[:2]] == ["ham", "spam"]
    predicted(run, tmp_path, "--abstain", "0.2", "--chosen-on", "test", "--confidence", "0.9")
    told = capsys.readouterr().err
    assert "with 0.9 confidence\n" in told
    assert "test messages of its run" in told


def test_too_few_messages_are_said_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"299 messages without an error are needed to promise it, and there are \d+\."
    ):
        predicted(run, tmp_path, "--abstain", "0.01", "--chosen-on", "test")
    with pytest.raises(SystemExit, match=r"ham: no threshold on .* nothing is answered: .*; spam: no threshold"):
        predicted(run, tmp_path, "--abstain", "0.01", "--by-class")
    assert not (tmp_path / "out.jsonl").exists()


def out_of_fold(folder: Path, names: tuple[str, str] = ("ham", "spam")) -> Path:
    """400 messages of which those with a margin below 2 are wrong."""
    margins = np.linspace(0, 8, 400)
    labels = [names[int(margin < 2)] for margin in margins]
    frame = pd.DataFrame({"row": range(400), "fold": 0, "label": labels, "text": [f"text {i}" for i in range(400)]})
    logits = np.stack([margins, np.zeros(400)], axis=1).astype(np.float32)
    OutOfFold("nano", frame, list(names), logits).write(folder / "out_of_fold.csv")
    return folder


def test_out_of_fold_messages_say_how_much_to_answer(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = out_of_fold(tmp_path / "crossfit")
    found = predicted(run, tmp_path, "--abstain", "0.02", "--chosen-on", str(folder), "--strict")
    told = capsys.readouterr().err
    assert "above a probability of 0.879209: 300 of 400 out-of-fold messages, 0 of them wrong (at most 0.99%)" in told
    assert "the promise is about such models" in told
    for row in found:
        sure = abs(np.log(row["probabilities"]["spam"] / row["probabilities"]["ham"]))
        assert (row["predicted_label"] is None) == (row["reason"] == UNANSWERED)
        if abs(sure - 2) > 0.3:
            assert (row["predicted_label"] is None) == (sure < 2)
    other = out_of_fold(tmp_path / "other", ("ham", "eggs"))
    with pytest.raises(SystemExit, match="which has other classes"):
        predicted(run, tmp_path, "--abstain", "0.02", "--chosen-on", str(other))


def test_costs_decide(run: Path, tmp_path: Path) -> None:
    before = predicted(run, tmp_path)
    rarest = min(row["probabilities"]["spam"] for row in before if row["predicted_label"] == "ham")
    found = predicted(run, tmp_path, "--cost", f"spam:ham={2 / max(rarest, 2e-12)}", "ham:spam=1")
    assert {row["predicted_label"] for row in found} == {"spam"}
    assert {row["predicted_label"] for row in before} == {"ham", "spam"}
    assert [row["probabilities"] for row in found] == [row["probabilities"] for row in before]
    with pytest.raises(SystemExit, match="--cost: expected TRUE:PREDICTED=COST with two of the classes ham, spam"):
        predicted(run, tmp_path, "--cost", "spam:eggs=1")


def test_the_prior_of_training_is_exchanged(run: Path, tmp_path: Path) -> None:
    trained = trained_prior(run / "checkpoints" / "best.ckpt", ["ham", "spam"])
    assert trained.sum() == 1
    assert trained[0] > 0.6
    before, after = predicted(run, tmp_path), predicted(run, tmp_path, "--prior", "spam=0.5")
    for one, other in zip(before, after, strict=True):
        odds = [row["probabilities"]["spam"] / row["probabilities"]["ham"] for row in (one, other)]
        assert odds[1] / odds[0] == pytest.approx(trained[0] / trained[1], rel=1e-3)
    with pytest.raises(UserError, match="how frequent classes were in training is not known"):
        trained_prior(tmp_path / "best.ckpt", ["ham", "spam"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--abstain", "0.01", "--prior", "spam=0.1"], "nothing can be promised for other frequencies"),
        (["--threshold", "spam=0.5", "--cost", "spam:ham=1"], "--threshold: it decides by itself"),
        (["--by-class"], "--by-class: it belongs to --abstain"),
        (["--confidence", "0.9"], "--confidence: it belongs to --abstain"),
    ],
)
def test_what_contradicts_itself_is_refused(options: list[str], told: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "a text", *options])
    assert stopped.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_row_that_is_not_answered_keeps_its_probabilities_and_is_no_failure(tmp_path: Path) -> None:
    rule = Rule(thresholds=np.array([np.log(4), np.inf]))  # ham from 0.8 on, spam never
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9]], dtype=np.float32)
    lines = {}
    for kind in ("csv", "txt"):
        with written(tmp_path / f"out.{kind}", "utf-8") as target:
            writer = Writer(target, kind, ["text"], ["ham", "spam"], shown=Shown(rule=rule))
            rows = [Row({"text": name}, name) for name in "abc"]
            count = classify(iter(rows), lambda texts: probabilities, writer)
        assert (writer.unanswered, count.skipped) == (2, {})
        lines[kind] = (tmp_path / f"out.{kind}").read_text().splitlines()
    assert lines["csv"][1:] == [
        "a,ham,0.900000,0.900000,0.100000,",
        f"b,,0.700000,0.700000,0.300000,{UNANSWERED}",
        f"c,,0.900000,0.100000,0.900000,{UNANSWERED}",
    ]
    assert lines["txt"][1] == f"({UNANSWERED})\t0.7000\tb"


def test_validation_messages_that_chose_epoch_and_penalty_chose_among_many_models() -> None:
    assert candidates({"trainer.max_epochs": 10, "head_init": "linear_probe"}) == 55
    assert candidates({"trainer.max_epochs": 5, "head_init": "random"}) == 5
    assert candidates({}) == 55


def test_evaluate_shows_promises_and_costs(run: Path, tmp_path: Path) -> None:
    main(["evaluate", "--checkpoint", str(run), "--out", str(tmp_path), "--cost", "ham:spam=10", "spam:ham=1"])
    numbers = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["rate"] for row in numbers["promises"]] == [0.05, 0.02, 0.01, 0.005]
    assert "messages without an error are needed to promise it, and there are 40" in numbers["promises"][0]["why"]
    assert numbers["costs"]["expected_cost"] <= numbers["costs"]["most_probable"] + 1e-9
    page = (tmp_path / "report.html").read_text()
    assert "When to answer" in page
    assert "whichever of 15 models they chose" in " ".join(page.split())
    assert "What mistakes cost" in page
