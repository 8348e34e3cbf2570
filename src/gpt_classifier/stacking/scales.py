"""How much a fine-tuned model and a linear one count: a logistic regression with one weight for each.

It is pulled to equal weights of models that are each calibrated by a temperature (Guo et al., "On Calibration
of Modern Neural Networks", 2017), so that some dozens of messages suffice.
"""

import numpy as np

PULL = 3.0  # strength of the penalty, in messages
LEAST, MOST = 1e-2, 1e2  # of the scale of one model


def fit_scales(logits: np.ndarray, margins: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The scales of logits and margins in their sum.

    Args:
        logits: `(N, C)`, of messages that the model was not trained on.
        margins: `(N, C)`, likewise.
        labels: `(N,)` class ids.

    Returns:
        Of the logits and of the margins, neither below 0.
    """
    from scipy.optimize import minimize

    own = np.array([_scale(part, labels) for part in (logits, margins)])
    parts = np.stack([logits * own[0], margins * own[1]]).astype(np.float64)  # (2, N, C)

    def penalised(weights: np.ndarray) -> float:
        joined = np.tensordot(weights, parts, axes=1)
        return loss(joined, labels) * len(labels) + PULL * float(((weights - 0.5) ** 2).sum())

    found = minimize(penalised, [0.5, 0.5], method="L-BFGS-B", bounds=[(0, None)] * 2).x
    model, linear = (found * own).tolist()
    return model, linear


def _scale(logits: np.ndarray, labels: np.ndarray) -> float:
    """By which logits have the lowest loss."""
    from scipy.optimize import minimize_scalar

    bounds = np.log([LEAST, MOST])
    found = minimize_scalar(lambda x: loss(logits * np.exp(x), labels), bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def calibrated_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """The lowest loss that a scale gives them."""
    return loss(logits * _scale(logits, labels), labels)


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats of logits `(N, C)` and class ids `(N,)`."""
    highest = logits.max(axis=1)
    total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((total - logits[np.arange(len(labels)), labels]).mean())
