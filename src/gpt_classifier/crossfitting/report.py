"""What cross-fitting leaves: tables, numbers, a picture of the calibration, and lines for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt_classifier.atomic import write_json
from gpt_classifier.crossfitting.out_of_fold import TABLE, OutOfFold
from gpt_classifier.evaluation import metrics, pictures
from gpt_classifier.figures import save

NUMBERS, PICTURE = "crossfit.json", "calibration.png"


def write(folder: Path, found: Sequence[OutOfFold], baselines: Sequence[str], texts: bool = True) -> None:
    """A table of each classifier's answers, the numbers of all, and the calibration of the first.

    Args:
        folder: where to.
        found: of the model, and of each baseline.
        baselines: what these are called in names of files.
        texts: whether texts, and other columns of the source, are in the tables.

    Raises:
        UserError: a file can't be written.
    """
    model, *others = found
    numbers: dict[str, Any] = {"model": {"name": model.name, **model.numbers()}, "baselines": {}}
    for name, one in zip(baselines, others, strict=True):
        one.write(folder / f"baseline_{name}.csv", texts)
        numbers["baselines"][name] = {"name": one.name, **one.numbers(), "p_value": p_value(model, one)}
    save(pictures.reliability(metrics.reliability(model.predictions), None), folder / PICTURE)
    write_json(folder / NUMBERS, numbers)
    model.write(folder / TABLE, texts)  # last: where it is, the rest is


def p_value(one: OutOfFold, other: OutOfFold) -> float:
    """Of McNemar's exact test over all messages of two classifiers' folds."""
    first, second = one.predictions.right, other.predictions.right
    return metrics.mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))


def summary(found: Sequence[OutOfFold]) -> str:
    """A line for each classifier: means over folds, with their standard deviations, and calibration."""
    width = max(len(one.name) for one in found)
    lines = [f"{'':<{width}}  {'accuracy':>16}  {'macro F1':>15}  {'calibration error':>17}  {'seconds':>7}"]
    for one in found:
        accuracy, macro_f1 = one.spread("accuracy"), one.spread("macro_f1")
        error = metrics.calibration_error(one.predictions)
        shown = f"{100 * accuracy.mean:.2f} ± {100 * accuracy.sd:.2f} %"
        lines.append(
            f"{one.name:<{width}}  {shown:>16}  {f'{macro_f1.mean:.4f} ± {macro_f1.sd:.4f}':>15}  {error:>17.4f}  "
            f"{one.seconds:>7.1f}"
        )
    lines.append(
        f"means of {len(found[0].of_folds())} folds ± their standard deviation; messages of all folds together:"
    )
    for one in found:
        accuracy = metrics.estimates(one.predictions)["accuracy"]
        line = f"{one.name:<{width}}  {accuracy.value:.2%} of {len(one.frame):,} right, 95 % interval "
        line += f"{accuracy.low:.2%} to {accuracy.high:.2%}"
        chance = "" if one is found[0] else f"; McNemar’s test p={p_value(found[0], one):.2g}"
        lines.append(line + chance)
    return "\n".join(lines)
