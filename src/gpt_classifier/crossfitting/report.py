"""What cross-fitting leaves: tables, numbers, a picture of the calibration, and lines for the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt_classifier.atomic import write_json, write_table, write_text
from gpt_classifier.crossfitting import label_errors, page
from gpt_classifier.crossfitting.out_of_fold import TABLE, OutOfFold
from gpt_classifier.errors import UserError, printable
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
        estimate = metrics.estimates(one.predictions)["accuracy"]
        line = f"{one.name:<{width}}  {estimate.value:.2%} of {len(one.frame):,} right, 95 % interval "
        line += f"{estimate.low:.2%} to {estimate.high:.2%}"
        chance = "" if one is found[0] else f"; McNemar’s test p={p_value(found[0], one):.2g}"
        lines.append(line + chance)
    return "\n".join(lines)


def newest(name: str, outputs: Path) -> Path:
    """The table of out-of-fold probabilities that is meant.

    Args:
        name: of a folder that cross-fitting wrote, of such a table, or `latest`.
        outputs: where `latest` looks.

    Raises:
        UserError: there is none.
    """
    if name != "latest":
        path = Path(name).expanduser()
        path = path / TABLE if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"crossfit: there is no file {path}. Give a folder that gpt-classifier crossfit wrote.")
        return path
    found = sorted(outputs.rglob(TABLE), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            f"crossfit=latest: there are no out-of-fold probabilities below {outputs}. Run gpt-classifier crossfit "
            f"with the options of train first, such as data=csv data.path=messages.csv, or name its folder."
        )
    return found[-1]


def find_and_write(path: Path, out: Path, outliers: int, action: str) -> None:
    """Suspects as a table and as a page beside it, and the ten first of them on the terminal.

    Args:
        path: of a table of out-of-fold probabilities.
        out: of the table to write.
        outliers: how many.
        action: that the table proposes.

    Raises:
        UserError: the table is none, or a file can't be written.
    """
    found = OutOfFold.read(path)
    suspects = label_errors.table(found, label_errors.find_suspects(found, outliers), action)
    write_text(out.with_suffix(".html"), page.render(suspects, len(found.frame), out, [found.name]))
    write_table(out, suspects)
    for reason, number in suspects["reason"].value_counts(sort=False).items():
        print(f"{number:>6,} of {len(found.frame):,} messages: {reason}")
    for row in suspects.head(10).to_dict("records"):
        shown = " ".join(row["text"].split())
        print(printable(f"{row['row']:>6}  {row['label']} → {row['suggested']} {row['confidence']:.4f}  {shown[:80]}"))
