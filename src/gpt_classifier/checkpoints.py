"""Where checkpoints are. Nothing here takes long to import: a wrong path is told at once."""

from collections.abc import Sequence
from pathlib import Path

from gpt_classifier.errors import UserError


def find_checkpoint(name: str, outputs: Path) -> Path:
    """A checkpoint's path.

    Args:
        name: the path of a checkpoint, or of a run's folder; or `latest`, the run below a folder of runs that finished
            last. Of a run it is `best.ckpt`, or `last.ckpt` where its procedure keeps no best epoch.
        outputs: the folder of runs.

    Raises:
        UserError: there is none.
    """
    if name != "latest":
        path = Path(name).expanduser().absolute()
        path = _of_run(path / "checkpoints") if (path / "checkpoints").is_dir() else path
        expect_there(path)
        return path
    runs = {path.parent for kind in ("best", "last") for path in outputs.rglob(f"checkpoints/{kind}.ckpt")}
    found = [_of_run(run) for run in runs if (run.parent / "metrics.json").exists()]
    if not found and runs:
        raise UserError(
            f"checkpoint=latest: no run below {outputs} has finished. Wait for one, or name a run's folder, such as "
            f"{next(iter(sorted(runs))).parent}."
        )
    if not found:
        raise UserError(
            f"checkpoint=latest: no run below {outputs} has a checkpoint. Train one first "
            f"(gpt-classifier train experiment=quickstart), or name a checkpoint's path."
        )
    return max(found, key=lambda path: path.stat().st_mtime).absolute()


def find_teacher(name: str, outputs: Path, students: Sequence[str]) -> Path:
    """A checkpoint that a student learns from.

    Args:
        name: as of `find_checkpoint`.
        outputs: the folder of runs.
        students: folders that the student may be written to.

    Raises:
        UserError: there is none, or it is in such a folder.
    """
    try:
        path = find_checkpoint(name, outputs)
    except UserError as error:
        raise UserError(f"--teacher: {str(error).removeprefix('checkpoint: ')}") from error
    for folder in students:
        if Path(folder).expanduser().resolve() in (path.resolve(), run_folder(path.resolve())):
            raise UserError(
                f"--student: expected a folder of its own, but {folder} is that of the teacher {name}. Name a new one."
            )
    return path


def _of_run(checkpoints: Path) -> Path:
    best = checkpoints / "best.ckpt"
    return best if best.exists() else checkpoints / "last.ckpt"


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that wrote a checkpoint, or the one that the checkpoint lies in."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def expect_there(path: Path) -> None:
    """Refuse a checkpoint, or the folder of a saved classifier, that is not there.

    Raises:
        UserError: it is not.
    """
    if not path.exists():
        raise UserError(f"checkpoint: there is no file {path}. Give a run's checkpoints/best.ckpt, or latest.")


RESUME = "Set ckpt_path to the checkpoints/last.ckpt of the run that is to go on."


def resumable_path(ckpt_path: str) -> Path:
    """The file that `ckpt_path` names.

    Raises:
        UserError: there is none.
    """
    path = Path(ckpt_path).expanduser()
    if not path.is_file():
        raise UserError(f"ckpt_path: there is no file {path}. {RESUME}")
    return path


def shortest_name(path: Path, paths: Sequence[Path]) -> str:
    """What tells a checkpoint from others: its run's folder, with its own name where another lies in the same one."""
    alone = sum(other.parent == path.parent for other in paths) == 1
    return run_folder(path).name if alone else f"{run_folder(path).name}/{path.name}"
