"""Whatever is set to whatever: a run, or one paragraph, and never a value that means something else than it says."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt_classifier.commands.application import run_hydra
from gpt_classifier.config import compose
from gpt_classifier.faults import paragraph_of
from gpt_classifier.schema import check_types
from gpt_classifier.training.build import build_module, build_trainer, check, load_data
from gpt_classifier.training.context import RunContext

BASES = ([], ["freeze=lora"], ["scheduler=cosine", "callbacks=early_stopping"], ["data=csv", "data.path=TABLE"])
GROUPS = ("model", "data", "freeze", "pooling", "optimizer", "scheduler", "trainer", "logger", "callbacks", "task")
VALUES = (
    *(
        "''",
        "-1",
        "0",
        "1",
        "2",
        "0.5",
        "-0.5",
        "1e400",
        "1e9",
        "nan",
        "inf",
        "-inf",
        "1e-400",
        "1_000",
        "0x10",
        "1:30",
    ),
    *("no", "yes", "true", "false", "null", "text", "auto", "none", "random", "'a b'", '"1"', "2024-01-01", "é"),
    *("[]", "[1]", "[[1]]", "[auto]", "{a:1}", "{}", "1000000000", "100000000", "99999999999999999999"),
    *("..", "/", "/dev/null", "/proc/self/mem", "'\x1b[31m'", "${seed}", "${nope}"),
)
NAMES = ("auto", "none", "null", "random", "{}", "[]")  # of files of some group, or that change nothing
TRIALS = int(os.environ.get("GPT_CLASSIFIER_TRIALS", "120"))
"""How many options are set to something; 500 take half a minute."""


def keys_of(node: DictConfig, place: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{place}{key}"
        value = OmegaConf.select(node, key, throw_on_resolution_failure=False)
        if isinstance(value, DictConfig):
            yield from keys_of(value, f"{place}{key}.")


def build(cfg: DictConfig, folder: Path) -> None:
    """All that comes before training."""
    check(cfg)
    context = RunContext(folder, {}, sweep=False)
    trainer = build_trainer(cfg, context)
    data = load_data(cfg)
    build_module(cfg, trainer, data)


def with_value(cfg: DictConfig, override: str) -> DictConfig:
    """What Hydra does with one override, without composing everything anew."""
    parsed = OverridesParser.create().parse_override(override)
    changed = cfg.copy()
    OmegaConf.set_struct(changed, True)
    OmegaConf.update(changed, parsed.key_or_group, parsed.value(), merge=True)
    return changed


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[DictConfig]:
    """Configurations of which tests change copies."""
    folder = tmp_path_factory.mktemp("bases")
    table = folder / "table.csv"
    rows = [f"see you at {i},ham\nwin prize {i},spam" for i in range(30)]
    table.write_text("\n".join(["text,label", *rows]) + "\n")
    small = [*SMALL, "data.train_size=8", "model.backbone.n_layer=1", "model.backbone.n_embd=12", "cache.dir=null"]
    found = []
    for base in BASES:
        cfg = compose([*small, *(choice.replace("TABLE", str(table)) for choice in base)])
        cfg.run_dir = str(folder / "run")
        found.append(cfg)
    return found


def test_any_option_set_to_anything(bases: list[DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some of these values are relative paths
    draw = random.Random(7)
    keys = [list(keys_of(cfg)) for cfg in bases]
    faults, refused, accepted = [], 0, 0
    for _ in range(TRIALS):
        base = draw.randrange(len(bases))
        override = f"{draw.choice(keys[base])}={draw.choice(VALUES)}"
        try:
            changed = with_value(bases[base], override)
            check_types(changed)
            build(changed, tmp_path / "run")
            accepted += 1
        except (HydraException, OmegaConfBaseException):
            refused += 1
        except Exception as error:
            told = paragraph_of(error, "")
            refused += 1
            if told is None or not told.strip() or "Traceback" in told or "\x1b" in told:
                faults.append((override, repr(error)[:200]))
    assert not faults, "\n".join(map(str, faults))
    assert refused > TRIALS / 2
    assert accepted > TRIALS / 50


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_set_to_a_value_is_refused_in_a_paragraph(group: str, capsys: pytest.CaptureFixture) -> None:
    draw = random.Random(group)
    for value in draw.sample([value for value in VALUES if value not in NAMES], 4):
        ran: list[Any] = []
        with pytest.raises(SystemExit) as stopped:
            run_hydra(ran.append, "config", [f"{group}={value}"])
        assert stopped.value.code == 1
        assert "Traceback" not in capsys.readouterr().err
        assert not ran


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.path=''", "data.path: expected text that is not empty, but it is empty. Is a shell variable not set?"),
        ("data.path=-1", "data.path: expected text, but it is -1."),
        ("data.test_fraction=..", "test_fraction: expected a number from 0 to 1, but it is .."),
        ("model.backbone.n_embd=''", "model.backbone.n_embd: expected a whole number"),
        (
            "model.backbone.n_layer=1e400",
            "model.backbone.n_layer: expected a whole number from 1 to 1000, but it is inf",
        ),
        ("model.backbone.n_layer=1000000000", "model.backbone.n_layer: expected a whole number from 1 to 1000"),
        ("model.backbone.vocab_size=[[1]]", "model.backbone.vocab_size: expected a whole number"),
        ("model.backbone.n_embd=99999996", "memory: the weights of this model need"),
        ("model.dropout=much", "model.dropout: expected a number from 0 to 1, but it is much"),
        ("ckpt_path={a:1}", "ckpt_path: expected text"),
        ("callbacks.last.filename=1_000", "callbacks.last.filename: expected text, but it is 1000."),
        ("trainer.num_sanity_val_steps=random", "trainer.num_sanity_val_steps: expected a whole number"),
        ("trainer.devices=1000000000", "trainer.devices: expected a whole number from -1 to 1024"),
        ("optimizer.lr=inf", "optimizer.lr: expected a number of at least 0, but it is inf"),
        ("data.folds=1_000", "data.folds: expected a whole number from 2 to"),
        ("data.source=2", "source: expected options, such as {a: 1}, but it is 2"),
        ("optimizer._target_=[auto]", "optimizer._target_: expected the name of a class or function"),
        ("optimizer._partial_=yes", "optimizer._partial_: expected true or false, but it is the word yes"),
    ],
)
def test_what_is_wrong_is_told(bases: list[DictConfig], tmp_path: Path, override: str, told: str) -> None:
    cfg = bases[3] if override.startswith("data") else bases[0]
    with pytest.raises(Exception) as refused:  # noqa: PT011 - Hydra wraps some
        build(with_value(cfg, override), tmp_path / "run")
    assert told in (paragraph_of(refused.value, "") or "")


def test_rank_of_adapters_has_the_width_of_the_model_as_its_limit(bases: list[DictConfig], tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"rank: expected a whole number from 1 to 12, but it is 100000000"):
        build(with_value(bases[1], "freeze.rank=100000000"), tmp_path / "run")


def test_null_leaves_a_callback_or_a_logger_out(bases: list[DictConfig], tmp_path: Path) -> None:
    cfg = with_value(with_value(bases[0], "callbacks.learning_rate=null"), "logger.csv=null")
    trainer = build_trainer(cfg, RunContext(tmp_path, {}, sweep=False))
    assert len(trainer.loggers) == 1
    assert "LearningRateMonitor" not in {type(callback).__name__ for callback in trainer.callbacks}  # type: ignore[attr-defined]
