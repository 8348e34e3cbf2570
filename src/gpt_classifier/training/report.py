"""What a run leaves for people to read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from matplotlib.figure import Figure

from gpt_classifier import figures
from gpt_classifier.atomic import write_table
from gpt_classifier.confusion import MOST_CLASSES, MOST_PAIRS, Confusion
from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.data.sources import EXTRA, extra_columns
from gpt_classifier.tasks import Metrics, scalars
from gpt_classifier.training.hyperparameters import Trial, log_trial
from gpt_classifier.training.predictions import SplitPredictions

Stages = dict[str, dict[str, Any]]
"""`start`, `last` and `best`, each with its `epoch`, `step` and the metrics of the splits that were measured."""

CLIMBING, OVERFITTED = 0.005, 1.5  # accuracy gained in the last epoch; last loss of validation over the lowest
SMALL = 0.05  # loss of validation that no advice lowers
ENOUGH = 5  # messages of a class in validation: with fewer it says nothing that none was recognised
LONGEST_TABLE = 50  # rows of misclassified messages in TensorBoard
AGREEMENT = "agreement with the teacher"
"""What accuracy is where the labels are a teacher's decisions (`DataReport.taught`)."""


def write_figures(
    run_dir: Path,
    history: Sequence[dict[str, float]],
    best: dict[str, Any],
    class_names: list[str],
    taught: Sequence[str] = (),
) -> None:
    """`loss.png`, `accuracy.png` and the best epoch's `confusion_matrix.png`, on test if measured, else validation.

    Of the splits of `taught` accuracy is called `AGREEMENT`.
    """
    for what in ("loss", "accuracy"):
        names = {split: AGREEMENT for split in taught if what == "accuracy"}
        figure = figures.curves(
            history,
            what,
            f"training, {names['train']}" if "train" in names else "training, running",
            best["epoch"] if "val" in best else None,
            final_value(what, best, taught),
            names.get("val", "accuracy"),
        )
        figures.save(figure, run_dir / f"{what}.png")
    split = next((split for split in ("test", "val") if split in best), None)
    matrix = split and confusion_picture(best[split], class_names, final_value("accuracy", best, taught))
    if matrix:
        figures.save(matrix, run_dir / "confusion_matrix.png")


def final_value(what: str, best: dict[str, Any], taught: Sequence[str] = ()) -> str:
    """Loss or accuracy of the best epoch as a title: on test if measured, else validation; empty without either."""
    for split, name in (("test", "test"), ("val", "validation")):
        if split in best:
            value = f"{best[split][what]:.2%}" if what == "accuracy" else f"{best[split][what]:.3f}"
            called = AGREEMENT if what == "accuracy" and split in taught else what
            return f"{name} {called} {value}, with the weights of epoch {best['epoch']}"
    return ""


def confusion_picture(metrics: Metrics, class_names: list[str], title: str) -> Figure | None:
    """The confusion matrix of a split, of many classes that of the most confused; `None` where it was not counted."""
    confusion = Confusion.of_metrics(metrics, class_names)
    if confusion is None:
        return None
    drawn = confusion.drawn(class_names)
    title = f"{title}\n{drawn.note}" if drawn.note else title
    return figures.confusion_matrix(drawn.matrix, drawn.names, title, drawn.support)


def write_tables(run_dir: Path, best: dict[str, Any]) -> None:
    """Of more than `MOST_CLASSES` classes, what metrics.json has no place for: two tables for each measured split.

    `classes_{split}.csv` has the figures of each class, the worst F1 first, among equals the class with more messages;
    `confusions_{split}.csv` each pair of true and predicted class that was confused, the most frequent first.
    """
    for split in SPLITS:
        metrics = best.get(split, {})
        columns = {name: values for name, values in metrics.items() if _many(values)}
        if columns:
            table = pd.DataFrame(columns).rename_axis("class").reset_index()
            order = {"f1": True, "support": False}
            keys = [name for name in order if name in table]
            if keys:
                table = table.sort_values(keys, ascending=[order[name] for name in keys], kind="stable")
            write_table(run_dir / f"classes_{split}.csv", table)
        if "confusion_pairs" in metrics:
            pairs = pd.DataFrame(metrics["confusion_pairs"], columns=["true", "predicted", "messages"])
            write_table(run_dir / f"confusions_{split}.csv", pairs)


def shortened(stages: Stages) -> Stages:
    """Stages as metrics.json has them: without what `write_tables` writes, but for the most frequent confusions."""
    return {name: {key: _shortened(value) for key, value in stage.items()} for name, stage in stages.items()}


