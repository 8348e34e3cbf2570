"""Texts, class names and labels that are there already: what is taken, and what is refused in a sentence."""

from pathlib import Path

import pytest

from gpt_classifier.errors import OptionError
from gpt_classifier.labelling.collection import KEYS, Collection, class_names, known_labels
from gpt_classifier.tables.unlabelled import UnlabelledTexts


def test_near_duplicates_are_asked_once_and_rows_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("Call 0800 now!\n\nSee you\ncall 0900 NOW\nBye\n")
    found = Collection.read(UnlabelledTexts(str(path)))
    assert found.texts == ["Call 0800 now!", "See you", "Bye"]
    assert found.rows == [0, 2, 4]
    assert found.found == 4


def test_other_texts_have_another_hash() -> None:
    one, other = Collection.of([(0, "a b"), (1, "c")]), Collection.of([(0, "a"), (1, "b c")])
    assert one.sha256 != other.sha256
    assert one.sha256 == Collection.of([(5, "a b"), (9, "c")]).sha256


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n \n")
    with pytest.raises(OptionError, match="a file with at least one text"):
        Collection.read(UnlabelledTexts(str(path)))


def test_class_names_keep_their_order() -> None:
    assert class_names(" spam, ham ,Other") == ["spam", "ham", "Other"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("ham,spam,ham", "where 'ham' is there 2 times"),
        ("ham,,spam", "where '' is no name"),
        ("ham,nan", "where 'nan' is no name"),
        ("ham", "which has 1"),
        (",".join(f"class{i}" for i in range(len(KEYS) + 1)), f"which has {len(KEYS) + 1}"),
    ],
)
def test_class_names_that_do_not_fit_are_refused(given: str, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        class_names(given)


def test_known_labels_are_read_by_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('text,label,row\n"a, b",spam,3\nc,ham,\nc,ham,\n')
    assert known_labels(path, ["ham", "spam"]) == {"a, b": 1, "c": 0}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text,label\na,eggs\n", "has 'eggs' too"),
        ("text,label\na,ham\na,spam\n", "where 'a' has two"),
        ("text,label\na,\n", "a text and a label in every row"),
        ("body,label\na,ham\n", "a column of"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with pytest.raises(OptionError, match=told) as error:
        known_labels(path, ["ham", "spam"])
    assert error.value.field == "labels"
