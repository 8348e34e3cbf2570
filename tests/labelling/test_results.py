"""What a session leaves can be read and trained on."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from sessions import CLASSES, label, session_on, texts_of

from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.labelling import results
from gpt_classifier.labelling.collection import known_labels
from gpt_classifier.labelling.results import Training, expect_csv, expect_trainable, write_labels
from gpt_classifier.tables.labelled import LabelledFiles
from gpt_classifier.tables.reading import Style

AWKWARD = ['he said "no", and left', "one\ntwo", "=1+1", " spaced ", "naïve ☃"]


def test_tables_hold_what_was_answered_and_can_be_read_again(tmp_path: Path) -> None:
    texts = [*AWKWARD, *texts_of(45)]
    session = session_on(tmp_path, texts)
    while (text := session.status().text) is not None:
        session.answer(text, None if text == 7 else text % 2)
    out = tmp_path / "labels.csv"
    write_labels(session, out)
    rows = []
    for path in (out, tmp_path / "labels.test.csv"):
        found, _ = LabelledFiles(path, {"text": "text", "label": "label"}, Style(), drop_incomplete=False).read()
        frame = pd.read_csv(path, keep_default_na=False)
        assert found.columns["text"] == frame["text"].tolist() == [texts[row] for row in frame["row"]]
        assert found.columns["label"] == [CLASSES[row % 2] for row in frame["row"]]
        rows += frame["row"].tolist()
    assert sorted(rows) == [row for row in range(50) if row != 7]
    assert len(known_labels(out, CLASSES)) == len(session.training())


def test_labels_from_elsewhere_have_no_row(tmp_path: Path) -> None:
    session = session_on(tmp_path, texts_of(20))
    session.store.give({"from elsewhere": 1})
    session.close()
    write_labels(session_on(tmp_path, texts_of(20)), tmp_path / "labels.csv")
    frame = pd.read_csv(tmp_path / "labels.csv", keep_default_na=False)
    assert frame.to_dict("records") == [{"text": "from elsewhere", "label": "spam", "row": ""}]


def test_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_on(tmp_path, texts_of(20))
    label(session, 5)
    write_labels(session, tmp_path / "labels.csv")
    before = (tmp_path / "labels.csv").read_bytes()

    def full(self: pd.DataFrame, path: Path, **options: object) -> None:
        path.write_text("half a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    label(session, 5)
    with pytest.raises(UserError, match="No space left on device"):
        write_labels(session, tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_bytes() == before
    assert len(session.store.answers()) == 10


@pytest.mark.parametrize("name", ["labels", "labels.txt", "."])
def test_output_must_be_a_csv(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match="a file ending in"):
        expect_csv(tmp_path / name)


def test_labels_that_no_classifier_can_learn_from_are_refused_before_it_begins(tmp_path: Path) -> None:
    session = session_on(tmp_path, texts_of(60))
    with pytest.raises(UserError, match="at least two classes"):
        expect_trainable(session)
    label(session, 4)
    with pytest.raises(UserError, match="No text of the random share"):
        expect_trainable(session)
    label(session, 10)
    expect_trainable(session)


def test_training_is_two_commands_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = "import sys; print('\\n'.join(sys.argv[1:])); raise SystemExit(3 if sys.argv[1] == 'evaluate' else 0)"
    script = tmp_path / "gpt_classifier.py"
    script.write_text(echo)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "it's" / "labels.csv"
    (tmp_path / "it's" / "labels.runs" / "run7").mkdir(parents=True)
    training = Training(out, ["model=gpt2-nano"])
    training._thread.join(20)
    assert training.folder == tmp_path / "it's" / "labels.runs" / "run8"
    assert training.failed
    assert not training.done
    escaped = str(out).replace("'", "\\'")
    assert f"data.path='{escaped}'" in training.lines
    assert "model=gpt2-nano" in training.lines
    assert training.lines[-3:] == ["evaluate", "--checkpoint", str(training.folder)]
    assert json.dumps(training.lines)
    assert results.test_path(out).name == "labels.test.csv"


def test_what_is_trained_is_told_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt_classifier.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    told: list[Path] = []
    training = Training(tmp_path / "labels.csv", done=told.append)
    training._thread.join(20)
    assert training.done
    assert told == [training.folder]


@pytest.mark.parametrize("name", ["a.csv", "it's a.csv", "ü,x=1.csv", "a\\b.csv", "a\\'b.csv", "a b\\"])
def test_train_reads_the_path_that_was_meant(name: str) -> None:
    written = f"data.path={results._quoted(Path('/folder') / name)}"
    assert OverridesParser.create().parse_override(written).value() == f"/folder/{name}"
