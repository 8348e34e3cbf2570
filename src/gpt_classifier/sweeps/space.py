"""What a search may choose: for each option a range or a list of values."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from gpt_classifier.config import files_in, meant, names_of
from gpt_classifier.errors import OptionError, UserError, expect_bool, expect_number
from gpt_classifier.experiments import BASELINE
from gpt_classifier.schema import OPTIONS
from gpt_classifier.sweeps.results import REPEATED

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SPACE = "hparams_search.space"
"""The option that holds the space."""

NOT_SEARCHED = {
    **dict.fromkeys(("ckpt_path", "run_dir"), "it is a place, not a hyperparameter"),
    **dict.fromkeys(("evaluate", "monitor", "procedure", "task"), "trials are compared by it"),
    **dict.fromkeys(REPEATED, "it repeats a measurement. Repeat the winner by -m seed=1,2,3"),
}
"""Options that a space can't have, and why."""

DIGITS = 4  # of a number that is proposed: more make no difference, and can't be read
ENDS = ("low", "high", "log", "step")


class Parameter(ABC):
    """The values that one option may take."""

    @abstractmethod
    def distribution(self) -> "BaseDistribution":
        """As Optuna has it."""

    @abstractmethod
    def text(self, value: Any) -> str:
        """A value as an override has it.

        Args:
            value: as Optuna proposes it, or as a configuration has it.
        """

    @abstractmethod
    def proposal(self, text: str) -> Any:
        """What Optuna would have proposed for a text of `text`; `None` if the parameter does not have it."""


@dataclass(frozen=True)
class Range(Parameter):
    """Numbers between two ends, which are included.

    Args:
        low: the smaller end.
        high: the larger end.
        log: whether 0.001 to 0.01 is as far as 0.01 to 0.1.
        step: between neighbours, from `low`; `None` for any number.
        whole: whether they are whole numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def __str__(self) -> str:
        details = [*(["log"] if self.log else []), *([f"step {self.step:g}"] if self.step else [])]
        return f"{self.low:g} to {self.high:g}{f' ({details[0]})' if details else ''}"

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def text(self, value: Any) -> str:
        if not isinstance(value, int | float) or isinstance(value, bool) or self.whole:
            return as_override(value)
        inside = self.low <= value <= self.high
        rounded = float(f"{value:.{DIGITS}g}")
        return repr(min(max(rounded, self.low), self.high) if inside else value)

    def proposal(self, text: str) -> Any:
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            return None
        steps = (value - self.low) / self.step if self.step else 0.0
        inside = self.low <= value <= self.high and math.isclose(steps, round(steps), abs_tol=1e-9)
        return value if inside else None


@dataclass(frozen=True)
class Choice(Parameter):
    """One of some values.

    Args:
        texts: the values as overrides have them.
    """

    texts: tuple[str, ...]

    def __str__(self) -> str:
        return f"[{','.join(self.texts)}]"

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)

    def text(self, value: Any) -> str:
        return value if value in self.texts else as_override(value)

    def proposal(self, text: str) -> Any:
        return text if text in self.texts else None


Space = Mapping[str, Parameter]
"""By the name of the option."""


def as_override(value: Any) -> str:
    """A plain value as Hydra's grammar has it: `true`, `null`, `[query,value]`, `'two words'`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_override, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{as_override(part)}' for key, part in value.items())}}}"
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z_][\w./+-]*", text) and text.lower() not in ("true", "false", "null", "nan", "inf")
    if not isinstance(value, str) or plain:
        return text
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", r"\'"))


def read_space(cfg: DictConfig, fixed: Collection[str] = (), folders: Sequence[Path] | None = None) -> Space:
    """The search space of a configuration.

    Args:
        cfg: what `conf/search.yaml` composes. In its node `hparams_search.space` a list is a choice, a mapping with
            `low` and `high` a range, any other mapping a part of a name; `null` leaves an option out.
        fixed: options that are set for all trials, and are not searched.
        folders: where files of groups are looked for; `None` for `conf/` alone.

    Raises:
        UserError: at the first part of it that can't be searched.
    """
    if OmegaConf.select(cfg, "procedure._target_") == BASELINE:
        hint = "It chooses among its candidates by itself: use train."
        raise OptionError("procedure", "usual, which trains with what is searched", "baseline", hint)
    node: Any = OmegaConf.to_container(cfg.hparams_search.space or OmegaConf.create(), resolve=True)
    found = {key: values for key, values in _leaves(node) if key not in fixed and values is not None}
    if not found:
        raise UserError(
            f"{SPACE}: there is nothing to search for. Name options with a list of values or a range, such as "
            f"'{SPACE}.optimizer.lr={{low:1e-4,high:1e-2,log:true}}'."
        )
    return {key: _parameter(key, values, cfg, folders) for key, values in found.items()}


