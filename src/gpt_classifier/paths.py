"""Directories of the user's machine that this package writes to unasked, and paths as people read them."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The directory for what can be downloaded or computed again: datasets, activations, hashes of weights.

    It is the environment variable `GPT_CLASSIFIER_CACHE`, or `~/.cache/gpt-classifier` if that is not set.
    """
    return Path(os.environ.get("GPT_CLASSIFIER_CACHE") or "~/.cache/gpt-classifier").expanduser()


def activations_folder() -> Path:
    """The directory of cached activations, `cache.dir` of a run that sets neither this nor `cache_dir`."""
    return cache_folder() / "frozen_prefix"


def near(path: Path) -> str:
    """A path as people read it: from the working directory where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
