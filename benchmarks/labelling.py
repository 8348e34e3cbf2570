"""Accuracy against the number of labels, with true labels as the person: texts as they are proposed, and random ones.

python benchmarks/labelling.py --data labelled.csv --labels 500 --seeds 5 --out labelling.json

Accuracy is of the linear classifier that a session fits, on texts of a test set that no session sees. Labels are those
that it learns from; those of a session's random share, which it measures on, come on top: a fifth of all answers.
With `--tune 100,500`, also that of a fine-tuned classifier on as many labels.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.labelling.collection import Collection
from gpt_classifier.labelling.features import Features, compute_features
from gpt_classifier.labelling.linear import LinearModel, fit_linear, standardised
from gpt_classifier.labelling.session import REFIT, Session
from gpt_classifier.labelling.store import Store
from gpt_classifier.tables.labelled import LabelledFiles
from gpt_classifier.tables.reading import Style

AIMS = (0.95, 0.97)


class Known(LinearModel):
    """A session's model whose activations are computed already."""

    def __init__(self, features: Features, texts: list[str], classes: list[str]) -> None:
        super().__init__({}, texts, classes)
        self.features = features

    def prepare(self, *_: Any) -> np.ndarray:
        assert self.features is not None
        return standardised(self.features.pooled.numpy())


def read(path: Path, text_column: str, label_column: str, most: int | None) -> tuple[list[str], list[str]]:
    """Distinct texts and their labels, perhaps a random part of them."""
    columns = {"text": text_column, "label": label_column}
    found, _ = LabelledFiles(path, columns, Style(), drop_incomplete=True).read()
    collection = Collection.of(list(enumerate(found.columns["text"])))
    chosen = np.random.default_rng(0).permutation(len(collection.rows))[:most]
    rows = [collection.rows[i] for i in chosen]
    return [found.columns["text"][row] for row in rows], [found.columns["label"][row] for row in rows]


def simulate(
    features: Features, texts: list[str], labels: np.ndarray, classes: list[str], seed: int, proposed: bool, most: int
) -> dict[str, Any]:
    """One session, on a random four fifths of the texts; the others test.

    Returns:
        `labels` and `accuracy`, a value a fit; `seconds` of each fit; `stop`, labels at which it was advised to stop.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    test, pool = order[: len(order) // 5], order[len(order) // 5 :]
    collection = Collection.of([(int(place), texts[place]) for place in pool])
    own, unseen = features.only(np.array(collection.rows)), features.only(test)
    found: dict[str, Any] = {"labels": [], "accuracy": [], "seconds": [], "stop": None, "trained": []}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "labels.sqlite", classes, collection.sha256)
        session = Session(collection, classes, store, lambda texts, names: Known(own, texts, names), seed)
        session.prepare()
        if not proposed:
            session._proposed = []  # then the next ones are in a random order
        while session.status().text is not None and len(session.training()) < most:
            for _ in range(REFIT):
                text = session.status().text
                if text is None:
                    break
                session.answer(text, int(labels[collection.rows[text]]))
            began = time.perf_counter()
            session.fit()
            found["seconds"].append(time.perf_counter() - began)
            if not proposed:
                session._proposed = []
            training = session.training()
            if len({label for _, label in training}) < 2:
                continue
            chosen, given = zip(*training, strict=True)
            right = fit_linear(own, chosen, given, classes).probabilities(unseen).argmax(axis=1) == labels[test]
            found["labels"].append(len(training))
            found["accuracy"].append(float(right.mean()))
            evidence = session.evidence()
            if found["stop"] is None and evidence is not None and evidence.stop:
                found["stop"] = len(training)
        found["trained"] = [[collection.rows[text], label] for text, label in session.training()]
        session.close()
    found["test"] = test.tolist()
    return found


def tuned(
    run: dict[str, Any], texts: list[str], labels: np.ndarray, classes: list[str], number: int, params: dict
) -> float:
    """Test accuracy of a classifier that was fine-tuned on the first labels of a session."""
    rows, given = zip(*run["trained"][:number], strict=True)
    classifier = TextClassifier(**params).fit([texts[row] for row in rows], [classes[label] for label in given])
    return classifier.score([texts[row] for row in run["test"]], [classes[label] for label in labels[run["test"]]])


def needed(run: dict[str, Any], aim: float) -> int | None:
    """The least number of labels from which on accuracy stays at an aim or above; `None` if it never does."""
    reached = None
    for number, accuracy in zip(run["labels"], run["accuracy"], strict=True):
        reached = (reached or number) if accuracy >= aim else None
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a table of texts and labels")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--texts", type=int, help="a random part of them (default: all)")
    parser.add_argument("--labels", type=int, default=500, help="labels to learn from (default: 500)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", default="gpt2-nano")
    parser.add_argument("--tune", default="", help="numbers of labels to fine-tune on, such as 100,500")
    parser.add_argument("--out", type=Path, help="JSON with all figures")
    options = parser.parse_args()
    try:
        texts, names = read(options.data, options.text_column, options.label_column, options.texts)
    except OptionError as error:
        error.field = "--data"
        raise SystemExit(str(error)) from None
    classes = sorted(set(names))
    labels = np.array([classes.index(name) for name in names])
    params = {"model": options.model, "progress": False}
    began = time.perf_counter()
    try:
        features = compute_features(TextClassifier(**params).get_params(), texts)
    except UserError as error:
        raise SystemExit(str(error)) from None
    print(f"{len(texts):,} texts, activations in {time.perf_counter() - began:.1f} s")
    sizes = [int(number) for number in options.tune.split(",") if number]
    runs: list[dict[str, Any]] = []
    for proposed in (True, False):
        how = "proposed" if proposed else "random"
        for seed in range(options.seeds):
            run = simulate(features, texts, labels, classes, seed, proposed, options.labels)
            run |= {"how": how, "seed": seed, "needed": {str(aim): needed(run, aim) for aim in AIMS}}
            run["tuned"] = {number: tuned(run, texts, labels, classes, number, params) for number in sizes}
            runs.append(run)
        own = [run for run in runs if run["how"] == how]
        for number in (50, 100, 200, 300, 500, 1000):
            at = [
                a
                for run in own
                for n, a in zip(run["labels"], run["accuracy"], strict=True)
                if abs(n - number) < REFIT // 2
            ]
            if at:
                print(f"{how:<9}{number:5} labels: accuracy {100 * np.mean(at):.2f} % ± {100 * np.std(at):.2f}")
        for number in sizes:
            values = [run["tuned"][number] for run in own]
            print(f"{how:<9}{number:5} labels, fine-tuned: {100 * np.mean(values):.2f} % ± {100 * np.std(values):.2f}")
        for aim in AIMS:
            print(f"{how:<9}labels for {100 * aim:g} %: {[run['needed'][str(aim)] for run in own]}")
        print(f"{how:<9}advised to stop at: {[run['stop'] for run in own]}")
        print(f"{how:<9}longest fit: {max(max(run['seconds']) for run in own):.2f} s")
    if options.out:
        kept = [{name: value for name, value in run.items() if name not in ("trained", "test")} for run in runs]
        options.out.write_text(
            json.dumps({"data": str(options.data.name), "texts": len(texts), "runs": kept}, indent=1)
        )


if __name__ == "__main__":
    main()
