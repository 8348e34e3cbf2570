"""The types of plain options, checked when a configuration is composed.

Hydra takes any value for any option. `cache.enabled=no` is then a string, and a string that is not empty counts as
true. What library code checks itself, such as the numbers of `data`, is not repeated here.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from gpt_classifier.errors import OptionError, expect_number, expect_one_of

FALSE_WORDS, TRUE_WORDS = ("no", "off", "n", "false", "0"), ("yes", "on", "y", "true", "1")
"""What people write for false and true; YAML 1.1 has most of them, Hydra's command line none."""


@dataclass(frozen=True)
class Option:
    """What an option takes.

    Args:
        kind: its type.
        optional: whether it can be null, too.
        low: the smallest number.
        high: the largest number, never infinite.
        empty: whether a `str` can be empty.
        words: that can stand in place of a number.
        choices: the only words that a `str` can be; none for any.
    """

    kind: Literal["bool", "int", "float", "str"]
    optional: bool = False
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    empty: bool = False
    words: tuple[str, ...] = ()

    def check(self, name: str, value: object) -> None:
        """Refuse a value that the option does not take.

        Args:
            name: of the option.
            value: as it was composed; numbers take no truth values.

        Raises:
            OptionError: the value has another type, or is out of range.
        """
        if (value is None and self.optional) or value in self.words:
            return
        if self.kind == "bool":
            _check_bool(name, value)
        elif self.kind != "str":
            expect_number(name, value, self.low, self.high, whole=self.kind == "int")
        elif self.choices:
            expect_one_of(name, value, self.choices)
        elif not isinstance(value, str):
            raise OptionError(name, "text", value, "Quotation marks make text of a number: {field}=\"'…'\".")
        elif not value.strip() and not self.empty:
            raise OptionError(name, "text that is not empty", "empty", "Is a shell variable not set?")


def _check_bool(name: str, value: object) -> None:
    if isinstance(value, bool):
        return
    word = str(value).lower()
    hint = "Write {field}=true or {field}=false."
    if word in FALSE_WORDS:
        hint = "Write {field}=false."
    elif word in TRUE_WORDS:
        hint = "Write {field}=true."
    raise OptionError(name, "true or false", f"the {_kind(value)} {value}" if value is not None else "null", hint)


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "word"
    return "number" if isinstance(value, int | float) else "value"


FLAG = Option("bool")
OPTIONAL_FLAG = Option("bool", optional=True)
TEXT = Option("str")
OPTIONAL_TEXT = Option("str", optional=True)
FOLDER = Option("str", empty=True)
SEED = Option("int", low=0, high=2**32 - 1)

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
HEAD_INITS = ("random", "linear_probe")
CACHE_TYPES = ("auto", "float32", "bfloat16", "int8")
ADAPT = ("train", "all_unlabelled")
EVALUATE = ("auto", "all", "final", "val", "never")

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")

