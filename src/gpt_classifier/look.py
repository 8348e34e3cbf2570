"""A look at what a run is asked for, before anything is imported that takes seconds.

All of it is checked again by the code that uses it. What passes there passes here.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gpt_classifier.checkpoints import resumable_path
from gpt_classifier.encoders.config import known_depth
from gpt_classifier.errors import UserError, option_group
from gpt_classifier.hub import expect_datasets
from gpt_classifier.models.limits import expect_blocks, expect_weights
from gpt_classifier.schema import SEED, Option, check_types
from gpt_classifier.tables.labelled import LabelledTable
from gpt_classifier.tables.reading import KINDS, ending_of

NUMBERS = {
    "data.batch_size": Option("int", low=1, words=("auto",)),
    "data.bucket_batches": Option("int", low=1),
    "data.max_length": Option("int", optional=True, low=1),
    "data.split_seed": SEED,
    "data.split_shuffles": Option("int", low=1, high=100),
    "data.subset_seed": SEED,
    "data.train_size": Option("float", optional=True, low=0),
    "data.val_fraction": Option("float", low=0, high=1),
}
WITHOUT_FOLDS = {"data.test_fraction": Option("float", low=0, high=1)}
"""Of `MessageDataModule`, which checks them too, and what depends on others."""

MODULE, TABLE = "gpt_classifier.data.datamodule.MessageDataModule", "gpt_classifier.data.sources.Table"
HUB, SMS = "gpt_classifier.data.sources.HubDataset", "gpt_classifier.data.sources.SmsSpam"
ENCODER = "gpt_classifier.encoders.config.EncoderConfig"
USUAL = "gpt_classifier.training.run.train"
LAST_BLOCKS, GPT = "gpt_classifier.models.freezing.train_last_blocks", "gpt_classifier.models.gpt.GPTConfig"

TABLES = KINDS.keys() - {"txt"}
"""Endings of files that the SMS Spam Collection does not come as."""


def look(cfg: DictConfig) -> None:
    """Refuse what would fail after seconds: paths, columns and first rows of tables, plain numbers.

    Args:
        cfg: of a run, composed.

    Raises:
        UserError: at the first of them.
    """
    if cfg.get("with_ngrams") and _target(cfg, "procedure") != USUAL:
        raise UserError(
            "with_ngrams: only procedure=usual trains a model that n-grams can be joined with. Leave one out."
        )
    if cfg.get("ckpt_path"):
        resumable_path(cfg.ckpt_path)
    if _target(cfg, "data.module") == MODULE:
        check_types(cfg, NUMBERS if cfg.data.get("folds") else NUMBERS | WITHOUT_FOLDS)
    target = _target(cfg, "model.backbone")
    if target in (GPT, ENCODER):
        with option_group("model"):
            expect_weights(cfg.model.get("weights", "random"))
            depth = cfg.model.backbone.n_layer if target == GPT else known_depth(cfg.model)
        if depth is not None and _target(cfg, "freeze") == LAST_BLOCKS:
            with option_group("freeze"):
                expect_blocks(cfg.freeze.get("n"), depth)
    look_at_messages(cfg)


def look_at_messages(cfg: DictConfig, classes: bool = True) -> None:
    """Refuse a table that can't be trained on, as far as its first rows tell.

    Args:
        cfg: of a run, composed.
        classes: whether one class alone is refused.

    Raises:
        UserError: it can't.
    """
    target = _target(cfg, "data.source")
    if target == SMS and cfg.data.path:
        _expect_collection(Path(cfg.data.path).expanduser())
    if target not in (TABLE, HUB):
        return
    options: Any = OmegaConf.to_container(cfg.data.source, resolve=True)
    options.pop("_target_")
    with option_group("data"):
        if target == TABLE:
            LabelledTable(**options).look(classes)
        else:
            from gpt_classifier.data.sources import HubDataset  # with pandas

            HubDataset(**options)
            expect_datasets()


def _expect_collection(path: Path) -> None:
    """Refuse a file of the user's own that is taken for the SMS Spam Collection because `data=csv` is missing."""
    if ending_of(path) not in TABLES:
        return
    with suppress(OSError), path.open("rb") as file:
        if file.readline(100).partition(b"\t")[0] in (b"ham", b"spam"):
            return
    raise UserError(
        f"data.path: expected the SMS Spam Collection, as data=sms_spam is the default, but it is {path}. Add data=csv "
        f"for a file of your own."
    )


def _target(cfg: DictConfig, node: str) -> Any:
    return OmegaConf.select(cfg, f"{node}._target_", default=None, throw_on_resolution_failure=False)
