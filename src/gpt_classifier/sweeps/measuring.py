"""The best configuration of a sweep on the test split, which nothing was chosen by."""

from typing import Any

import pandas as pd

from gpt_classifier.errors import UserError, first_line
from gpt_classifier.evaluation.baseline_run import ANSWERS, measure
from gpt_classifier.evaluation.messages import run_splits
from gpt_classifier.evaluation.metrics import predictions
from gpt_classifier.inference.predictor import PRECISIONS, Predictor
from gpt_classifier.sweeps.results import Sweep, SweepRun


def measure_best(sweep: Sweep) -> None:
    """Fill in `tested` of a sweep, and its note where that can't be done.

    Args:
        sweep: each run of its best configuration is measured once, with the weights of its best epoch; what a run
            measured itself is taken as it is.
    """
    try:
        sweep.tested = [run.measured("test") or _measure(run) for run in sweep.best.runs] if sweep.best else []
    except UserError as error:
        sweep.note = f"Test was not measured: {error}"
    except OSError as error:
        sweep.note = f"Test was not measured: {first_line(error)}"


def _measure(run: SweepRun) -> dict[str, Any]:
    answers = run.folder / ANSWERS
    if answers.is_file():
        return measure(pd.read_csv(answers, dtype=str, keep_default_na=False))
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    if not checkpoint.is_file():
        raise UserError("the runs kept no weights.")
    if not (run.folder / "splits" / "test.csv").is_file():
        raise UserError("there are no test messages.")
    messages = run_splits(checkpoint)
    assert messages is not None, "there is a test split"
    messages = messages[messages["split"] == "test"]
    trained_in = str(run.found["settings"].get("trainer.precision", "auto"))
    predictor = Predictor.open(checkpoint, precision=trained_in if trained_in in PRECISIONS else "auto")
    found = predictions(predictor, messages["text"].tolist(), messages["label"].tolist())
    return {
        "messages": len(found.texts),
        "loss": float(found.losses().mean()),
        "accuracy": float(found.right.mean()),
        "balanced_accuracy": found.confusion.balanced_accuracy,
        "macro_f1": found.confusion.macro_f1,
        "mcc": found.confusion.mcc,
    }
