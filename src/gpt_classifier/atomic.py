"""Files and folders that are whole or not there."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from gpt_classifier.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write to, which takes the place of `path` at the end.

    Whatever goes wrong, an interruption too, `path` stays as it was, and nothing else is left.

    Args:
        path: the file; its folder is made when needed.

    Raises:
        UserError: it can't be written, as on a full disk.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` at the end.

    Whatever goes wrong, `folder` stays as it was, and nothing else is left.

    Args:
        folder: what is in it, if it is there, is lost; the folder that it is in is made when needed.

    Raises:
        UserError: it can't be written, as on a full disk.
    """
    part = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield part
        for made in part.rglob("*"):
            made.chmod(0o755 if made.is_dir() else 0o644)  # safetensors' are the owner's alone, as mkdtemp's
        part.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            os.replace(folder, old / folder.name)
            os.replace(part, folder)
            shutil.rmtree(old)
        else:
            os.replace(part, folder)
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def not_written(path: Path, error: OSError) -> UserError:
    """What a person is told about an output that could not be written."""
    reason = error.strerror or str(error)
    return UserError(f"{path} can't be written: {reason}. Make room or set another place; what was there is unchanged.")


def write_text(path: Path, text: str) -> None:
    """A UTF-8 file, whole or not at all.

    Raises:
        UserError: it can't be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_table(path: Path, frame: Any, **options: Any) -> None:
    """A pandas DataFrame as CSV, whole or not at all.

    Args:
        path: the file.
        frame: the table; its index is left out.
        options: further ones of `DataFrame.to_csv`.

    Raises:
        UserError: it can't be written.
    """
    with replacing(path) as part:
        frame.to_csv(part, index=False, **options)


def write_json(path: Path, content: Any) -> None:
    """JSON that every reader takes, whole or not at all; what is not a number, as in a run that diverged, is `null`.

    Raises:
        UserError: it can't be written.
    """
    write_text(path, json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n")


def without_nan(content: Any) -> Any:
    """Plain values with `None` for what is not a finite number, which JSON has no word for."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def held(target: Path) -> AbstractContextManager[object]:
    """Inside, no other process makes this file of the cache; its folder is made when needed.

    Raises:
        UserError: the folder can't be written.
    """
    from filelock import FileLock  # with asyncio

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(target.with_name(f".{target.name}.lock")).acquire()
    except OSError as error:  # a plain UserError: the option is in no group
        raise UserError(
            f"cache_dir: expected a folder that can be written, but {target.parent} can't: {error.strerror}. Set "
            f"cache_dir to another, or the environment variable GPT_CLASSIFIER_CACHE."
        ) from error
