"""gpt-classifier distil: what a student learns, what it is measured against, and what is said of both."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Run

from gpt_classifier import TextClassifier
from gpt_classifier.artifact import open_artifact
from gpt_classifier.commands import main
from gpt_classifier.commands.train import main as train
from gpt_classifier.distillation.teachers import Teacher, mean_probabilities, open_teachers

SMALL = ["model.backbone.n_layer=1", "model.backbone.n_embd=24", "model.backbone.n_head=2"]
STUDENT = [
    *("model.weights=random", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "data.batch_size=8"),
    *SMALL,
]
TEXTS = [f"{word} number {i}" for i in range(24) for word in ("prize", "lunch")]
LABELS = ["spam", "ham"] * 24


def taught(folder: Path, seed: int, labels: list[str] = LABELS) -> Path:
    """A saved classifier that takes a second."""
    classifier = TextClassifier(
        weights="random", epochs=2, device="cpu", precision="32-true", seed=seed, progress=False, overrides=SMALL
    )
    classifier.fit(TEXTS, labels).save(folder)
    return folder


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two classifiers of the same classes."""
    folder = tmp_path_factory.mktemp("teachers")
    return [str(taught(folder / str(seed), seed)) for seed in (1, 2)]


@pytest.fixture(autouse=True)
def in_a_folder_with_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("\n".join(TEXTS) + "\n\n")
    pd.DataFrame({"text": TEXTS, "label": LABELS}).iloc[:12].to_csv("labelled.csv", index=False)


def distil(teachers: list[str], *student: str, data: str = "texts.txt", folder: str = "student") -> Run:
    place = [f"data.path={data}", f"hydra.run.dir={folder}"]
    main(["distil", "--teacher", *teachers, "--student", *place, *STUDENT, *student])
    return Run(Path(folder))


def said(run: Run) -> str:
    return " ".join((run.folder / "distil.log").read_text().split())


def test_without_labels_a_student_is_measured_by_agreement_with_its_teacher(teachers: list[str]) -> None:
    run = distil(teachers[:1])
    assert run.metrics["data"]["taught"] == ["train", "val"]
    told = said(run)
    assert "validation loss" in told
    assert "agreement with the teacher 1" in told  # of each epoch
    assert "best (epoch 1), agreement" in told or "best (epoch 2), agreement" in told or "best (epoch 0)" in told
    assert "The val messages have no labels but the teacher's" in told
    assert ", accuracy " not in told.replace("measured on them, accuracy among it", "")
    teacher = TextClassifier.load(teachers[0])
    assert run.labels("val") == teacher.predict(run.texts("val")).tolist()


def test_a_student_says_by_whom_it_was_taught(teachers: list[str]) -> None:
    run = distil(teachers)
    spec = open_artifact(run.folder / "checkpoints" / "best.ckpt").spec
    assert [teacher["name"] for teacher in spec.teachers] == teachers
    files = [(Path(teachers[0]) / name).read_bytes() for name in ("classifier.json", "model.safetensors")]
    expected = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in files)).hexdigest()
    assert spec.teachers[0]["sha256"] == expected
    assert f"Distilled from {teachers[0]} (sha256 {expected[:12]}…), {teachers[1]} " in said(run)
    TextClassifier.load("student").save("kept")
    assert open_artifact(Path("kept")).spec.teachers == spec.teachers


def test_labelled_sets_are_measured_against_their_labels(teachers: list[str], tmp_path: Path) -> None:
    wrong = pd.read_csv("labelled.csv").assign(label=lambda table: table["label"].map({"spam": "ham", "ham": "spam"}))
    wrong.to_csv("wrong.csv", index=False)
    run = distil(teachers[:1], "data.val_path=labelled.csv", "data.test_path=wrong.csv", "evaluate=all")
    assert run.metrics["data"]["taught"] == ["train"]
    assert run.metrics["data"]["note"] == ""
    best = run.metrics["best"]
    assert best["test"]["accuracy"] == pytest.approx(1 - best["val"]["accuracy"])
    student = TextClassifier.load("student")
    assert best["test"]["accuracy"] == student.score(wrong["text"], wrong["label"])
    told = said(run)
    assert "accuracy" in told.split("balanced accuracy")[0]
    assert best["train"]["loss"] < 0.6  # of the divergence from the teacher, on all training messages


