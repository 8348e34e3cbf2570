"""What a search may propose, and what is refused before anything is trained."""

from functools import cache
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from gpt_classifier.config import compose, files_in
from gpt_classifier.errors import UserError
from gpt_classifier.sweeps.space import Choice, Range, as_override, read_space


@cache
def quickstart() -> DictConfig:
    """What `search` composes."""
    return compose(["experiment=quickstart"], "search")


def composed(space: dict[str, Any]) -> DictConfig:
    """The same with another space."""
    cfg = quickstart().copy()
    with open_dict(cfg):
        cfg.hparams_search.space = OmegaConf.create(space)
    return cfg


def test_lists_are_choices_and_mappings_with_ends_are_ranges() -> None:
    space = read_space(
        composed(
            {
                "optimizer": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "weight_decay": {"low": 0, "high": 1}},
                "pooling": ["mean", "max"],
                "trainer": {"max_epochs": {"low": 2, "high": 8, "step": 2}},
                "data": {"batch_size": None},
                "bag_of_tokens": [True, False],
            }
        )
    )
    assert space == {
        "optimizer.lr": Range(1e-4, 1e-2, log=True),
        "optimizer.weight_decay": Range(0, 1),
        "pooling": Choice(("mean", "max")),
        "trainer.max_epochs": Range(2, 8, step=2, whole=True),
        "bag_of_tokens": Choice(("true", "false")),
    }


def test_the_space_of_conf_is_one() -> None:
    space = read_space(compose([], "search"))
    assert "optimizer.lr" in space
    assert set(read_space(compose([], "search"), fixed=["freeze"])) == set(space) - {"freeze"}


@pytest.mark.parametrize("model", files_in("model"))
def test_rates_and_poolings_are_those_that_suit_the_model(model: str) -> None:
    cfg = compose([f"model={model}", "data=csv", "data.path=x"], "search")
    space = read_space(cfg)
    rates, poolings = space["optimizer.lr"], space["pooling"]
    assert isinstance(rates, Range)
    assert isinstance(poolings, Choice)
    usual = cfg.recipe.rates.get(model, cfg.recipe.rates.default)
    assert all(rates.low <= usual[freeze] <= rates.high for freeze in cfg.hparams_search.space.freeze)
    assert ("first_token" in poolings.texts) == ("last_token" not in poolings.texts) == ("gpt2" not in model)
    asked = ["hparams_search.space.optimizer.lr.high=1", "hparams_search.space.pooling=[max]"]
    space = read_space(compose([f"model={model}", *asked], "search"))
    assert (space["optimizer.lr"], space["pooling"]) == (Range(rates.low, 1, log=True), Choice(("max",)))


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({}, "hparams_search.space: there is nothing to search for"),
        ({"pooling": None}, "there is nothing to search for"),
        ({"optimizer": {"rl": [1, 2]}}, "no option optimizer.rl in these settings. Did you mean optimizer.lr?"),
        ({"pool": ["max"]}, "no option pool in these settings"),
        ({"pooling": []}, "hparams_search.space.pooling: expected a list of values, .* but it is an empty list"),
        ({"pooling": "max"}, "hparams_search.space.pooling: expected a list of values"),
        ({"pooling": ["maxx"]}, "conf/pooling has no file maxx. Did you mean max?"),
        ({"pooling": {"low": 1, "high": 2}}, "expected a list of files of conf/pooling"),
        ({"optimizer": {"lr": {"low": 1, "high": 0.1}}}, r"optimizer.lr.low: expected less than .*, which is 0.1"),
        ({"optimizer": {"lr": {"low": 0, "high": 1, "log": True}}}, "expected more than 0, as log=true"),
        ({"optimizer": {"lr": {"low": 0.1}}}, "expected a range"),
        ({"optimizer": {"lr": {"low": 0.1, "high": 1, "lgo": True}}}, "expected a range"),
        ({"optimizer": {"lr": {"low": "a", "high": 1}}}, "lr.low: expected a number"),
        ({"optimizer": {"lr": {"low": 0.1, "high": 1, "log": "yes"}}}, "lr.log: expected true or false"),
        ({"optimizer": {"lr": {"low": 0.1, "high": 1, "step": 2}}}, "lr.step: expected more than 0, at most high"),
        ({"optimizer": {"lr": [-1.0]}}, "hparams_search.space.optimizer.lr: expected a number of at least 0"),
        ({"seed": [1, 2]}, "it repeats a measurement"),
        ({"monitor": ["loss"]}, "trials are compared by it"),
        ({"hydra": {"run": {"dir": ["x"]}}}, "it is no option of a run"),
    ],
)  # fmt: skip
def test_what_can_not_be_searched_is_told_with_its_option(space: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_space(composed(space))


def test_proposals_are_short_and_stay_within_their_range() -> None:
    assert Range(1e-4, 1e-2, log=True).text(0.00123456789) == "0.001235"
    assert Range(0.1, 0.12345).text(0.12345) == "0.12345"
    assert Range(1, 8, whole=True).text(4) == "4"


def test_what_a_run_had_is_a_proposal_where_the_space_has_it() -> None:
    assert Range(1e-4, 1e-2).proposal("0.003") == 0.003
    assert Range(1e-4, 1e-2).proposal("0.1") is None
    assert Range(2, 8, step=2, whole=True).proposal("3") is None
    assert Range(2, 8, step=2, whole=True).proposal("4") == 4
    assert Choice(("mean", "max")).proposal("max") == "max"
    assert Choice(("mean", "max")).proposal("last_token") is None


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.5, "mean", "true", "12", "two words", "it's", "a,b", ["query", "value"], {"a": 1}]
)
def test_a_value_comes_back_from_an_override(value: Any) -> None:
    assert compose([f"+x={as_override(value)}"]).x == value