OPTIONS = {
    "bag_of_tokens": FLAG,
    "adaptation.batch_tokens": Option("int", low=1),
    "adaptation.lr": Option("float", low=0, words=("auto",)),
    "adaptation.passes": Option("int", low=1),
    "adaptation.patience": Option("int", low=1),
    "adaptation.seed": SEED,
    "adaptation.val_fraction": Option("float", low=0.001, high=0.5),
    "batch_tokens": Option("int", low=1),
    "cache.dir": OPTIONAL_TEXT,
    "cache.dtype": Option("str", choices=CACHE_TYPES),
    "cache.enabled": FLAG,
    "cache.max_disk_gb": Option("float", low=0),
    "cache.max_gb": Option("float", low=0),
    "cache_dir": TEXT,
    "checkpoint_steps": Option("int", low=1),
    "callbacks.early_stopping.min_delta": Option("float"),
    "callbacks.early_stopping.mode": Option("str", choices=("min", "max")),
    "callbacks.early_stopping.monitor": TEXT,
    "callbacks.early_stopping.patience": Option("int", low=0),
    "callbacks.best.path": OPTIONAL_TEXT,
    "callbacks.last.dirpath": OPTIONAL_TEXT,
    "callbacks.last.filename": TEXT,
    "callbacks.learning_rate.logging_interval": Option("str", optional=True, choices=("step", "epoch")),
    "callbacks.last.enable_version_counter": FLAG,
    "callbacks.last.save_on_train_epoch_end": FLAG,
    "ckpt_path": OPTIONAL_TEXT,
    "compile": FLAG,
    "data.adapt": Option("str", optional=True, choices=ADAPT),
    "data.config": OPTIONAL_TEXT,
    "data.corrections": OPTIONAL_TEXT,
    "data.drop_incomplete": FLAG,
    "data.encoding": TEXT,
    "data.fold": Option("int", low=0),
    "data.group_column": OPTIONAL_TEXT,
    "data.label_column": TEXT,
    "data.revision": OPTIONAL_TEXT,
    "data.separator": Option("str", optional=True, empty=True),
    "data.sheet": OPTIONAL_TEXT,
    "data.split": TEXT,
    "data.text_column": TEXT,
    "data.time_column": OPTIONAL_TEXT,
    "data.path": OPTIONAL_TEXT,
    "data.test_label_column": OPTIONAL_TEXT,
    "data.official_split": FLAG,
    "data.test_path": OPTIONAL_TEXT,
    "data.test_split": OPTIONAL_TEXT,
    "data.test_text_column": OPTIONAL_TEXT,
    "data.val_every": Option("int", low=2),
    "data.val_label_column": OPTIONAL_TEXT,
    "data.train_split": TEXT,
    "data.transductive": FLAG,
    "data.val_path": OPTIONAL_TEXT,
    "data.val_split": OPTIONAL_TEXT,
    "data.val_text_column": OPTIONAL_TEXT,
    "evaluate": Option("str", choices=EVALUATE),
    "freeze.train_head": FLAG,
    "hardware": OPTIONAL_TEXT,
    "head_init": Option("str", choices=HEAD_INITS),
    "head_rate": Option("float", low=0),
    "hparams_search.seed": SEED,
    "hparams_search.trials": Option("int", low=1),
    "logger.csv.name": TEXT,
    "logger.csv.version": FOLDER,
    "logger.mlflow.experiment_name": TEXT,
    "logger.mlflow.tracking_uri": TEXT,
    "logger.tensorboard.default_hp_metric": FLAG,
    "logger.tensorboard.name": TEXT,
    "logger.tensorboard.version": FOLDER,
    "logger.wandb.project": TEXT,
    "logger.wandb.offline": FLAG,
    "model.backbone.settings.position_biased_input": FLAG,
    "model.backbone.settings.relative_attention": FLAG,
    "model.backbone.settings.share_att_key": FLAG,
    "masked.batches": Option("float", low=0, high=1),
    "masked.tokens": Option("float", low=0, high=1),
    "model.causal": FLAG,
    "model.compile": FLAG,
    "model.dropout": Option("float", optional=True, low=0, high=1),
    "model.hub": OPTIONAL_TEXT,
    "model.revision": OPTIONAL_TEXT,
    "model.tokenizer": OPTIONAL_TEXT,
    "model.weights": TEXT,
    "optimizer.fused": OPTIONAL_FLAG,
    "optimizer.lr": Option("float", low=0, words=("auto",)),
    "optimizer.momentum": Option("float", low=0, high=1),
    "optimizer.muon_lr": Option("float", low=0),
    "optimizer.weight_decay": Option("float", low=0),
    "recipe.bag_of_tokens": FLAG,
    "recipe.head_rate": Option("float", low=0),
    "run_dir": OPTIONAL_TEXT,
    "scheduler.final": Option("float", low=0),
    "scheduler.warmup": Option("float", low=0, high=1),
    "seed": SEED,
    "stacking.folds": Option("int", low=2, high=1000),
    "temperature": Option("float", low=0.1, high=100),
    "tokens": Option("int", low=1),
    "trainer.accelerator": Option("str", choices=ACCELERATORS),
    "trainer.accumulate_grad_batches": Option("int", low=1),
    "trainer.barebones": FLAG,
    "trainer.benchmark": OPTIONAL_FLAG,
    "trainer.detect_anomaly": FLAG,
    "trainer.enable_checkpointing": OPTIONAL_FLAG,
    "trainer.enable_model_summary": OPTIONAL_FLAG,
    "trainer.enable_progress_bar": OPTIONAL_FLAG,
    "trainer.gradient_clip_val": Option("float", optional=True, low=0),
    "trainer.inference_mode": FLAG,
    "trainer.log_every_n_steps": Option("int", low=1),
    "trainer.max_epochs": Option("int", low=1, words=("auto",)),
    "trainer.num_nodes": Option("int", low=1, high=2**16),
    "trainer.num_sanity_val_steps": Option("int", low=-1, high=2**31),
    "trainer.precision": Option("str", choices=PRECISIONS),
    "trainer.sync_batchnorm": FLAG,
    "trainer.use_distributed_sampler": FLAG,
    "val_steps": Option("int", low=1),
    "vocabulary": OPTIONAL_TEXT,
    "with_ngrams": FLAG,
}
"""By name; options that are not here, and those of a user's own groups, are not checked."""