def test_of_several_teachers_the_mean_is_learned(teachers: list[str], tmp_path: Path) -> None:
    opened = open_teachers([Path(teacher) for teacher in teachers])
    found = mean_probabilities(opened, TEXTS, tmp_path / "kept")
    each = [TextClassifier.load(teacher).predict_proba(TEXTS) for teacher in teachers]
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)


@pytest.mark.parametrize("head_init", ["random", "linear_probe"])
def test_probabilities_are_learned_and_not_decisions(
    head_init: str, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unsure = np.tile(np.array([0.7, 0.3], dtype=np.float32), (len(TEXTS), 1))
    monkeypatch.setattr(Teacher, "probabilities", lambda self, texts, folder: unsure)
    distil(teachers[:1], f"head_init={head_init}", "data.val_fraction=0", "optimizer.lr=1e-2", "trainer.max_epochs=4")
    student = TextClassifier.load("student")
    assert student.predict_proba(TEXTS)[:, 0].mean() == pytest.approx(0.7, abs=0.05)


def test_probabilities_are_found_again(teachers: list[str]) -> None:
    again = "known from before"
    assert again not in said(distil(teachers[:1], folder="first"))
    assert said(distil(teachers, "seed=2", folder="second")).count(again) == 1  # the second teacher is new
    Path("texts.txt").write_text("\n".join([*TEXTS, "another text"]))
    assert again not in said(distil(teachers[:1], folder="third"))


def test_damaged_probabilities_are_computed_again(teachers: list[str], tmp_path: Path) -> None:
    (opened,) = open_teachers([Path(teachers[0])])
    found = opened.probabilities(TEXTS, tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:150])
    np.testing.assert_array_equal(opened.probabilities(TEXTS, tmp_path / "kept"), found)


def test_a_class_that_no_text_is_of_is_no_obstacle(teachers: list[str]) -> None:
    teacher = TextClassifier.load(teachers[0])
    ham = [text for text, label in zip(TEXTS, teacher.predict(TEXTS), strict=True) if label == "ham"]
    Path("ham.txt").write_text("\n".join(ham))
    run = distil(teachers[:1], "data.batch_size=4", data="ham.txt")
    assert set(run.labels("train")) == {"ham"}
    assert open_artifact(run.folder / "checkpoints" / "best.ckpt").spec.task["classes"] == ["ham", "spam"]


def test_a_run_is_not_resumed_with_another_teacher_or_temperature(
    teachers: list[str], capsys: pytest.CaptureFixture
) -> None:
    distil(teachers[:1])
    resume = ["ckpt_path=student/checkpoints/last.ckpt", "hydra.run.dir=again"]
    for changed, told in (
        ((teachers[1:],), "messages and their split"),
        ((teachers[:1], "temperature=4"), "temperature 2"),
    ):
        with pytest.raises(SystemExit):
            distil(*changed, *resume)
        assert f"was trained with {told}" in capsys.readouterr().err
    distil(teachers[:1], *resume)
    assert "Distilled from" in (Path("again") / "distil.log").read_text()


