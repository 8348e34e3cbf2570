"""Pictures say what they are made of."""

import warnings

import numpy as np

from gpt_classifier.figures import BLUE, confusion_matrix, plain, precision_recall

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


def test_confusion_matrix_shows_counts_in_a_colour_that_can_be_read() -> None:
    for dark, expected in ((False, ["white", "black"]), (True, ["black", "white"])):
        texts = confusion_matrix([[1234, 0], [5, 5]], ["ham", "spam"], dark=dark).axes[0].texts
        assert [text.get_text() for text in texts] == ["1,234", "0", "5", "5"]
        assert [text.get_color() for text in texts[:2]] == expected


def test_names_are_drawn_as_they_are() -> None:
    assert plain("$5 and\n$6") == r"\$5 and \$6"
    assert plain("_private").lstrip() == "_private"
    assert plain("x" * 30) == "x" * 19 + "…"
    assert plain(" ") == "␣"