def _leaves(node: Mapping[str, Any], place: str = "") -> list[tuple[str, Any]]:
    leaves = []
    for key, values in node.items():
        part = isinstance(values, dict) and not set(values) & set(ENDS)
        leaves += _leaves(values, f"{place}{key}.") if part else [(f"{place}{key}", values)]
    return leaves


def _parameter(key: str, values: Any, cfg: DictConfig, folders: Sequence[Path] | None) -> Parameter:
    option = f"{SPACE}.{key}"
    if key.partition(".")[0] in ("hydra", "hparams_search") or key in NOT_SEARCHED:
        raise UserError(f"{option}: this can't be searched: {NOT_SEARCHED.get(key, 'it is no option of a run')}.")
    files = None if "." in key else files_in(key, folders)
    if not files and OmegaConf.select(cfg, key, default=_ABSENT, throw_on_missing=False) is _ABSENT:
        plain: Any = OmegaConf.to_container(cfg)
        raise UserError(f"{option}: there is no option {key} in these settings.{meant(key, list(names_of(plain)))}")
    parameter = _range(option, key, values, cfg) if isinstance(values, dict) else _choice(option, values)
    if files:
        _expect_files(option, key, values, files)
    elif key in OPTIONS:
        for value in (values["low"], values["high"]) if isinstance(values, dict) else values:
            OPTIONS[key].check(option, value)
    return parameter


def _choice(option: str, values: Any) -> Choice:
    if not isinstance(values, list) or not values:
        found = "an empty list" if values == [] else values
        raise OptionError(
            option, "a list of values, or a range {low: …, high: …}", found, "{field}=null leaves it out."
        )
    return Choice(tuple(dict.fromkeys(map(as_override, values))))


def _range(option: str, key: str, values: dict[str, Any], cfg: DictConfig) -> Range:
    if not {"low", "high"} <= set(values) <= set(ENDS):
        raise OptionError(option, "a range {low: …, high: …, log: …, step: …}, the last two if wanted", values)
    log, step = values.get("log", False), values.get("step")
    expect_bool(f"{option}.log", log)
    for end in ("low", "high"):
        expect_number(f"{option}.{end}", values[end], -math.inf)
    low, high = values["low"], values["high"]
    if not low < high:
        raise OptionError(f"{option}.low", f"less than {option}.high, which is {high}", low)
    if log and low <= 0:
        raise OptionError(f"{option}.low", "more than 0, as log=true", low)
    if step is not None:
        expect_number(f"{option}.step", step, 0)
        if log or not 0 < step <= high - low:
            raise OptionError(f"{option}.step", "more than 0, at most high - low, and not beside log=true", step)
    whole = all(isinstance(value, int) for value in (low, high, step or 1)) and not _is_fractional(key, cfg)
    return Range(low, high, log, step, whole)


def _is_fractional(key: str, cfg: DictConfig) -> bool:
    """Whether an option takes more than whole numbers, by its type or what it is."""
    if key in OPTIONS:
        return OPTIONS[key].kind == "float"
    return isinstance(OmegaConf.select(cfg, key, throw_on_resolution_failure=False), float)


def _expect_files(option: str, group: str, values: Any, files: Mapping[str, Path]) -> None:
    if not isinstance(values, list):
        raise OptionError(option, f"a list of files of conf/{group}", values)
    for value in values:
        if str(value) not in files:
            known = ", ".join(files)
            hint = meant(str(value), list(files))
            raise UserError(f"{option}: conf/{group} has no file {value}.{hint} There are: {known}.")


_ABSENT = object()
