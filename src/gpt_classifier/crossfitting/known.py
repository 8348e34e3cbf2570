"""Messages with known labels that neither trained nor chose a classifier: what a promise about it is made on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt_classifier.crossfitting.out_of_fold import OutOfFold
from gpt_classifier.crossfitting.report import newest
from gpt_classifier.decisions.prior import prior_of, reweighted
from gpt_classifier.decisions.rule import Rule, promising
from gpt_classifier.decisions.selective import Chosen, Promise
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.evaluation.abstaining import candidates
from gpt_classifier.evaluation.messages import run_metrics, run_settings, run_splits
from gpt_classifier.inference.text_predictor import TextPredictor


@dataclass(frozen=True)
class Known:
    """N messages.

    Args:
        probabilities: `(N, C)` of the classifier's classes.
        labels: `(N,)` class ids.
        name: of the messages, in words.
        tests: how many models they chose among.
        note: what limits a promise that is made on them, or an empty string.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    name: str
    tests: int = 1
    note: str = ""


def known_messages(name: str, checkpoint: Path, predictor: TextPredictor, costs: bool) -> Known:
    """Messages to choose a threshold on.

    Args:
        name: `val` or `test` of the run that trained the classifier, or a folder that cross-fitting wrote.
        checkpoint: of the classifier.
        predictor: the classifier.
        costs: whether decisions are by expected cost.

    Raises:
        UserError: there are none, or they are of other classes.
    """
    if name not in ("val", "test"):
        return _out_of_fold(newest(name, Path("outputs")), predictor)
    frame = run_splits(checkpoint)
    own = None if frame is None else frame[frame["split"] == name]
    if own is None or own.empty:
        raise UserError(
            f"--chosen-on: there are no {name} messages beside {checkpoint}. Name a folder that gpt-classifier "
            f"crossfit wrote, or a checkpoint of a run that has such messages."
        )
    if name == "val" and predictor.temperature != 1 and (costs or len(predictor.classes) > 2):
        raise UserError(
            "--chosen-on: the validation messages chose the temperature of this checkpoint, and can't choose a "
            "threshold too. Use --chosen-on test."
        )
    place = {label: i for i, label in enumerate(predictor.classes)}
    labels = np.array([place[label] for label in own["label"]])
    tests = candidates(run_settings(checkpoint)) if name == "val" else 1
    kind = "validation" if name == "val" else "test"
    return Known(predictor.predict_proba(own["text"].tolist()), labels, f"{kind} messages of its run", tests)


def _out_of_fold(path: Path, predictor: TextPredictor) -> Known:
    found = OutOfFold.read(path)
    if set(found.class_names) != set(predictor.classes):
        known = ", ".join(predictor.classes[:10])
        raise OptionError("--chosen-on", f"messages of the classes {known}", f"{path}, which has other classes")
    found = found.ordered(predictor.classes)
    note = (
        "These messages were predicted by models that were trained as this one, not by it: the promise is about such "
        "models. --chosen-on test or val is about this one."
    )
    return Known(found.probabilities, found.predictions.labels, "out-of-fold messages", note=note)


def trained_prior(checkpoint: Path, class_names: Sequence[str]) -> np.ndarray:
    """The part of each class in what a classifier was trained on, weights counted, `(C,)`.

    Raises:
        UserError: the run's folder does not say.
    """
    try:
        counts = run_metrics(checkpoint)["data"]["splits"]["train"]
        found = np.array([counts[name] for name in class_names], dtype=np.float64)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"--prior: how frequent classes were in training is not known, as metrics.json of the run is not beside "
            f"{checkpoint}, or has too many classes. Name a run's checkpoint."
        ) from error
    if run_settings(checkpoint).get("data.balance") == "weights":
        found = (found > 0).astype(np.float64)
    return found / found.sum()


@dataclass(frozen=True)
class Prior:
    """Frequencies of the classes: `(C,)` in training, and where the texts come from."""

    trained: np.ndarray
    wanted: np.ndarray

    @classmethod
    def of(cls, given: Sequence[str], checkpoint: Path, class_names: Sequence[str]) -> "Prior":
        """What `--prior CLASS=PART …` says; raises as `prior_of` and `trained_prior` do."""
        trained = trained_prior(checkpoint, class_names)
        return cls(trained, prior_of(given, class_names, trained))

    def reweighted(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities `(N, C)` for the wanted frequencies."""
        return reweighted(probabilities, self.trained, self.wanted)


def promised(
    known: Known, promise: Promise, costs: np.ndarray | None, by_class: bool, names: Sequence[str]
) -> tuple[Rule, list[str]]:
    """A rule that keeps a promise, and sentences about it: what is promised, and what it does on these messages.

    Args:
        known: messages.
        promise: about the errors among what is answered.
        costs: of mistakes, or `None`.
        by_class: promise it of each decided class.
        names: of the classes.

    Raises:
        UserError: it can't be promised, of no class.
    """
    own = Promise(promise.rate, promise.confidence, known.tests)
    rule, chosen = promising(known.probabilities, known.labels, own, costs, by_class)
    told = [f"{'' if i < 0 else f'{names[i]}: '}{_told(one, known.name)}" for i, one in chosen.items()]
    among = f", whichever of the {known.tests} models these messages chose among" if known.tests > 1 else ""
    if all(one.threshold is None for one in chosen.values()):
        raise UserError(
            f"--abstain: it can't be promised that {promise}{among}. {'; '.join(told)}. Ask for a larger --abstain "
            f"or a lower --confidence, or choose on more messages (--chosen-on)."
        )
    first = f"{promise}{', of each class' if by_class else ''}{among}"
    return rule, [first, *told, *([known.note] if known.note else [])]


def _told(one: Chosen, name: str) -> str:
    if one.threshold is None:
        return f"no threshold on {one.messages:,} {name} keeps it, so that nothing is answered: {one.why}"
    part = f"{one.answered:,} of {one.messages:,} {name}, {one.errors:,} of them wrong (at most {one.bound:.2%})"
    above = "everything" if one.threshold == -np.inf else f"above a probability of {one.probability:.6g}"
    return f"answers {above}: {part}"
