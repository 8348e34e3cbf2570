"""Options have their types."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.config import compose
from gpt_classifier.errors import OptionError
from gpt_classifier.schema import OPTIONS, Option, check_types


def one(option: str, value: object) -> DictConfig:
    cfg = OmegaConf.create()
    OmegaConf.update(cfg, option, value)
    return cfg


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("cache.enabled", "no", "the word no. Write cache.enabled=false."),
        ("model.compile", "yes", "the word yes. Write model.compile=true."),
        ("model.causal", "Off", "the word Off. Write model.causal=false."),
        ("data.drop_incomplete", "no", "the word no. Write data.drop_incomplete=false."),
        ("freeze.train_head", "off", "the word off. Write freeze.train_head=false."),
        ("trainer.enable_checkpointing", "n", "the word n. Write trainer.enable_checkpointing=false."),
        ("data.drop_incomplete", 1, "the number 1. Write data.drop_incomplete=true."),
        ("model.causal", None, "null. Write model.causal=true or model.causal=false."),
        ("model.causal", ["no"], "the value ['no']. Write model.causal=true or model.causal=false."),
    ],
)
def test_words_are_no_truth_values(option: str, value: object, told: str) -> None:
    with pytest.raises(OptionError) as refused:
        check_types(one(option, value))
    assert str(refused.value) == f"{option}: expected true or false, but it is {told}"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("patience", -1, "patience: expected a whole number of at least 0, but it is -1"),
        ("patience", True, "patience: expected a whole number of at least 0, but it is True"),
        ("mode", "most", "mode: expected min or max, but it is most"),
        ("monitor", 7, "monitor: expected text, but it is 7"),
    ],
)
def test_numbers_and_words_are_checked_too(option: str, value: object, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        check_types(one(f"callbacks.early_stopping.{option}", value))


def test_what_is_composed_is_checked() -> None:
    with pytest.raises(OptionError, match=r"Write cache\.enabled=false"):
        compose(["cache.enabled=no"])
    cfg = compose(["cache.enabled=false", "optimizer.fused=null", "+mine.enabled=no", "+trainer.fast_dev_run=2"])
    assert cfg.cache.enabled is False
    assert cfg.mine.enabled == "no"  # not an option of ours


def test_numbers_can_have_bounds() -> None:
    share = Option("float", low=0, high=1, optional=True)
    for value in (0, 0.5, 1, None):
        share.check("share", value)
    for value in (-0.1, 2, "0.5", True, float("nan")):
        with pytest.raises(OptionError, match="share: expected a number from 0 to 1"):
            share.check("share", value)


def booleans(node: Any, place: str) -> list[str]:
    if isinstance(node, dict):
        return [found for key, value in node.items() for found in booleans(value, f"{place}.{key}" if place else key)]
    return [place] if isinstance(node, bool) and not place.endswith("._partial_") else []


@pytest.mark.parametrize("path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_boolean_of_conf_is_in_the_schema(path: Path) -> None:
    own_package = path.parent == ROOT / "conf" or path.read_text().startswith("# @package _global_")
    group = path.relative_to(ROOT / "conf").parts[0]
    places = booleans(yaml.safe_load(path.read_text()) or {}, "" if own_package else group)
    unlike_flags = {"trainer.fast_dev_run"}  # a number, too
    of_ranges = "hparams_search.space."  # which read_space checks
    found = {place for place in places if not place.startswith(("_", of_ranges))}
    assert found - unlike_flags <= OPTIONS.keys()
