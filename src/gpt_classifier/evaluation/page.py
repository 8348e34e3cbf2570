"""An evaluation as one HTML page that needs nothing beside it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from gpt_classifier import pages
from gpt_classifier.atomic import write_json, write_table, write_text
from gpt_classifier.confusion import MOST_CLASSES, MOST_PAIRS
from gpt_classifier.data.sources import EXTRA, extra_columns
from gpt_classifier.errors import UserError
from gpt_classifier.evaluation import abstaining, metrics, pictures
from gpt_classifier.evaluation.metrics import SURE, Predictions
from gpt_classifier.evaluation.reference import Reference
from gpt_classifier.figures import MOST_CURVES, confusion_matrix, f1_by_class, precision_recall
from gpt_classifier.inference import inside
from gpt_classifier.inference.predictor import Predictor

MOST_ROWS = 500  # classes in the table of the page
MOST_BARS = 30  # classes in the chart
MOST_MISTAKES = 20  # messages in the list
MOST_OTHERS = 3  # other columns of the source below a message
LONGEST_NAME, LONGEST_EXAMPLE, LONGEST_MESSAGE = 40, 200, 1000  # characters


@dataclass
class Subject:
    """What a report is about.

    Args:
        predictor: that was evaluated.
        reported: its predictions for the messages of the report.
        validation: those for messages that thresholds and temperature are chosen on; `None` if there are none.
        title: of the page.
        reported_on: what the messages are called, such as `test messages`.
        facts: in a few words, below the title: which data, when, with which version.
        references: simple classifiers on the same messages.
        reference_note: why one is missing, or an empty string.
        notes: what must be said first.
        origin: names and values about model, data and training.
        duplicates: a sentence about messages in several splits, or an empty string.
        text: the message to look inside; `None` for the most confident mistake.
        positive: of two classes the one that is looked for, by its place.
        tests: how many models the validation messages chose among.
        costs: `(C, C)` of mistakes, rows true classes, columns predicted ones; `None` for none.
        others: other columns of the source, such as an id: for each its values for the messages of the report.
    """

    predictor: Predictor
    reported: Predictions
    validation: Predictions | None
    title: str
    reported_on: str
    facts: list[str] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    reference_note: str = ""
    notes: list[str] = field(default_factory=list)
    origin: list[tuple[str, str]] = field(default_factory=list)
    duplicates: str = ""
    text: str | None = None
    positive: int = 1
    tests: int = 1
    costs: np.ndarray | None = None
    others: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def render(subject: Subject) -> tuple[str, dict[str, Any]]:
    """The page, and the numbers that it shows as plain values."""
    found, names = subject.reported, subject.reported.class_names
    temperature = subject.predictor.temperature
    few = len(names) <= MOST_CURVES
    probabilities = found.probabilities(temperature) if few else np.empty((0, 0))  # what curves are drawn from
    binary, right = len(names) == 2, int(found.right.sum())
    estimated = metrics.estimates(found, temperature)
    fitted = metrics.fit_temperature(subject.validation) if subject.validation else None
    drawn = found.confusion.drawn(names)
    classes = by_class(found)
    choose_on = subject.validation or found
    costs = metrics.thresholds(choose_on, found, subject.positive, temperature) if binary else []
    errors = {"as it is": metrics.calibration_error(found, temperature)}
    after = None
    if fitted is not None and abs(np.log(fitted / temperature)) > 0.01:
        errors["with the fitted temperature"] = metrics.calibration_error(found, fitted)
        after = metrics.reliability(found, fitted)
    before = metrics.reliability(found, temperature)
    validation, costed = subject.validation, None
    promised = []
    if validation and (binary or temperature == 1):  # of more classes, validation chose by it who is surest
        promised = abstaining.promises(validation, found, temperature, subject.tests)
    if subject.costs is not None:
        costed = abstaining.costs_of(found, temperature, subject.costs)
    numbers = {
        "messages": len(found.texts),
        "measured_on": [subject.reported_on, *subject.facts],
        "origin": dict(subject.origin),
        "estimates": {name: vars(estimate) for name, estimate in estimated.items()},
        "references": {one.name: vars(one) for one in subject.references},
        "balanced_accuracy": found.confusion.balanced_accuracy,
        **_told(found, classes),
        "thresholds": [vars(row) for row in costs],
        "promises": promised,
        **({"costs": costed} if costed else {}),
        "temperature": temperature,
        "fitted_temperature": fitted,
        "calibration_error": errors,
    }
    positive = subject.positive
    shown = [positive] if binary else range(len(names))
    figures = {
        "confusion": _picture("confusion", lambda: confusion_matrix(drawn.matrix, drawn.names, support=drawn.support)),
        "reliability": _picture("reliability", lambda: pictures.reliability(before, after)),
        "bars": None if binary else _picture("bars", lambda: f1_by_class(*_bars(found))),
        "roc": None,
        "pr": None,
    }
    several = len(np.unique(found.labels)) > 1  # or there is nothing to tell apart
    if binary and several:
        scores, truth = probabilities[:, positive], found.labels == positive
        figures["roc"] = _picture("roc", lambda: pictures.receiver_operating(scores, truth, names[positive]))
    if few and several:
        figures["pr"] = _picture("pr", lambda: precision_recall(probabilities, found.labels, names, shown))
    facts = [_counted(len(found.texts), subject.reported_on), _counted(len(names), "classes"), *subject.facts]
    page = pages.render(
        "evaluation",
        title=subject.title,
        headline=" · ".join(facts),
        notes=subject.notes,
        messages=_counted(len(found.texts), "messages"),
        tiles=[_tile(name, estimate, subject.references) for name, estimate in estimated.items()],
        references=[(one.name, _printable(one.how)) for one in subject.references],
        reference_note=subject.reference_note,
        better=[(one.name, one.right - right, _chance(one.p_value)) for one in subject.references if one.right > right],
        pictures=figures,
        positive=called(names[positive]) if binary else "",
        auroc=f"{estimated['AUROC'].value:.4f}",
        confused=f"Messages by true and predicted class{drawn.note and ', ' + drawn.note}",
        large=len(drawn.names) > 8,
        most_bars=MOST_BARS,
        classes=_class_rows(found),
        more_classes=max(0, len(names) - MOST_ROWS),
        confusions=[] if binary else [_shown_pair(pair) for pair in metrics.confusions(found, temperature)],
        thresholds=[_shown_threshold(row) for row in costs],
        chosen_on="validation messages" if subject.validation else f"{subject.reported_on} themselves, which flatters",
        reported_on=subject.reported_on,
        coverage=[
            (f"{wanted:.2f}", f"{part:.2%}", f"{accuracy:.2%}")
            for wanted, part, accuracy in metrics.coverage(found, temperature)
        ],
        promises=[_shown_promise(row) for row in promised],
        tests=subject.tests,
        costs=costed,
        calibration=_calibration(errors, temperature, fitted, subject.validation is not None),
        calibrate=after is not None,
        lengths=[
            {"tokens": f"{low}–{high}", "messages": f"{count:,}", "accuracy": f"{part:.2%}"}
            for low, high, count, part in metrics.by_length(found)
        ],
        mistakes=_mistakes(subject, temperature),
        inside=_inside(subject, temperature),
        duplicates=subject.duplicates,
        origin=subject.origin,
    )
    return page, numbers


def _picture(name: str, draw: Callable[[], Figure]) -> Markup:
    return Markup(pictures.svg(draw, name))  # in which matplotlib has escaped the names


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what.removesuffix('s') if number == 1 else what}"


def called(name: str) -> str:
    """A class in a sentence, where a number alone would say nothing."""
    return f"class {name}" if len(name) < 4 and not name.isalpha() else shortened(name)


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """The beginning of a long text, in characters that a page can show."""
    return _printable(text if len(text) <= longest else text[: longest - 1] + "…")


PERCENT = {"accuracy": "accuracy", "macro F1": "macro_f1"}
"""Estimates that are shown in percent, and what a reference calls them."""


def _chance(p_value: float) -> str:
    return "" if p_value < SURE else f", which may be chance (McNemar’s test, p={p_value:.2f})"


def _tile(name: str, estimate: metrics.Estimate, references: Sequence[Reference]) -> dict[str, Any]:
    shape = "{:.2%}" if name in PERCENT else "{:.4f}"
    value, low, high = (
        "–" if np.isnan(part) else shape.format(part) for part in (estimate.value, estimate.low, estimate.high)
    )
    others = [(one.name, shape.format(getattr(one, PERCENT[name]))) for one in references if name in PERCENT]
    interval = "not defined here" if np.isnan(estimate.value) else f"{low} to {high}"
    return {"name": name, "value": value, "interval": interval, "others": others}


def _bars(found: Predictions) -> tuple[list[float], list[int], list[str]]:
    """What `f1_by_class` draws: the classes with the worst F1."""
    counted = found.confusion
    worst = counted.worst_first()
    worst = worst[counted.support[worst] > 0][:MOST_BARS]
    return counted.f1[worst].tolist(), counted.support[worst].tolist(), [found.class_names[i] for i in worst]


def _told(found: Predictions, classes: list[dict[str, Any]]) -> dict[str, Any]:
    """Classes and confusion as numbers; of more than `MOST_CLASSES` classes the most frequent confusions alone."""
    told = found.confusion.told(found.class_names)
    if "confusion_pairs" in told:
        return {"confusion_pairs": told["confusion_pairs"][:MOST_PAIRS]}
    return {"classes": classes, **told}


def by_class(found: Predictions) -> list[dict[str, Any]]:
    """`name`, `messages`, `precision`, `recall` and `f1` of each class; of more than `MOST_CLASSES` the worst first."""
    counted, names = found.confusion, found.class_names
    order = counted.worst_first() if len(names) > MOST_CLASSES else np.arange(len(names))
    rows = zip(counted.support, counted.precision, counted.recall, counted.f1, strict=True)
    table = [tuple(part.item() for part in row) for row in rows]
    return [
        {"name": names[i], **dict(zip(("messages", "precision", "recall", "f1"), table[i], strict=True))} for i in order
    ]


def _class_rows(found: Predictions) -> list[dict[str, Any]]:
    """The worst classes, with numbers to sort by, and the class that each is most often taken for."""
    counted, names = found.confusion, found.class_names
    taken_for: dict[str, str] = {}
    for true, predicted, count in counted.pairs(names):  # the most frequent first
        taken_for.setdefault(true, f"{shortened(predicted)} ({count:,})")
    shown = (  # each with whether it is defined
        (counted.f1, counted.support + counted.claimed),
        (counted.precision, counted.claimed),
        (counted.recall, counted.support),
    )
    return [
        {
            "name": shortened(names[i]),
            "messages": int(counted.support[i]),
            "parts": [(float(part[i]), bool(defined[i])) for part, defined in shown],
            "taken_for": taken_for.get(names[i], ""),
        }
        for i in counted.worst_first()[:MOST_ROWS]
    ]


def _shown_pair(pair: metrics.ConfusedPair) -> dict[str, Any]:
    return {
        "true": shortened(pair.true),
        "predicted": shortened(pair.predicted),
        "messages": f"{pair.messages:,}",
        "part": f"{pair.part:.0%}",
        "examples": [shortened(text, LONGEST_EXAMPLE) for text in pair.examples],
    }


def _shown_threshold(row: metrics.Threshold) -> dict[str, str]:
    return {
        "wanted": f"{row.wanted:.0%}",
        "threshold": "never reached" if row.threshold is None else f"{row.threshold:.6f}",
        "precision": "–" if np.isnan(row.precision) else f"{row.precision:.2%}",
        "recall": f"{row.recall:.2%}",
        "flagged": f"{row.flagged:,}",
    }


def _shown_promise(row: dict[str, Any]) -> dict[str, str]:
    if row["probability"] is None:
        return {"rate": f"{row['rate']:.1%}", "why": row["why"]}
    figures = {"probability": f"{row['probability']:.6f}", "answered": f"{row['answered']:.2%}"}
    return {"rate": f"{row['rate']:.1%}", "why": "", "wrong": f"{row['wrong']:.2%}", **figures}


def _calibration(errors: dict[str, float], temperature: float, fitted: float | None, validated: bool) -> str:
    text = f"Expected calibration error: {errors['as it is']:.4f}"
    if temperature != 1:
        text += f", with the temperature {temperature:.2f} that is stored in the checkpoint"
    if not validated:
        return text + ". There are no validation messages to fit a temperature on."
    if fitted is None:
        return text + ". The validation messages have too few mistakes to fit a temperature on."
    if len(errors) == 1:
        return text + f". The temperature that fits the validation messages best is {fitted:.2f}: nothing to change."
    error = errors["with the fitted temperature"]
    text += f". Dividing the logits by {fitted:.2f}, fitted on the validation messages, makes it {error:.4f}"
    return f"{text} here, and changes no label."


def _mistakes(subject: Subject, temperature: float) -> list[dict[str, str]]:
    found, names = subject.reported, subject.reported.class_names
    confidence = found.confidence(temperature)
    return [
        {
            "label": shortened(names[found.labels[i]]),
            "predicted": shortened(names[found.predicted[i]]),
            "probability": f"{confidence[i]:.4f}",
            "text": shortened(found.texts[i], LONGEST_MESSAGE),
            "others": _others(subject, i),
        }
        for i in metrics.mistakes(found, temperature)[:MOST_MISTAKES].tolist()
    ]


def _others(subject: Subject, place: int) -> str:
    """What the first other columns of the source say of a message."""
    told = ((name, values[place]) for name, values in list(subject.others.items())[:MOST_OTHERS])
    return " · ".join(
        f"{shortened(name)}: {shortened(str(value))}" for name, value in told if not pd.isna(value) and value != ""
    )


def _inside(subject: Subject, temperature: float) -> dict[str, Any]:
    predictor, found = subject.predictor, subject.reported
    names = found.class_names
    place = next(iter(metrics.mistakes(found, temperature).tolist()), 0)  # the first message where none is wrong
    if subject.text:
        which = "The given message."
    elif found.right[place]:
        which = "A message."
    else:
        true, predicted = (shortened(names[ids[place]]) for ids in (found.labels, found.predicted))
        which = f"The most confident mistake: {true}, taken for {predicted}."
    text = subject.text or found.texts[place]
    shown: dict[str, Any] = {"which": which, "others": "" if subject.text else _others(subject, place), "spans": []}
    tokens, weights = inside.attention(predictor, text, most_tokens=40)
    maps = [(len(weights) - 1, head) for head in range(min(6, weights.shape[1]))]
    caption = f"Attention of the last layer, heads 1 to {len(maps)}: what each token (down) looks at (across)"
    cut = len(tokens) < len(predictor.token_rows([text])[0])
    shown["attention_caption"] = f"{caption}; the first {len(tokens)} tokens" if cut else caption
    shown["attention"] = _picture("attention", lambda: pictures.attention_maps(tokens, weights, maps, 3, 2.8))
    with suppress(UserError):  # it can't be asked so
        traced = inside.trace(predictor, text)
        shown["spans"] = spans(traced, names)
        two = f"blue {called(names[0])}, orange {called(names[1])}" if len(names) == 2 else ""
        shown["legend"] = two or "orange, the surer the stronger"
        shown["tipping"] = _picture("tipping", lambda: pictures.tipping(traced.tokens, traced.probabilities, names))
    return shown


def spans(traced: inside.Trace, class_names: Sequence[str]) -> list[dict[str, str]]:
    """Each token with the colour of the prediction after it, the stronger the surer."""
    shown = []
    for token, probabilities in zip(traced.tokens, traced.probabilities, strict=True):
        best = int(probabilities.argmax())
        sure = (float(probabilities[best]) - 1 / len(class_names)) / (1 - 1 / len(class_names))
        blue = len(class_names) == 2 and best == 0
        mixed = [
            round(255 + (full - 255) * (0.15 + 0.75 * sure)) for full in ((85, 136, 187) if blue else (224, 122, 68))
        ]
        title = f"{class_names[best]} {probabilities[best]:.3f}"
        shown.append({"text": _printable(token), "color": "rgb({}, {}, {})".format(*mixed), "title": title})
    return shown


def _printable(text: str) -> str:
    """Without lone surrogates, which no file can hold, and with control characters made visible."""
    text = text.encode("utf-8", "replace").decode()
    return "".join("�" if ord(c) < 32 and c not in "\t\n\r" else c for c in text)


def write(out: Path, subject: Subject, chosen: pd.DataFrame) -> dict[str, Any]:
    """The page, and files with its numbers and messages beside it.

    Args:
        out: folder.
        subject: of the page.
        chosen: its messages, as `predictions_table` takes them.

    Returns:
        The numbers of the page.

    Raises:
        UserError: a file can't be written.
    """
    reported, classes = subject.reported, subject.predictor.classes
    html, numbers = render(subject)
    write_text(out / "report.html", html)
    write_json(out / "evaluation.json", numbers)
    table = predictions_table(chosen, reported, subject.predictor.temperature)
    write_table(out / "predictions.csv", table)
    write_table(out / "mistakes.csv", table[table["label"] != table["predicted_label"]])
    if len(classes) > MOST_CLASSES:
        write_table(out / "classes.csv", pd.DataFrame(by_class(reported)).rename(columns={"name": "class"}))
        pairs = reported.confusion.pairs(classes)
        write_table(out / "confusions.csv", pd.DataFrame(pairs, columns=["true", "predicted", "messages"]))
    return numbers


def predictions_table(chosen: pd.DataFrame, reported: Predictions, temperature: float) -> pd.DataFrame:
    """Each message with its prediction and probabilities.

    Args:
        chosen: messages, with `text`, `label` and perhaps other columns of their source.
        reported: their predictions.
        temperature: of the probabilities.

    Returns:
        Other columns of the source under their names, `text`, `label`, `predicted_label`, and `probability_{class}` of
        each class; of more than `MOST_CLASSES` classes `probability` alone, that of the predicted one.
    """
    names = reported.class_names
    columns = {"text": chosen["text"].to_numpy(), "label": chosen["label"].to_numpy()}
    columns["predicted_label"] = np.array(names, dtype=object)[reported.predicted]
    if len(names) > MOST_CLASSES:
        columns["probability"] = reported.confidence(temperature)
    else:
        probabilities = reported.probabilities(temperature)
        columns |= {f"probability_{name}": probabilities[:, i] for i, name in enumerate(names)}
    others = {name: name.removeprefix(EXTRA) for name in extra_columns(chosen)}
    shown = {name if other in columns else other: chosen[name].to_numpy() for name, other in others.items()}
    return pd.DataFrame({**shown, **columns})
