"""The page of an evaluation: what it says, for few and many classes, good and bad ones."""

import warnings
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpt_classifier.evaluation import metrics, page
from gpt_classifier.evaluation.metrics import Predictions
from gpt_classifier.evaluation.page import Subject, render
from gpt_classifier.evaluation.pictures import INK
from gpt_classifier.evaluation.reference import Reference


class Tables(HTMLParser):
    """Rows of the tables of a page, the opening tags and the identifiers."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.in_cell = False
        self.identifiers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.identifiers += [value or "" for name, value in attributes if name == "id"]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data


def found(labels: list[int], predicted: list[int], names: list[str], texts: list[str] | None = None) -> Predictions:
    logits = np.zeros((len(labels), len(names)), np.float32)
    logits[np.arange(len(labels)), predicted] = np.linspace(2, 4, len(labels))
    texts = texts or [f"message {i}" for i in range(len(labels))]
    return Predictions(texts, np.array(labels), logits, np.arange(len(labels)) + 1, names)


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_inside", lambda subject, temperature: {})
    monkeypatch.setattr(metrics, "WORK", 0)  # the fewest resamples


def rendered(reported: Predictions, **options: Any) -> str:
    predictor: Any = SimpleNamespace(temperature=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return render(Subject(predictor, reported, None, "Evaluation of run", "test messages", **options))[0]


def test_classes_are_listed_worst_first_and_those_without_messages_last() -> None:
    names = ["good", "bad", "absent", "middling"]
    rows = Tables(rendered(found([0, 0, 1, 1, 1, 3, 3, 3], [0, 0, 0, 3, 1, 3, 3, 1], names))).rows
    start = rows.index(next(row for row in rows if row and row[0] == "class"))
    assert [row[0] for row in rows[start + 1 : start + 5]] == ["bad", "middling", "good", "absent"]
    assert rows[start + 1] == ["bad", "40.00%", "50.00%", "33.33%", "3", "good (1)"]
    assert rows[start + 4] == ["absent", "–", "–", "–", "0", ""]


def test_confused_pairs_have_messages() -> None:
    rows = Tables(rendered(found([0, 0, 0, 1, 2], [1, 1, 0, 1, 0], ["a", "b", "c"]))).rows
    assert ["a", "b", "2", "67%", "message 1message 0"] in rows
    assert ["c", "a", "1", "100%", "message 4"] in rows


def test_references_stand_beside_accuracy_and_one_that_is_better_is_said() -> None:
    references = [
        Reference("linear model", "a linear SVM", 3, 0.75, 0.7, 0.8),
        Reference("majority class", "“a” for every message", 2, 0.5, 1 / 3, 1.0),
    ]
    html = rendered(found([0, 0, 1, 1], [0, 1, 0, 1], ["a", "b"]), references=references, reference_note="Note.")
    assert "<dt>linear model</dt><dd>75.00%</dd><dt>majority class</dt><dd>50.00%</dd>" in html
    assert "<dd>33.33%</dd>" in html
    said = "The linear model has 1 more of these messages right"
    assert f"{said}, which may be chance (McNemar’s test, p=0.80)." in html
    assert f"{said}." in rendered(
        found([0, 0, 1, 1], [0, 1, 0, 1], ["a", "b"]), references=[replace(references[0], p_value=0.01)]
    )
    assert "The majority class has" not in html
    assert "Note." in html


def test_names_and_messages_are_text_whatever_they_contain() -> None:
    names = ["<script>alert(1)</script>", "日本語", "$x$ & </svg>", "n" * 500]
    texts = ["<img src=x onerror=alert(2)>", "bell \x07", "{{ 7 * 7 }}", "</td>" * 1000]
    html = rendered(found([0, 1, 2, 3], [1, 2, 3, 0], names, texts))
    parsed = Tables(html)
    assert parsed.tags.count("script") == 1
    assert "img" not in parsed.tags
    cells = {cell for row in parsed.rows for cell in row}
    assert {"<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "bell �", "{{ 7 * 7 }}"} <= cells
    assert "n" * 39 + "…" in cells
    assert max(map(len, cells)) <= page.LONGEST_MESSAGE


def test_a_mistake_has_the_first_other_columns_of_its_source() -> None:
    others = {
        "id": ["m-0", "m-1", "m-2"],
        "<b>from</b>": ["", "<i>" + "x" * 500, ""],
        "score": [1, None, float("nan")],
        "fourth": ["not shown"] * 3,
    }
    html = rendered(found([0, 0, 1], [0, 1, 0], ["a", "b"]), others=others)
    parsed = Tables(html)
    assert "i" not in parsed.tags
    shown = [row[-1] for row in parsed.rows if row[:2] in (["a", "b"], ["b", "a"])]
    assert shown == ["message 2id: m-2", f"message 1id: m-1 · <b>from</b>: <i>{'x' * 36}…"]
    assert "m-0" not in html
    assert "not shown" not in html


def test_pictures_are_drawn_in_the_ink_of_the_page_and_share_no_names() -> None:
    html = rendered(found([0, 0, 1, 1], [0, 1, 0, 1], ["a", "b"]))
    assert html.count("<svg") == 4
    assert "var(--ink)" in html
    assert INK not in html
    identifiers = Tables(html).identifiers
    assert len(identifiers) == len(set(identifiers))
    assert "<style type" not in html


@pytest.mark.parametrize(
    ("labels", "predicted", "classes"),
    [([0], [0], 2), ([1], [0], 3), ([0, 1, 2], [0, 1, 2], 3), ([0, 0, 1], [1, 1, 0], 2), ([0, 5], [5, 0], 6)],
    ids=["one message", "one mistake", "no mistake", "nothing right", "absent classes"],
)
def test_there_is_a_page_whatever_was_found(labels: list[int], predicted: list[int], classes: int) -> None:
    html = rendered(found(labels, predicted, [f"c{i}" for i in range(classes)]))
    assert ("There are none." in html) == (labels == predicted)
    assert ("1 test message ·" in html) == (len(labels) == 1)
    assert ("ROC curve" in html) == (classes == 2 and len(set(labels)) == 2)


def test_of_hundreds_of_classes_the_worst_are_drawn() -> None:
    classes = 600
    labels = list(range(classes)) * 2
    predicted = [*range(classes), *((i + 1) % classes for i in range(classes))]
    html = rendered(found(labels, predicted, [f"c{i}" for i in range(classes)]))
    assert "The 30 classes with the worst F1" in html
    assert "the 30 most confused of 600 classes" in html
    assert "100 more are in classes.csv" in html
    assert len(html) < 400_000


def test_a_curve_names_its_class() -> None:
    assert "ROC curve of spam; AUROC" in rendered(found([0, 1], [0, 1], ["ham", "spam"]))
    assert "ROC curve of class 1; AUROC" in rendered(found([0, 1], [0, 1], ["0", "1"]))
