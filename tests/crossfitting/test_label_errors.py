"""Wrong labels: what is found, what a person is given to decide, and what training makes of the decisions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gpt_classifier.commands import main
from gpt_classifier.crossfitting import label_errors, page
from gpt_classifier.crossfitting.label_errors import IMPROBABLE, OUTLIER
from gpt_classifier.crossfitting.out_of_fold import OutOfFold
from gpt_classifier.data.corrections import corrected
from gpt_classifier.data.prepare import text_hash
from gpt_classifier.data.sources import EXTRA, Texts
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.tables.corrections import HASHED, read_corrections


def out_of_fold(texts: list[str], labels: list[str], spam: list[float]) -> OutOfFold:
    """Answers of a classifier of two classes, of which every third row of the source is missing."""
    rows = [i + i // 2 for i in range(len(texts))]
    frame = pd.DataFrame({"row": rows, "label": labels, "text": texts, "fold": 0})
    probabilities = np.stack([1 - np.array(spam), np.array(spam)], axis=1)
    return OutOfFold("a classifier", frame, ["ham", "spam"], np.log(probabilities).astype(np.float32))


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def words(number: int) -> list[str]:
    return [f"{LETTERS[i // 26]}{LETTERS[i % 26]} message" for i in range(number)]


def test_confident_learning_counts_errors_beyond_each_class_s_mean_and_takes_the_least_probable() -> None:
    """Written out: 10 of each label; the mean probability of spam among those labelled so is 0.74, of ham 0.785.

    Two rows labelled spam have ham with 0.95, one labelled ham has spam with 0.9: more than these means. The joint is
    then [[9, 1], [2, 8]] of 20 (Northcutt, Jiang and Chuang, 2021), and as many rows are taken. The two at 0.45, whose
    label is not the most probable either, are none: their probability is below the means.
    """
    pytest.importorskip("cleanlab")
    labels = ["ham"] * 10 + ["spam"] * 10
    spam = [0.1] * 8 + [0.55, 0.9] + [0.9] * 7 + [0.45, 0.05, 0.05]
    found = label_errors.improbable_labels(out_of_fold(words(20), labels, spam))
    assert [one.place for one in found] == [18, 19, 9]
    assert [one.suggested for one in found] == ["ham", "ham", "spam"]
    assert found[2].why == "spam 0.9000, its label 0.1000"


def test_without_cleanlab_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cleanlab.filter", None)
    with pytest.raises(UserError, match=r'pip install "gpt-classifier\[labels\]"'):
        label_errors.improbable_labels(out_of_fold(words(4), ["ham", "spam"] * 2, [0.1, 0.9] * 2))


def test_of_near_duplicates_the_majority_is_believed_and_of_as_many_the_model() -> None:
    texts = ["Win 1!", "win 2", "WIN", "lunch", "Lunch?", "bus", "Bus!"]
    labels = ["spam", "spam", "ham", "ham", "spam", "ham", "ham"]
    found = label_errors.contradictions(out_of_fold(texts, labels, [0.1, 0.1, 0.1, 0.8, 0.8, 0.9, 0.9]))
    assert [(one.place, one.suggested) for one in found] == [(2, "spam"), (3, "spam")]
    assert found[0].why == "like row 0, whose label is spam"
    assert found[1].why == "like row 6, whose label is spam"  # the number in the source


def test_outliers_are_the_texts_that_are_least_like_others() -> None:
    texts = [f"please call me about the {word} order" for word in words(30)] + ["zzxq qqvk", "call me about the order"]
    found = label_errors.unlike_others(out_of_fold(texts, ["ham", "spam"] * 16, [0.5] * 32), 1)
    assert [(one.place, one.suggested, one.reason) for one in found] == [(30, "ham", OUTLIER)]
    assert label_errors.unlike_others(out_of_fold(texts, ["ham", "spam"] * 16, [0.5] * 32), 0) == []


def test_similarities_do_not_depend_on_how_many_are_compared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{a} {b} order" for a in words(9) for b in ("lunch", "bus", "prize")]
    whole = label_errors.similarities(texts)
    monkeypatch.setattr(label_errors, "AT_ONCE", 4)
    np.testing.assert_allclose(label_errors.similarities(texts), whole)
    assert whole.max() < 1  # a text is not its own neighbour


def suspects(action: str = "keep") -> pd.DataFrame:
    texts = ["Win 1!", "win 2", "WIN", "lunch", "<b>bold</b>"]
    found = out_of_fold(texts, ["spam", "spam", "ham", "ham", "ham"], [0.9] * 3 + [0.1] * 2)
    found.frame[f"{EXTRA}id"] = ["a", "b", "c", "d", "e"]
    found.frame[f"{EXTRA}reason"] = "their own"
    every = [*label_errors.contradictions(found), label_errors.Suspect(4, "ham", OUTLIER, "it is")]
    return label_errors.table(found, every, action)


def test_a_person_is_given_rows_of_the_source_with_other_columns_and_a_proposal() -> None:
    found = suspects("relabel")
    assert found["row"].tolist() == [3, 6]
    assert found["id"].tolist() == ["c", "e"]
    assert found[f"{EXTRA}reason"].tolist() == ["their own"] * 2
    assert found["action"].tolist() == ["relabel", "keep"]  # nothing says what the outlier should be
    assert found["confidence"].tolist() == pytest.approx([0.9, 0.9], abs=1e-5)
    assert found["hash"].tolist() == [HASHED + text_hash(text) for text in ("WIN", "<b>bold</b>")]


def test_the_page_shows_every_reason_and_runs_nothing_of_a_text() -> None:
    shown = page.render(suspects(), 5, Path("my fixes.csv"), ["a classifier"])
    assert "&lt;b&gt;bold&lt;/b&gt;" in shown
    assert "<b>bold" not in shown
    assert "like row 0, whose label is spam" in shown
    assert "data.corrections=my fixes.csv" in shown
    assert shown.count("There are none.") == 1  # of improbable labels
    assert "http" not in shown.replace("http-equiv", "")


MESSAGES = Texts(["Win 1!", "lunch", "prize", "bus"], ["spam", "spam", "spam", "ham"])


def fixes(tmp_path: Path, *rows: tuple[Any, ...], texts: dict[int, str] | None = None) -> str:
    """A table of row, action and suggested label."""
    of_rows = dict(enumerate(MESSAGES.frame["text"])) | (texts or {})
    table = pd.DataFrame(rows, columns=["row", "action", "suggested"])
    table["hash"] = [HASHED + text_hash(of_rows.get(row, "")) for row in table["row"]]
    table.to_csv(tmp_path / "fixes.csv", index=False)
    return str(tmp_path / "fixes.csv")


def test_decisions_are_followed(tmp_path: Path) -> None:
    path = fixes(tmp_path, (1, "relabel", "ham"), (2, " Remove", ""), (0, "keep", "ham"))
    found, told = corrected(MESSAGES.load(), path)
    assert found.frame[["text", "label"]].to_numpy().tolist() == [["Win 1!", "spam"], ["lunch", "ham"], ["bus", "ham"]]
    assert found.frame["row"].tolist() == [0, 1, 3]
    assert told == f"1 relabelled, 1 left out by {path}"
    assert MESSAGES.frame["label"].tolist() == ["spam", "spam", "spam", "ham"]


def test_a_class_without_messages_is_none(tmp_path: Path) -> None:
    messages = Texts(["a", "b", "c"], ["x", "y", "z"]).load()
    path = fixes(tmp_path, (2, "relabel", "x"), texts={2: "c"})
    assert corrected(messages, path)[0].class_names == ["x", "y"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [(9, "remove", "")],
            "expected corrections of these messages, but it is .*row 9 is another text here, or none",
        ),
        ([(1, "relabel", "hamm")], r"expected labels of the messages \(ham, spam\), .*row 1 gets the label 'hamm'"),
        ([(1, "relabel", "")], "a label in the column suggested of a row to relabel"),
        ([(1, "delete", "")], "expected keep, relabel or remove in the column action, .*'delete' in data row 1"),
        ([(1, "remove", ""), (1, "keep", "")], "one decision for each row, .*row 1 again in data row 2"),
        ([("first", "remove", "")], "the number of a row"),
    ],
)
def test_decisions_that_can_not_be_followed_are_refused(rows: list[Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"^corrections: .*{told}"):
        corrected(MESSAGES.load(), fixes(tmp_path, *rows))


def test_corrections_of_other_messages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="row 1 is another text here"):
        corrected(MESSAGES.load(), fixes(tmp_path, (1, "remove", ""), texts={1: "what it was before"}))
    (tmp_path / "other.csv").write_text("row,text\n1,lunch\n")
    with pytest.raises(OptionError, match=r"expected a column of .*other\.csv"):
        read_corrections(tmp_path / "other.csv")


@pytest.fixture
def crossfitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OutOfFold:
    """What crossfit left, of 60 messages of which row 7 has the wrong label."""
    monkeypatch.chdir(tmp_path)
    labels = ["ham", "spam"] * 30
    sure = [0.02, 0.98] * 30
    labels[7] = "ham"
    table = pd.DataFrame({"text": words(60), "label": labels})
    table.to_csv("messages.csv", index=False)
    found = OutOfFold(
        "nano",
        table.assign(row=range(60), fold=0),
        ["ham", "spam"],
        np.log(np.stack([1 - np.array(sure), sure], axis=1)).astype(np.float32),
    )
    found.write(Path("outputs/crossfit/a/out_of_fold.csv"))
    return found


def test_from_probabilities_to_a_run_without_the_wrong_label(
    crossfitted: OutOfFold, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("cleanlab")
    main(["find-label-errors", "--outliers", "2", "--action", "relabel"])
    found = pd.read_csv("fixes.csv")
    assert found["row"].tolist()[0] == 7
    assert found["reason"].tolist() == [IMPROBABLE, OUTLIER, OUTLIER]
    assert found["action"].tolist() == ["relabel", "keep", "keep"]
    assert "ham → spam 0.98" in capsys.readouterr().out
    assert "improbable" not in Path("fixes.html").read_text()  # told in words of their own
    options = ["data=csv", "data.path=messages.csv", "data.corrections=fixes.csv", "model=gpt2-nano", "trainer=cpu"]
    small = ["model.weights=random", "model.backbone.n_layer=1", "model.backbone.n_embd=24", "trainer.max_epochs=1"]
    main(["train", *options, *small, "data.val_fraction=0", "data.test_fraction=0", "hydra.run.dir=run"])
    kept = pd.read_csv("run/splits/train.csv").set_index("row")
    assert kept["label"][7] == "spam"
    assert "labels   1 relabelled, 0 left out by fixes.csv" in Path("run/train.log").read_text()


def test_a_person_s_decisions_are_not_overwritten(crossfitted: OutOfFold) -> None:
    Path("fixes.csv").write_text("mine")
    with pytest.raises(SystemExit, match=r"fixes\.csv is there, and may have your decisions"):
        main(["find-label-errors"])
    assert Path("fixes.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--outputs", "nowhere"], "there are no out-of-fold probabilities below nowhere"),
        (["--crossfit", "nowhere"], "there is no file nowhere"),
        (["--crossfit", "messages.csv"], "messages.csv: expected a table of out-of-fold probabilities with texts"),
        (["--out", "fixes.txt"], "--out: expected a file ending in .csv"),
    ],
)
def test_what_can_not_be_read_is_refused(arguments: list[str], told: str, crossfitted: OutOfFold) -> None:
    with pytest.raises(SystemExit, match=told):
        main(["find-label-errors", *arguments])
    assert not Path("fixes.html").exists()


def test_tables_of_hashes_are_refused(crossfitted: OutOfFold) -> None:
    crossfitted.write(Path("hashes.csv"), texts=False)
    with pytest.raises(UserError, match=r"unless data\.keep_texts=false"):
        OutOfFold.read(Path("hashes.csv"))