def _shortened(metrics: Any) -> Any:
    if not isinstance(metrics, dict):
        return metrics
    kept = {name: value for name, value in metrics.items() if not _many(value)}
    if "confusion_pairs" in kept:
        kept["confusion_pairs"] = kept["confusion_pairs"][:MOST_PAIRS]
    return kept


def _many(values: Any) -> bool:
    return isinstance(values, dict) and len(values) > MOST_CLASSES


def counted(data: dict[str, Any]) -> dict[str, Any]:
    """What was done to the messages (`DataReport`), of more than `MOST_CLASSES` classes without the counts of each."""
    splits = {split: _totals(counts) for split, counts in data["splits"].items()}
    return {**data, "found": _totals(data["found"]), "splits": splits}


def _totals(counts: dict[str, int]) -> dict[str, int]:
    if not _many(counts):
        return counts
    return {"messages": sum(counts.values()), "classes": sum(count > 0 for count in counts.values())}


def log_evaluation(loggers: Sequence[Logger], metrics: dict[str, Metrics], step: int) -> None:
    """The scalars of the splits that were measured."""
    drawn = {name: value for split, found in metrics.items() for name, value in scalars(found, split).items()}
    for logger in loggers:
        logger.log_metrics(drawn, step=step)


def log_best(
    loggers: Sequence[Logger],
    hyperparameters: dict[str, Any],
    trial: Trial,
    best: dict[str, Any],
    predictions: dict[str, SplitPredictions],
    texts: dict[str, pd.DataFrame],
    class_names: list[str],
) -> None:
    """Hyperparameters beside final metrics, and TensorBoard's pictures and table of mistakes.

    Args:
        loggers: of the run.
        hyperparameters: everything that sweeps may vary, plain values.
        trial: what TensorBoard's page HParams shows of them.
        best: metrics of the best epoch for each split.
        predictions: of each split.
        texts: messages of each split, in the same order; splits without them have no table of mistakes.
        class_names: C names.
    """
    measured = [split for split in SPLITS if split in best]
    names = ("accuracy", "macro_f1", "loss")
    final = {f"best/{split}/{name}": best[split][name] for split in measured for name in names if name in best[split]}
    for logger in loggers:
        logger.log_metrics(final, step=best["step"])
        logger.log_hyperparams(hyperparameters)
        if not isinstance(logger, TensorBoardLogger):
            logger.finalize("success")
            continue
        board = logger.experiment
        log_trial(board, trial, final)
        for split in ("val", "test"):
            if split not in best or split not in predictions:
                continue
            found, title = predictions[split], f"{split}, best epoch"
            confusion = confusion_picture(best[split], class_names, title)
            if confusion is not None:
                board.add_figure(f"{split}/confusion_matrix", confusion, best["step"], close=False)
            if found.logits is not None and len(class_names) <= figures.MOST_CURVES:
                probabilities, labels = found.logits.softmax(dim=-1).numpy(), found.targets.numpy()
                curve = figures.precision_recall(probabilities, labels, class_names, range(len(class_names)), title)
                board.add_figure(f"{split}/precision_recall", curve, best["step"], close=False)
            if split in texts:
                table = misclassified(found, texts[split], class_names)
                board.add_text(f"{split}/misclassified", _markdown(table), best["step"])
        logger.finalize("success")


