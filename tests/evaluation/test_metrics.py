"""Numbers about a classifier, against other ways to get them."""

from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics
import torch

from gpt_classifier.evaluation import metrics
from gpt_classifier.evaluation.metrics import Predictions


def made_up(n: int = 400, classes: int = 2, seed: int = 0, scale: float = 2.0) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    logits = random.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1.5
    lengths = random.integers(1, 100, n)
    return Predictions(
        [f"text {i}" for i in range(n)], labels, scale * logits, lengths, [f"c{i}" for i in range(classes)]
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_estimates_are_scikit_learns_and_lie_in_their_intervals(classes: int) -> None:
    found = made_up(classes=classes)
    estimated = metrics.estimates(found)
    probabilities = found.probabilities().astype(float)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    auroc = sklearn.metrics.roc_auc_score(
        found.labels, probabilities[:, 1] if classes == 2 else probabilities, multi_class="ovr", average="macro"
    )
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(found.labels, found.predicted),
        "macro F1": sklearn.metrics.f1_score(found.labels, found.predicted, average="macro"),
        "AUROC": auroc,
        "loss": sklearn.metrics.log_loss(found.labels, probabilities),
    }
    for name, value in expected.items():
        assert estimated[name].value == pytest.approx(value, abs=1e-5)
        assert estimated[name].low < value < estimated[name].high
    # the normal approximation of a proportion's interval
    p = expected["accuracy"]
    width = 2 * 1.96 * (p * (1 - p) / 400) ** 0.5
    assert estimated["accuracy"].high - estimated["accuracy"].low == pytest.approx(width, rel=0.15)


def test_ties_and_missing_classes_are_handled() -> None:
    found = Predictions(["a", "b", "c"], np.array([0, 0, 0]), np.zeros((3, 2), np.float32), np.ones(3), ["a", "b"])
    estimated = metrics.estimates(found)
    assert np.isnan(estimated["AUROC"].value)
    assert estimated["macro F1"] == metrics.Estimate(1.0, 1.0, 1.0)
    tied = Predictions(["a", "b"], np.array([0, 1]), np.zeros((2, 2), np.float32), np.ones(2), ["a", "b"])
    assert metrics.estimates(tied)["AUROC"].value == 0.5


def test_temperature_undoes_the_scale_of_overconfident_logits() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(20_000, 3)) * 1.5
    calibrated = torch.from_numpy(logits).softmax(dim=-1).numpy()
    labels = np.array([random.choice(3, p=row) for row in calibrated])
    found = Predictions([""] * 20_000, labels, (4 * logits).astype(np.float32), np.ones(20_000), ["a", "b", "c"])
    temperature = metrics.fit_temperature(found)
    assert temperature == pytest.approx(4, rel=0.05)
    assert metrics.calibration_error(found, temperature) < 0.02 < metrics.calibration_error(found)


def test_without_a_mistake_there_is_no_temperature_and_an_exact_interval() -> None:
    found = Predictions([""] * 20, np.zeros(20, int), np.tile(np.float32([3, 0]), (20, 1)), np.ones(20), ["a", "b"])
    assert metrics.fit_temperature(found) is None
    assert metrics.estimates(found)["accuracy"].low == pytest.approx(0.8316, abs=1e-4)  # Clopper-Pearson, 20 of 20


def test_the_surer_the_fewer_and_the_better() -> None:
    rows = metrics.coverage(made_up(4000))
    assert rows[0][1] == 1.0
    assert rows[0][2] == pytest.approx(made_up(4000).right.mean())
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
    assert rows[-1][2] > rows[0][2]


def test_threshold_is_the_lowest_that_reaches_the_precision_where_it_is_chosen() -> None:
    chosen, reported = made_up(seed=1), made_up(seed=2)
    rows = {row.wanted: row for row in metrics.thresholds(chosen, reported, positive=1)}
    row = rows[0.95]
    assert row.threshold is not None
    scores = chosen.probabilities()[:, 1]
    at = (chosen.labels == 1)[scores >= row.threshold].mean()
    lower = np.unique(scores)[np.unique(scores) < row.threshold]
    assert at >= 0.95
    assert all((chosen.labels == 1)[scores >= threshold].mean() < 0.95 for threshold in lower)
    flagged = reported.probabilities()[:, 1] >= row.threshold
    assert row.flagged == flagged.sum()
    assert row.precision == pytest.approx((reported.labels == 1)[flagged].mean())
    assert row.recall == pytest.approx(flagged[reported.labels == 1].mean())
    hopeless = Predictions(["a"], np.array([0]), np.zeros((1, 2), np.float32), np.ones(1), ["a", "b"])
    assert all(row.threshold is None for row in metrics.thresholds(hopeless, reported, positive=1))


def test_groups_by_length_cover_every_message_once() -> None:
    found = made_up()
    groups = metrics.by_length(found)
    assert sum(count for _, _, count, _ in groups) == 400
    assert all(low <= high for low, high, _, _ in groups)
    assert all(before[1] < after[0] for before, after in pairwise(groups))
    right = sum(count * accuracy for _, _, count, accuracy in groups)
    assert right == pytest.approx(found.right.sum())


def test_mistakes_are_the_wrong_ones_most_confident_first() -> None:
    found = made_up(classes=4)
    wrong = metrics.mistakes(found)
    assert sorted(wrong) == np.flatnonzero(~found.right).tolist()
    assert (np.diff(found.confidence()[wrong]) <= 0).all()
    pairs = metrics.confusions(found, most=1000)
    assert sum(pair.messages for pair in pairs) == len(wrong)
    assert [pair.messages for pair in pairs] == sorted((pair.messages for pair in pairs), reverse=True)


def test_confused_pairs_have_their_most_confident_messages_as_examples() -> None:
    found = made_up(classes=4)
    names = found.class_names
    rows = [(names[found.labels[i]], names[found.predicted[i]], found.texts[i]) for i in metrics.mistakes(found)]
    for pair in metrics.confusions(found, most=3):
        own = [text for true, predicted, text in rows if (true, predicted) == (pair.true, pair.predicted)]
        assert pair.examples == own[: metrics.EXAMPLES]
        support = (found.labels == found.class_names.index(pair.true)).sum()
        assert pair.part == pytest.approx(pair.messages / support)
    assert len(metrics.confusions(found, most=3)) == 3