def check_types(cfg: DictConfig, options: dict[str, Option] | None = None) -> None:
    """Refuse values that are not of their option's type.

    Args:
        cfg: composed.
        options: to check; `None` for all of `OPTIONS`. Those that `cfg` does not have are skipped.

    Raises:
        OptionError: at the first of them.
    """
    if options is None:
        plain: Any = OmegaConf.to_container(cfg, resolve=False)
        _check_nodes(plain, "")
        for name in NODES:
            value = _value(cfg, name)
            left_out = value is None and name in LEFT_OUT
            if value is not _ABSENT and not left_out and not isinstance(value, DictConfig):
                raise OptionError(name, "options, such as {a: 1}", value, _how_to_choose(name))
    for name, option in (OPTIONS if options is None else options).items():
        value = _value(cfg, name)
        if value is not _ABSENT:
            option.check(name, value)


def _value(cfg: DictConfig, name: str) -> Any:
    """What an option was composed to be; `None` for a reference to nothing, `_ABSENT` if there is no such option."""
    return OmegaConf.select(cfg, name, default=_ABSENT, throw_on_resolution_failure=False)


NODES = (
    *("adaptation", "adaptation.rates", "cache", "callbacks", "data", "freeze", "logger", "model", "optimizer"),
    *("hparams_search", "hparams_search.sampler", "hparams_search.pruner", "hparams_search.space"),
    *("pooling", "procedure", "scheduler", "stacking", "task", "trainer"),
    *("data.module", "data.source", "data.module.source", "model.backbone"),
)
"""What a group's file fills, and what builds a part: mappings of options."""

LEFT_OUT = ("callbacks", "data.source", "data.module.source", "hparams_search.pruner", "logger", "scheduler")
"""Those that can be null."""

PARTS = ("callbacks", "logger")
"""Mappings of such mappings, of which null leaves one out."""


def _check_nodes(values: dict[Any, Any], place: str) -> None:
    """Refuse a value where a mapping of options belongs, and names of classes that are no names.

    Args:
        values: plain ones; references such as `${seed}` are not followed.
        place: of these values, with a dot at its end, or empty.
    """
    for key, value in values.items():
        name = f"{place}{key}"
        if key == "_partial_":
            _check_bool(name, value)
        elif isinstance(value, dict):
            _check_nodes(value, f"{name}.")
        elif isinstance(value, str) and value.startswith("${"):
            continue
        elif key == "_target_" and not isinstance(value, str):
            raise OptionError(name, "the name of a class or function, such as package.module.Class", value)
        elif value is not None and place.rstrip(".") in PARTS:
            raise OptionError(name, "options, such as {a: 1}", value)


def _how_to_choose(name: str) -> str:
    return "" if "." in name else "{field}=FILE chooses a file of conf/{field}, and {field}.KEY=VALUE sets one option."


_ABSENT = object()
