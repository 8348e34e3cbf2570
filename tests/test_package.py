"""The package as others install and import it."""

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

import gpt_classifier
from gpt_classifier.commands import COMMANDS, main

SNAPSHOT = """
import contextlib, csv, importlib, logging, os, pkgutil, sys, warnings
# what these change themselves is theirs
for name in {others}:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

def state():
    import matplotlib
    root = logging.getLogger()
    return {{
        "environment": dict(os.environ),
        "csv": csv.field_size_limit(),
        "backend": dict.__getitem__(matplotlib.rcParams, "backend"),
        "logging": (root.level, list(root.handlers), logging.getLogger("lightning.pytorch").level),
        "warnings": list(warnings.filters),
        "argv": list(sys.argv),
    }}

before = state()
import gpt_classifier
modules = [module.name for module in pkgutil.walk_packages(gpt_classifier.__path__, "gpt_classifier.")]
assert len(modules) > 40, modules
for name in modules:
    if not name.endswith("__main__"):
        importlib.import_module(name)
after = state()
changed = {{name: (before[name], after[name]) for name in before if before[name] != after[name]}}
assert not changed, changed
"""


def test_importing_changes_nothing_in_the_process() -> None:
    others = [
        "torch",
        "lightning.pytorch.loggers",
        "hydra.utils",
        "torchmetrics",
        "matplotlib.figure",
        "pandas",
        "tiktoken",
    ]
    others += [
        "safetensors.torch",
        "huggingface_hub",
        "jinja2",
        "requests",
        "tqdm",
        "sklearn",
        "tokenizers",
        "pyarrow.parquet",
    ]
    subprocess.run([sys.executable, "-c", SNAPSHOT.format(others=others)], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_has_a_script(name: str) -> None:
    module = name.replace("-", "_")
    assert callable(importlib.import_module(f"gpt_classifier.commands.{module}").main)
    script = ROOT / ("train.py" if name == "train" else f"scripts/{module}.py")
    assert f"from gpt_classifier.commands.{module} import main\n" in script.read_text()


def test_version_stands_in_one_place(capsys: pytest.CaptureFixture) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"gpt-classifier {gpt_classifier.__version__}\n"
    assert gpt_classifier.__version__ not in (ROOT / "pyproject.toml").read_text()


def test_help_lists_every_command_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture) -> None:
    main([])
    told = capsys.readouterr().out
    assert all(f"\n  {name} " in told for name in COMMANDS)
    with pytest.raises(SystemExit, match="there is no command 'tarin'"):
        main(["tarin"])


def test_wheel_has_everything_that_running_needs(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    (path,) = wheel.build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(f"gpt_classifier-{gpt_classifier.__version__}.dist-info/entry_points.txt").decode()
    conf = {f"gpt_classifier/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    source = ROOT / "src"
    ignored = ("__pycache__", ".mypy_cache")
    package = {
        str(path.relative_to(source))
        for path in (source / "gpt_classifier").rglob("*")
        if path.is_file() and not set(ignored) & set(path.parts)
    }
    assert {"gpt_classifier/py.typed", "gpt_classifier/pages/base.html"} < package
    assert {name for name in names if ".dist-info/" not in name} == conf | package
    assert "gpt-classifier = gpt_classifier.commands:main" in entry_points
