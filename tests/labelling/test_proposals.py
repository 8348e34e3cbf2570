"""Texts are proposed that the classifier is unsure about and that differ from each other."""

import numpy as np

from gpt_classifier.labelling.proposals import propose

DRAWS = np.random.default_rng(0)


def clusters(centres: list[list[float]], each: int) -> np.ndarray:
    """Points near some centres, as many near each."""
    random = np.random.default_rng(1)
    return np.concatenate([random.normal(centre, 0.01, (each, len(centre))) for centre in centres])


def test_without_a_classifier_texts_are_far_from_each_other_and_from_labelled_ones() -> None:
    points = clusters([[0, 0], [1, 0], [0, 1], [1, 1]], each=25)
    candidates, labelled = np.arange(2, 100), np.array([0, 1])
    for _ in range(20):
        chosen = propose(points, None, candidates, labelled, 3, DRAWS)
        assert sorted(place // 25 for place in chosen) == [1, 2, 3]


def test_texts_are_proposed_that_the_classifier_is_unsure_about() -> None:
    points = clusters([[0, 0], [1, 0]], each=50)
    probabilities = np.tile([0.999, 0.001], (100, 1))
    probabilities[[3, 7, 60, 80]] = [0.55, 0.45]
    for _ in range(20):
        chosen = propose(points, probabilities, np.arange(100), np.array([0]), 2, DRAWS)
        assert set(chosen) <= {3, 7, 60, 80}


def test_unsure_texts_that_are_alike_are_not_proposed_together() -> None:
    points = clusters([[0, 0], [3, 0], [0, 3]], each=20)
    probabilities = np.full((60, 2), 0.5)
    together = [propose(points, probabilities, np.arange(60), np.array([0]), 3, DRAWS) for _ in range(50)]
    assert np.mean([len({place // 20 for place in chosen}) == 3 for chosen in together]) > 0.9


def test_only_candidates_are_proposed_each_once_even_where_all_are_alike() -> None:
    points = np.zeros((10, 2))
    for probabilities in (None, np.full((10, 2), 0.5)):
        chosen = propose(points, probabilities, np.array([2, 5, 7]), np.array([0]), 9, DRAWS)
        assert sorted(chosen) == [2, 5, 7]
    assert propose(points, None, np.array([], dtype=np.int64), np.array([0]), 9, DRAWS) == []


def test_classes_that_are_confused_are_proposed_for_each_pair() -> None:
    points = np.ones((40, 2))
    probabilities = np.tile([0.5, 0.5, 0.0], (40, 1))
    probabilities[20:] = [0.0, 0.5, 0.5]
    pairs = [
        {i // 20 for i in propose(points, probabilities, np.arange(40), np.array([0]), 2, DRAWS)} for _ in range(50)
    ]
    assert np.mean([pair == {0, 1} for pair in pairs]) > 0.9
