"""The texts of late beside those of validation, as numbers: no text is kept."""

from collections.abc import Sequence

import numpy as np

from gpt_classifier.evaluation.profile import Profile, shares_of, stability_index, unknown_bytes
from gpt_classifier.serving.served import Answer

WINDOW = 1_000  # texts
FEWEST = 100  # of them before anything is compared


class Drift:
    """What the last texts were like: tokens, confidence, predicted class and bytes of unknown characters of each.

    Args:
        profile: of validation; `None` if it is not known.
    """

    def __init__(self, profile: Profile | None) -> None:
        self.profile = profile
        self._characters = frozenset(profile.characters) if profile else frozenset()
        self._rows = np.zeros((WINDOW, 5))
        self.seen = 0

    def add(self, texts: Sequence[str], answer: Answer) -> None:
        """Take in what was answered."""
        predicted, confidence = answer.probabilities.argmax(axis=1), answer.probabilities.max(axis=1)
        for i, text in enumerate(texts):
            unknown = unknown_bytes(text, self._characters) if self.profile else (0, 1)
            self._rows[self.seen % WINDOW] = (answer.tokens[i], confidence[i], predicted[i], *unknown)
            self.seen += 1

    def summary(self) -> dict[str, float]:
        """How far the last texts are from validation, empty as long as there are too few or nothing to compare with.

        Returns:
            The population stability index of `tokens`, `confidence` and `classes`.
        """
        rows, profile = self._last(), self.profile
        if profile is None or len(rows) < FEWEST:
            return {}
        messages = min(len(rows), profile.messages)
        found = {}
        for column, (name, reference) in enumerate((("tokens", profile.tokens), ("confidence", profile.confidence))):
            places = np.searchsorted(reference.edges, rows[:, column].astype(np.float32), "right")
            found[name] = stability_index(shares_of(places, len(reference.shares)), reference.shares, messages)
        classes = shares_of(rows[:, 2].astype(int), len(profile.classes))
        return {**found, "classes": stability_index(classes, profile.classes, messages)}

    def means(self) -> dict[str, float]:
        """Of the last texts: mean `tokens`, mean `confidence` and, with a profile, the share of `unknown_bytes`."""
        rows = self._last()
        if not len(rows):
            return {}
        found = {"tokens": float(rows[:, 0].mean()), "confidence": float(rows[:, 1].mean())}
        return found | ({"unknown_bytes": float(rows[:, 3].sum() / rows[:, 4].sum())} if self.profile else {})

    def _last(self) -> np.ndarray:
        return self._rows[: min(self.seen, WINDOW)]
