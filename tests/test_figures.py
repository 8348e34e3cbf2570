"""Pictures say what they are made of."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest

from gpt_classifier import figures
from gpt_classifier.figures import BLUE, MUTED, STRONGEST, confusion_matrix, f1_by_class, plain, precision_recall

PROBABILITIES = np.array([[0.1, 0.9], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]])


def test_precision_recall_draws_a_point_for_each_threshold() -> None:
    (line,) = precision_recall(PROBABILITIES, np.array([0, 1, 1, 0]), ["ham", "spam"], [1]).axes[0].lines
    points = sorted(zip(line.get_xdata(), line.get_ydata(), strict=True))
    np.testing.assert_allclose(points, [(0, 0), (0.5, 0.5), (1, 0.5), (1, 2 / 3)], atol=1e-6)
    assert line.get_color() == BLUE


def test_classes_without_a_message_are_left_out_and_nothing_is_complained_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = precision_recall(PROBABILITIES, np.array([0, 0, 0, 0]), ["ham", "spam"], [0, 1]).axes[0]
        assert [line.get_label() for line in axes.lines] == ["ham"]
        axes = precision_recall(PROBABILITIES, np.array([0, 0, 0, 0]), ["ham", "spam"], [1]).axes[0]
        assert not axes.lines


def test_mistakes_are_shaded_by_their_part_of_the_class_and_the_diagonal_is_grey() -> None:
    axes, scale = confusion_matrix([[90, 10], [20, 20]], ["ham", "spam"]).axes
    assert [text.get_text() for text in axes.texts] == ["90", "10", "20", "20"]
    cells = axes.images[0].get_array()
    ham_as_spam, spam_as_ham = cells[0, 1], cells[1, 0]
    assert spam_as_ham[3] == pytest.approx(STRONGEST, abs=0.01)
    assert ham_as_spam[3] == pytest.approx(STRONGEST * 0.1 / 0.5, abs=0.01)
    for grey in (cells[0, 0], cells[1, 1]):
        assert grey[0] == grey[1] == grey[2]
        assert grey[3] == MUTED
    assert scale.get_ylim() == (0, 0.5)


def test_shades_of_a_part_of_the_classes_count_all_messages_of_these() -> None:
    _, scale = confusion_matrix([[0, 5], [0, 0]], ["a", "b"], support=np.array([50, 10])).axes
    assert scale.get_ylim() == (0, 0.1)


def test_counts_are_written_where_they_fit() -> None:
    matrix = np.full((40, 40), 3)
    matrix[0, 1] = 1_234_567
    written = [text.get_text() for text in confusion_matrix(matrix, [str(i) for i in range(40)]).axes[0].texts]
    assert written == ["3"] * 1599
    matrix[:, 5] = 0
    assert len(confusion_matrix(matrix, [str(i) for i in range(40)]).axes[0].texts) == 1559


def test_without_a_mistake_or_a_message_there_is_a_picture() -> None:
    for matrix in ([[3, 0], [0, 2]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            confusion_matrix(matrix, ["a", "b"]).savefig(io.BytesIO())


def test_bars_are_in_the_given_order_from_above() -> None:
    axes = f1_by_class([0.2, 0.9], [1234, 5], ["spam", "ham"]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.2, 0.9]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["spam (1,234)", "ham (5)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_characters_that_no_font_has_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "font_families", lambda: ["DejaVu Sans"])
    figure = confusion_matrix([[1, 2], [3, 4]], ["日本", "naïve"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save(figure, tmp_path / "confusion.png")
    (record,) = caplog.records
    assert "confusion.png shows boxes for characters that no installed font has: 日本." in record.getMessage()
    caplog.clear()
    figures.save(confusion_matrix([[1, 2], [3, 4]], ["né", "naïve"]), tmp_path / "confusion.png")
    assert not caplog.records


def test_other_fonts_are_asked_for_names_in_other_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "font_families", lambda: ["DejaVu Sans", "Noto Sans CJK JP"])
    axes = confusion_matrix([[1, 2], [3, 4]], ["日本", "ham"]).axes[0]
    asked = {label.get_text(): label.get_fontfamily() for label in axes.get_yticklabels()}
    assert asked["日本"] == ["DejaVu Sans", "Noto Sans CJK JP"]
    assert asked["ham"] == ["sans-serif"]


def test_names_are_drawn_as_they_are() -> None:
    assert plain("$5 and\n$6") == r"\$5 and \$6"
    assert plain("_private").lstrip() == "_private"
    assert plain("x" * 30) == "x" * 19 + "…"
    assert plain(" ") == "␣"
    assert plain("a\u202eb\u200d") == "ab"
    assert plain("a\x1bb") == "a�b"