def misclassified(found: SplitPredictions, messages: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """Messages with a wrong prediction, the most confident first: true and predicted class, probability, text.

    Other columns of their source stand before the text.
    """
    confidence = found.confidence.tolist()
    wrong = torch.nonzero(found.predicted != found.targets).flatten().tolist()
    wrong.sort(key=lambda i: -confidence[i])
    targets, predicted, texts = found.targets.tolist(), found.predicted.tolist(), messages["text"].tolist()
    return pd.DataFrame(
        {
            "true": [class_names[targets[i]] for i in wrong],
            "predicted": [class_names[predicted[i]] for i in wrong],
            "probability": [round(confidence[i], 4) for i in wrong],
            **{name: messages[name].iloc[wrong].tolist() for name in extra_columns(messages)},
            "text": [texts[i] for i in wrong],
        }
    )


def _markdown(table: pd.DataFrame) -> str:
    lines = [
        f"{len(table)} misclassified messages",
        "",
        "| " + " | ".join(_cell(name.removeprefix(EXTRA)) for name in map(str, table.columns)) + " |",
        "|---" * len(table.columns) + "|",
    ]
    for cells in table.head(LONGEST_TABLE).itertuples(index=False):
        lines.append("| " + " | ".join(_cell(str(cell)) for cell in cells) + " |")
    if len(table) > LONGEST_TABLE:
        lines += ["", f"… and {len(table) - LONGEST_TABLE} more"]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A message is data: none of it may act as Markdown or HTML."""
    text = " ".join(text.splitlines()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return "".join("\\" + character if character in r"\`*_{}[]()#+-!" else character for character in text)


def summary(
    stages: Stages,
    title: str,
    seconds: dict[str, float],
    run_dir: Path,
    note: str = "",
    advice: str = "",
    taught: Sequence[str] = (),
) -> str:
    """The last thing that a run prints; `taught` as of `write_figures`."""
    if run_dir.is_relative_to(Path.cwd()):
        run_dir = run_dir.relative_to(Path.cwd())
    best = stages["best"]
    splits = [split for split in SPLITS if split in best]
    rows = [title, ""]
    if splits:
        rows.append(" " * 28 + "".join(f"{split:>9}" for split in splits))
    for stage, metrics in stages.items():
        name = {"start": "before training"}.get(stage, f"{stage} (epoch {metrics['epoch']})")
        for called, own in (("accuracy", set(splits) - set(taught)), ("agreement", set(splits) & set(taught))):
            if own & metrics.keys():
                found = [metrics.get(split) if split in own else None for split in splits]
                rows.append(f"{f'{name}, {called}':<28}" + "".join(map(_percent, found)))
    if splits:
        shown = {"balanced accuracy": "balanced_accuracy", "macro F1": "macro_f1", "MCC": "mcc", "loss": "loss"}
        for name, key in shown.items():
            rows.append(f"{'best, ' + name:<28}" + "".join(f"{best[split][key]:>9.3f}" for split in splits))
        rows.append(f"{'messages':<28}" + "".join(f"{best[split]['messages']:>9}" for split in splits))
    rows.append("")
    steps = stages["last"]["step"]
    rows.append(f"{seconds['training']:.1f} s of training for {steps:,} steps, {seconds['run']:.1f} s in all")
    rows.append(f"everything is in {run_dir}")
    checkpoint = run_dir / "checkpoints" / "best.ckpt"
    if checkpoint.exists():
        rows.append(f"gpt-classifier predict --checkpoint {checkpoint} --text '…'")
    rows += [line for line in (note, advice) if line]
    return "\n".join(rows)


def advise(history: Sequence[dict[str, float]], best: dict[str, Any], epochs: int, stopped: bool) -> str:
    """What to try next where the curves of a run say so, in a line; empty where they do not.

    Args:
        history: points of the curves; those with `val/loss` and `val/accuracy` are of validation.
        best: the best epoch, its `epoch` and the metrics of its validation under `val`.
        epochs: that the run had.
        stopped: whether it was ended before its time.
    """
    points = [row for row in history if "val/loss" in row and row["step"] > 0]
    if "val" not in best or len(points) < 2 or stopped:
        return ""
    found, before, last = best["val"], points[-2], points[-1]
    missed = [name for name, recall in found["recall"].items() if recall == 0 and found["support"][name] >= ENOUGH]
    if missed:
        shown = ", ".join(missed[:3]) + (", …" if len(missed) > 3 else "")
        return f"No message of {shown} was recognised in validation: data.balance=weights or more epochs may help."
    gained = last["val/accuracy"] - before["val/accuracy"]
    if best["epoch"] == epochs and gained > CLIMBING and last["val/loss"] < before["val/loss"]:
        return f"Validation was still getting better at the end: try trainer.max_epochs={2 * epochs}."
    if best["epoch"] == 0:
        return "No epoch was better than the linear probe before: try a smaller optimizer.lr or more messages."
    lowest = min(points, key=lambda row: row["val/loss"])
    if lowest["epoch"] <= epochs / 2 and last["val/loss"] > OVERFITTED * max(lowest["val/loss"], SMALL):
        return (
            f"Validation loss was lowest after epoch {round(lowest['epoch'])} and rose from {lowest['val/loss']:.3f} "
            f"to {last['val/loss']:.3f}: fewer epochs, a smaller optimizer.lr or more messages may be better."
        )
    return ""


def _percent(metrics: Metrics | None) -> str:
    return f"{100 * metrics['accuracy']:>7.2f} %" if metrics else f"{'–':>9}"
