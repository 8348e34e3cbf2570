"""What a run leaves for people to read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor

from gpt_classifier import figures
from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.tasks import Metrics, scalars
from gpt_classifier.training.curves import curves

Stages = dict[str, dict[str, Any]]
"""`start`, `last` and `best`, each with its `epoch`, `step` and the metrics of the splits that were measured."""

LONGEST_TABLE = 50  # rows of misclassified messages in TensorBoard


def write_figures(
    run_dir: Path, history: Sequence[dict[str, float]], best: dict[str, Any], class_names: list[str]
) -> None:
    """`loss.png`, `accuracy.png` and the best epoch's `confusion_matrix.png`, on test if measured, else validation."""
    for what in ("loss", "accuracy"):
        figures.save(curves(history, what), run_dir / f"{what}.png")
    split = next((split for split in ("test", "val") if split in best), None)
    if split is not None:
        figure = figures.confusion_matrix(best[split]["confusion_matrix"], class_names, f"{split}, best epoch")
        figures.save(figure, run_dir / "confusion_matrix.png")


def log_evaluation(loggers: Sequence[Logger], metrics: dict[str, Metrics], step: int) -> None:
    """The scalars of the splits that were measured."""
    drawn = {name: value for split, found in metrics.items() for name, value in scalars(found, split).items()}
    for logger in loggers:
        logger.log_metrics(drawn, step=step)


def log_best(
    loggers: Sequence[Logger],
    hyperparameters: dict[str, Any],
    best: dict[str, Any],
    predictions: dict[str, tuple[Tensor, Tensor]],
    texts: dict[str, pd.DataFrame],
    class_names: list[str],
) -> None:
    """Hyperparameters beside final metrics, and TensorBoard's pictures and table of mistakes.

    Args:
        loggers: of the run.
        hyperparameters: what sweeps vary, plain values.
        best: metrics of the best epoch for each split.
        predictions: logits `(N, C)` and labels `(N,)` of each split.
        texts: messages of each split, in the same order; splits without them have no table of mistakes.
        class_names: C names.
    """
    measured = [split for split in SPLITS if split in best]
    final = {f"best/{split}/{name}": best[split][name] for split in measured for name in ("accuracy", "loss")}
    for logger in loggers:
        logger.log_metrics(final, step=best["step"])
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(hyperparameters)
            logger.finalize("success")
            continue
        logger.log_hyperparams(hyperparameters, final, step=best["step"])
        board = logger.experiment
        for split in ("val", "test"):
            if split not in best or split not in predictions:
                continue
            logits, labels = predictions[split]
            title = f"{split}, best epoch"
            confusion = figures.confusion_matrix(best[split]["confusion_matrix"], class_names, title)
            board.add_figure(f"{split}/confusion_matrix", confusion, best["step"], close=False)
            curve = figures.precision_recall(
                logits.softmax(dim=-1).numpy(), labels.numpy(), class_names, range(len(class_names)), title
            )
            board.add_figure(f"{split}/precision_recall", curve, best["step"], close=False)
            if split in texts:
                table = misclassified(logits, labels, texts[split], class_names)
                board.add_text(f"{split}/misclassified", _markdown(table), best["step"])
        logger.finalize("success")


def misclassified(logits: Tensor, labels: Tensor, messages: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """Messages with a wrong prediction, the most confident first: true class, predicted class, probability, text."""
    probabilities, predicted = logits.softmax(dim=-1).max(dim=-1)
    wrong = torch.nonzero(predicted != labels).flatten().tolist()
    wrong.sort(key=lambda i: -probabilities[i].item())
    return pd.DataFrame(
        {
            "true": [class_names[int(labels[i])] for i in wrong],
            "predicted": [class_names[int(predicted[i])] for i in wrong],
            "probability": [round(probabilities[i].item(), 4) for i in wrong],
            "text": [messages["text"].iloc[i] for i in wrong],
        }
    )


def _markdown(table: pd.DataFrame) -> str:
    lines = [
        f"{len(table)} misclassified messages",
        "",
        "| true | predicted | probability | text |",
        "|---|---|---|---|",
    ]
    for row in table.head(LONGEST_TABLE).itertuples(index=False):
        cells = (row.true, row.predicted, f"{row.probability:.4f}", row.text)
        lines.append("| " + " | ".join(_cell(str(cell)) for cell in cells) + " |")
    if len(table) > LONGEST_TABLE:
        lines += ["", f"… and {len(table) - LONGEST_TABLE} more"]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A message is data: none of it may act as Markdown or HTML."""
    text = " ".join(text.splitlines()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return "".join("\\" + character if character in r"\`*_{}[]()#+-!" else character for character in text)


def summary(stages: Stages, title: str, seconds: dict[str, float], run_dir: Path, note: str = "") -> str:
    """The last thing that a run prints."""
    if run_dir.is_relative_to(Path.cwd()):
        run_dir = run_dir.relative_to(Path.cwd())
    best = stages["best"]
    splits = [split for split in SPLITS if split in best]
    rows = [title, ""]
    if splits:
        rows.append(" " * 28 + "".join(f"{split:>9}" for split in splits))
    for stage, metrics in stages.items():
        name = {"start": "before training"}.get(stage, f"{stage} (epoch {metrics['epoch']})")
        if any(split in metrics for split in splits):
            rows.append(f"{name + ', accuracy':<28}" + "".join(_percent(metrics.get(split)) for split in splits))
    if splits:
        rows.append(f"{'best, loss':<28}" + "".join(f"{best[split]['loss']:>9.3f}" for split in splits))
        rows.append(f"{'messages':<28}" + "".join(f"{best[split]['messages']:>9}" for split in splits))
    rows.append("")
    rows.append(f"{seconds['training']:.1f} s of training, {seconds['run']:.1f} s in all")
    rows.append(f"everything is in {run_dir}")
    checkpoint = run_dir / "checkpoints" / "best.ckpt"
    if checkpoint.exists():
        rows.append(f"gpt-classifier predict --checkpoint {checkpoint} --text '…'")
    if note:
        rows.append(note)
    return "\n".join(rows)


def _percent(metrics: Metrics | None) -> str:
    return f"{100 * metrics['accuracy']:>7.2f} %" if metrics else f"{'–':>9}"
