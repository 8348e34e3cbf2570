"""Which texts are worth a label: uncertain ones that differ from each other."""

import numpy as np


def propose(
    points: np.ndarray,
    probabilities: np.ndarray | None,
    candidates: np.ndarray,
    labelled: np.ndarray,
    number: int,
    random: np.random.Generator,
) -> list[int]:
    """Texts to label next, the first ones first.

    Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds" (BADGE, ICLR 2020): of each
    text the gradient of the loss in the last layer, if the predicted class were the true one, is long where the
    classifier is unsure. The longest comes first, and k-means++ draws ones that are far from each other and, unlike
    there, from 0, where those of sure texts are: otherwise one of these is drawn with each batch. Without a classifier
    texts are drawn that are far from each other and from labelled ones.

    Args:
        points: `(N, D)` what the last layer reads of each text, of length 1 on average.
        probabilities: `(N, C)`, or `None` without a classifier.
        candidates: `(M,)` places of the texts to choose from.
        labelled: places of those that have a label.
        number: how many; fewer where there are fewer candidates.
        random: draws.
    """
    if not len(candidates):
        return []
    if probabilities is None:
        residuals, anchors = np.ones((len(candidates), 1)), labelled
    else:
        residuals, anchors = probabilities[candidates].astype(np.float64), labelled[:0]
        residuals[np.arange(len(candidates)), residuals.argmax(axis=1)] -= 1  # (M, C)
    read = _with_bias(points[candidates])  # (M, D + 1)
    lengths = (residuals**2).sum(axis=1) * (read**2).sum(axis=1)  # squared, of the gradients residual × read
    distances = lengths.copy()
    if len(anchors):
        distances = _nearest(read, _with_bias(points[anchors]))
    chosen: list[int] = []
    for _ in range(min(number, len(candidates))):
        weights = np.maximum(distances, 0)
        weights[chosen] = 0
        total = weights.sum()
        if not chosen:
            place = int(distances.argmax())
        elif total > 0:
            place = int(random.choice(len(candidates), p=weights / total))
        else:  # those that are left equal one that was chosen
            place = int(random.choice(np.setdiff1d(np.arange(len(candidates)), chosen)))
        products = (residuals @ residuals[place]) * (read @ read[place])
        distances = np.minimum(distances, lengths + lengths[place] - 2 * products)
        chosen.append(place)
    return candidates[chosen].tolist()


def _with_bias(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1), dtype=points.dtype)], axis=1)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distance of each point to the nearest of some others."""
    nearest = np.full(len(points), np.inf)
    for other in others:
        nearest = np.minimum(nearest, ((points - other) ** 2).sum(axis=1))
    return nearest
