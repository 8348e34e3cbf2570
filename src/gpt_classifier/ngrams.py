"""N-grams of words and characters, read by a linear model beside a fine-tuned one: as numbers and text, for files.

Its margins and the logits of the fine-tuned model, each times a scale of its own, are added (stacked generalisation:
Wolpert, "Stacked Generalization", 1992). The scales are fitted in `gpt_classifier.stacking`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gpt_classifier.errors import UserError

WORD = r"(?u)\b\w+\b"  # scikit-learn's own pattern asks for two letters: some texts have no longer word
ABSENT = 10.0
"""How far below the lowest the margin of a class is that the training texts do not have."""


@dataclass(frozen=True)
class Counted:
    """What a part of the features counts.

    Args:
        analyzer: `word`, `char`, or `char_wb` for characters within words.
        lowest: words or characters of the shortest n-gram.
        highest: of the longest.
        sublinear: whether an n-gram that occurs n times counts 1 + ln n.
    """

    analyzer: str
    lowest: int
    highest: int
    sublinear: bool = True

    @classmethod
    def by(cls, vectorizer: Any) -> "Counted":
        """What one of scikit-learn's vectorizers counts."""
        lowest, highest = vectorizer.ngram_range
        return cls(vectorizer.analyzer, lowest, highest, vectorizer.sublinear_tf)

    def vectorizer(self, **options: Any) -> Any:
        """scikit-learn's TF-IDF of these n-grams, with further options of its own."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        options |= {"token_pattern": WORD} if self.analyzer == "word" else {}
        return TfidfVectorizer(
            analyzer=self.analyzer,
            ngram_range=(self.lowest, self.highest),
            sublinear_tf=self.sublinear,
            **options,
        )

    def __str__(self) -> str:
        unit = {"word": "words", "char": "characters", "char_wb": "characters within words"}[self.analyzer]
        return f"{self.lowest}-{self.highest} {unit}"


@dataclass(frozen=True)
class Part:
    """TF-IDF of some n-grams, each text a vector of length 1.

    Args:
        counted: what is counted.
        terms: F n-grams.
        idf: `(F,)` float32.
    """

    counted: Counted
    terms: list[str]
    idf: np.ndarray

    @classmethod
    def of(cls, counted: Counted, vectorizer: Any) -> "Part":
        """What a fitted vectorizer of scikit-learn counts."""
        terms = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
        return cls(counted, terms, vectorizer.idf_.astype(np.float32))

    @cached_property
    def _vectorizer(self) -> Any:
        try:
            vectorizer = self.counted.vectorizer(vocabulary={term: i for i, term in enumerate(self.terms)})
        except ImportError as error:
            raise UserError(
                "This classifier was trained with with_ngrams=true, and counts them with scikit-learn, which is not "
                'installed: pip install "gpt-classifier[compare]".'
            ) from error
        vectorizer.idf_ = self.idf.astype(np.float64)
        return vectorizer

    def features(self, texts: Sequence[str]) -> Any:
        """A sparse matrix `(N, F)`."""
        return self._vectorizer.transform(texts)


@dataclass(frozen=True)
class NGrams:
    """A linear model of n-grams, and how it is joined with a fine-tuned model of the same C classes.

    Args:
        parts: of the features, side by side: F of them in all.
        weight: `(F, C)` float16, columns in the order of the task's classes.
        bias: `(C,)` float32.
        scales: of the fine-tuned model's logits, and of the margins, in their sum.
    """

    parts: tuple[Part, ...]
    weight: np.ndarray
    bias: np.ndarray
    scales: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, parts: Sequence[Part], classifier: Any, class_names: Sequence[str]) -> "NGrams":
        """A fitted linear classifier of scikit-learn, its weights rounded to float16.

        Args:
            parts: what it reads.
            classifier: with `coef_`, `intercept_` and `classes_`.
            class_names: of all C classes, in order; one that it does not know is `ABSENT` below its bias.
        """
        coefficients, intercept = classifier.coef_, classifier.intercept_
        if len(classifier.classes_) == 2:  # one margin for both
            coefficients, intercept = (np.concatenate([-part, part]) / 2 for part in (coefficients, intercept))
        weight = np.zeros((coefficients.shape[1], len(class_names)), dtype=np.float16)
        bias = np.full(len(class_names), intercept.min() - ABSENT, dtype=np.float32)
        places = [list(class_names).index(str(name)) for name in classifier.classes_]
        weight[:, places], bias[places] = coefficients.T, intercept
        return cls(tuple(parts), weight, bias)

    def scaled(self, model: float, margins: float) -> "NGrams":
        """The same with other scales."""
        return replace(self, scales=(model, margins))

    @cached_property
    def _weight(self) -> np.ndarray:
        return self.weight.astype(np.float32)

    def margins(self, texts: Sequence[str]) -> np.ndarray:
        """`(N, C)` float32.

        Raises:
            UserError: scikit-learn is not installed.
        """
        if not len(texts):
            return np.empty((0, len(self.bias)), dtype=np.float32)
        return self.margins_of([part.features(texts) for part in self.parts])

    def margins_of(self, features: Sequence[Any]) -> np.ndarray:
        """The same from a sparse matrix `(N, F)` of each part."""
        found = np.tile(self.bias, (features[0].shape[0], 1))
        first = 0
        for own in features:
            last = first + own.shape[1]
            found += own.astype(np.float32) @ self._weight[first:last]
            first = last
        return found

    def joined(self, logits: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Logits `(N, C)` float32 of both.

        Args:
            logits: `(N, C)` of the fine-tuned model, columns in the order of the task's classes.
            texts: N.
        """
        return self.sum_of(logits, self.margins(texts))

    def sum_of(self, logits: np.ndarray, margins: np.ndarray) -> np.ndarray:
        """The same from margins `(N, C)`."""
        model, linear = (np.float32(scale) for scale in self.scales)
        return model * logits + linear * margins

    @property
    def megabytes(self) -> float:
        """What it takes in a file, 10^6 bytes."""
        return sum(array.nbytes for array in self.state()[1].values()) / 1e6

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Plain values, and arrays by name: what a file keeps."""
        plain = {
            "parts": [{**vars(part.counted), "terms": len(part.terms)} for part in self.parts],
            "scales": list(self.scales),
        }
        terms = json.dumps([term for part in self.parts for term in part.terms], ensure_ascii=False)
        arrays = {
            "terms": np.frombuffer(bytearray(terms.encode("utf-8", "surrogatepass")), dtype=np.uint8),
            "idf": np.concatenate([part.idf for part in self.parts]),
            "weight": self.weight,
            "bias": self.bias,
        }
        return plain, arrays

    @classmethod
    def from_state(cls, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "NGrams":
        """Read what `state` gave.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        terms = json.loads(arrays["terms"].tobytes().decode("utf-8", "surrogatepass"))
        parts, first = [], 0
        for given in plain["parts"]:
            options = dict(given)
            last = first + options.pop("terms")
            parts.append(Part(Counted(**options), terms[first:last], arrays["idf"][first:last]))
            first = last
        weight, bias = arrays["weight"], arrays["bias"]
        if not first == len(terms) == len(arrays["idf"]) == len(weight) or weight.shape[1:] != bias.shape:
            raise ValueError("its n-grams and their weights are not of one number")
        model, margins = map(float, plain["scales"])
        return cls(tuple(parts), weight, bias, (model, margins))


def told(facts: Mapping[str, Any]) -> str:
    """What the model, n-grams and both were worth, as `gpt_classifier.stacking` measured it, in a line."""
    split = "val" if "val" in facts else "held_out"
    found = facts[split]
    each = [
        f"{found[name]['accuracy']:.2%} ({found[name]['macro_f1']:.3f}) {words}"
        for name, words in (("model", "by the model alone"), ("ngrams", "by n-grams alone"), ("joined", "by both"))
    ]
    where = "validation" if split == "val" else "out-of-fold"
    return f"{where} accuracy (macro F1) {', '.join(each)}; {facts['ngrams']}: {facts['megabytes']:.1f} MB"
