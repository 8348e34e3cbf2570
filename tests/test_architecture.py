"""Imports point the way that docs/architecture.md says."""

import ast
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src" / "gpt_classifier"
LEVELS = (
    ("errors", "listening", "paths", "quiet", "assets", "signals", "confusion", "__init__"),
    ("atomic", "checkpoints", "faults", "hub", "pages", "web"),
    ("decisions", "tasks", "device", "figures", "schema", "tables", "tokenizers", "torch_files"),
    ("models", "data", "ngrams", "spec"),
    ("encoders",),
    ("families", "look"),
    ("artifact", "config", "activations"),
    ("training",),
    ("inference", "pretraining"),
    ("distillation", "experiments", "evaluation", "labelling"),
    ("book", "crossfitting", "sweeps", "export", "serving"),
    ("app", "stacking"),
    ("commands",),
    ("__main__",),
)
"""From the lowest: each may import what is below it, or, in the same package, beside it."""

LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@cache
def imported(path: Path) -> set[str]:
    """Modules that a file imports, at its top or later."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def package_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_arrow_points_up(path: Path) -> None:
    own = package_of(path)
    if own == "__init__":  # names what the package offers
        return
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "gpt_classifier" or len(parts) == 1 or parts[1] not in LEVEL or parts[1] == own:
            continue
        assert LEVEL[parts[1]] < LEVEL[own], f"{path} imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if package_of(path) in ("models", "data", "encoders", "tokenizers")], ids=str
)
def test_models_and_data_know_no_framework(path: Path) -> None:
    frameworks = {"hydra", "omegaconf"} | ({"lightning"} if path.name != "datamodule.py" else set())
    assert not {name.split(".")[0] for name in imported(path)} & frameworks


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_config_and_commands_know_hydra(path: Path) -> None:
    if path.name != "config.py" and path.parts[0] != "commands":
        assert "hydra" not in {name.split(".")[0] for name in imported(path)}


def test_no_package_is_too_large() -> None:
    for folder in (path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "commands"):  # a file for each
        lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in folder.rglob("*.py"))
        assert lines <= 2300, f"{folder.name} has {lines} lines"