def test_what_is_written_down_says_how_it_was_made(teachers: list[str], capsys: pytest.CaptureFixture) -> None:
    distil(teachers[:1], "data.test_path=labelled.csv")
    main(["evaluate", "--checkpoint", "student"])
    assert "The val messages have no labels but the teacher's" in capsys.readouterr().out.split("everything is in")[1]
    page = (Path("student") / "evaluation" / "report.html").read_text()
    assert f"gpt-classifier distil --teacher {teachers[0]} --student data.path=texts.txt" in page
    assert "distilled from" in page
    assert "agreement with the teacher" in page  # of validation, on which thresholds are chosen
    assert json.loads((Path("student") / "evaluation" / "evaluation.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--teacher", "nowhere.ckpt", "--student", "data.path=texts.txt"], "--teacher: there is no file"),
        (["--teacher", "TEACHER", "OTHER", "--student", "data.path=texts.txt"], "has ham, spam and OTHER has a, b"),
        (["--teacher", "TEACHER", "--student", "data.path=texts.txt", "hydra.run.dir=TEACHER"], "that of the teacher"),
        (["--teacher", "TEACHER", "--student", "data.path=texts.txt", "-m", "seed=1,2"], "-m: distil trains one"),
        (["--teacher", "TEACHER", "--student"], "data.path: expected a file of texts without labels"),
        (["--teacher", "TEACHER", "--student", "data.path=no.txt"], "there is no file"),
        (["--teacher", "TEACHER", "--student", "data.path=empty.txt"], "expected a file with at least one text"),
        (
            ["--teacher", "TEACHER", "--student", "data.path=labelled.csv", "data.text_column=body"],
            "data.text_column: expected a column of labelled.csv (text, label), but it is 'body'",
        ),
        (
            ["--teacher", "TEACHER", "--student", "data.path=texts.txt", "data.test_path=other.csv"],
            "data.test_path: expected messages with the labels of training (ham, spam)",
        ),
        (["--teacher", "TEACHER", "--student", "data=sample_sms"], "data: expected unlabelled"),
        (["--teacher", "TEACHER", "--student", "data.path=texts.txt", "procedure=baseline"], "procedure: expected"),
        (["--teacher", "TEACHER", "--temperature", "0", "--student", "data.path=texts.txt"], "temperature: expected"),
        (["--teacher", "TEACHER", "--student", "data.path=texts.txt", "pathh=1"], "pathh: there is no such option"),
    ],
)
def test_what_can_not_be_distilled_is_told_in_a_paragraph(
    arguments: list[str], told: str, teachers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("empty.txt").write_text("\n\n")
    pd.DataFrame({"text": ["x", "y"], "label": ["ham", "eggs"]}).to_csv("other.csv", index=False)
    other = taught(tmp_path / "other", 1, ["a", "b"] * 24) if "OTHER" in arguments else tmp_path
    named = {"TEACHER": teachers[0], "OTHER": str(other)}
    given = [argument.replace("TEACHER", named["TEACHER"]).replace("OTHER", named["OTHER"]) for argument in arguments]
    before = sorted(Path(teachers[0]).rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        main(["distil", *given])
    assert stopped.value.code not in (None, 0)
    assert told.replace("OTHER", "other") in " ".join(f"{capsys.readouterr().err} {stopped.value}".split())
    assert sorted(Path(teachers[0]).rglob("*")) == before


def test_texts_without_labels_train_nothing_by_themselves(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        train(["data=unlabelled", "data.path=texts.txt", "model=gpt2-nano", "hydra.run.dir=run", *STUDENT])
    assert "data=unlabelled: expected a teacher" in capsys.readouterr().err


def test_help_tells_arguments_and_examples(capsys: pytest.CaptureFixture) -> None:
    for arguments in (["--help"], ["--teacher", "x", "--student", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(["distil", *arguments])
        told = capsys.readouterr().out
        assert "--temperature" in told
        assert "gpt-classifier train --help lists them" in told


def test_a_cache_that_can_not_be_written_costs_time_alone(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    (opened,) = open_teachers([Path(teachers[0])])
    assert opened.probabilities(TEXTS, tmp_path / "kept").shape == (len(TEXTS), 2)
    assert list((tmp_path / "kept").iterdir()) == []
