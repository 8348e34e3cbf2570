"""The parts of a training, from a composed configuration."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import FSDPStrategy
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.tokenizers import expect_vocabulary, load_encoding, ranks_to_text
from gpt_classifier.device import best_device, has_native_bf16, keep_few_kernels
from gpt_classifier.errors import UserError, expect_number, first_line
from gpt_classifier.models.classifier import FORMAT, GPTClassifier
from gpt_classifier.models.freezing import hold_frozen, hold_trained
from gpt_classifier.models.weights import Base, content_hash, load_classifier, locate_weights
from gpt_classifier.training.checkpoint_io import AtomicCheckpointIO
from gpt_classifier.training.frozen_prefix import CacheOptions, FrozenPrefix, PrefixKey
from gpt_classifier.training.module import ClassifierModule

log = logging.getLogger(__name__)

NUMBERS: dict[str, dict[str, Any]] = {
    "seed": {"low": 0, "high": 2**32 - 1, "whole": True},
    "trainer.max_epochs": {"low": 1, "whole": True},
    "trainer.accumulate_grad_batches": {"low": 1, "whole": True},
    "trainer.log_every_n_steps": {"low": 1, "whole": True},
    "trainer.gradient_clip_val": {"low": 0, "optional": True},
    "optimizer.lr": {"low": 0},
    "optimizer.weight_decay": {"low": 0},
    "model.dropout": {"low": 0, "high": 1},
    "scheduler.warmup": {"low": 0, "high": 1},
    "scheduler.final": {"low": 0},
    "cache.max_gb": {"low": 0},
    "cache.max_disk_gb": {"low": 0},
}
"""What must be a number, and from where to where; what is not in the configuration is not checked."""

REFUSED = {
    "trainer.limit_test_batches": "every report here covers whole splits. data.train_size trains on fewer messages",
    "trainer.overfit_batches": "batches here are not made by Lightning. debug=overfit learns a few messages by heart",
}
"""Arguments of Lightning's Trainer that can't mean here what they say."""


def check(cfg: DictConfig) -> None:
    """Refuse values that would fail later, somewhere deep.

    Raises:
        UserError: at the first of them.
    """
    check_numbers(cfg, NUMBERS)
    for option, reason in REFUSED.items():
        if OmegaConf.select(cfg, option) is not None:
            raise UserError(f"{option} can't be set: {reason}.")
    if not isinstance(cfg.model.weights, str):
        raise UserError(f"model.weights: expected pretrained, random or a path, but it is {cfg.model.weights}.")
    if not isinstance(cfg.model.causal, bool):
        raise UserError(f"model.causal: expected true or false, but it is {cfg.model.causal}.")
    backbone = cfg.model.backbone
    if backbone.n_embd % backbone.n_head:
        raise UserError(
            f"model.backbone.n_head: expected a divisor of n_embd, {backbone.n_embd}, but it is {backbone.n_head}."
        )


def check_numbers(cfg: DictConfig, numbers: dict[str, dict[str, Any]]) -> None:
    """Refuse what is outside a table such as `NUMBERS`.

    Raises:
        UserError: at the first of them.
    """
    for option, bounds in numbers.items():
        value = OmegaConf.select(cfg, option, default="absent")
        if value != "absent" and not (value is None and bounds.get("optional")):
            expect_number(option, value, **{name: bound for name, bound in bounds.items() if name != "optional"})


def build_trainer(cfg: DictConfig) -> Trainer:
    """The Lightning trainer with its callbacks, loggers and resolved precision."""
    parts = {
        "callbacks": [instantiate(callback) for callback in (cfg.callbacks or {}).values()],
        "logger": [_build_logger(name, logger) for name, logger in (cfg.logger or {}).items()],
        "precision": resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator),
        "plugins": [AtomicCheckpointIO()],
    }
    try:
        trainer = instantiate(cfg.trainer, **parts)
    except (InstantiationException, MisconfigurationException) as error:
        cause = error.__cause__ or error
        raise UserError(
            f"trainer: Lightning refuses these settings: {str(cause).strip()} trainer=auto takes what this machine has."
        ) from error
    if trainer.world_size > 1:
        _check_processes(cfg, trainer)
    return trainer


def _build_logger(name: str, config: DictConfig) -> Any:
    try:
        return instantiate(config)
    except InstantiationException as error:
        if isinstance(error.__cause__, ImportError):
            raise UserError(f'logger={name} needs the extra of that name: pip install -e ".[{name}]"') from error
        raise


def _check_processes(cfg: DictConfig, trainer: Trainer) -> None:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    launches = environment is not None and not environment.creates_processes_externally
    if launches and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError(
            f"trainer: {trainer.world_size} processes and -m do not go together: each process would repeat the "
            f"whole sweep, because Lightning starts it with the same command line. Run one training after another "
            f"from the shell (for s in 1 2 3; do python train.py trainer=ddp seed=$s; done), start the sweep under "
            f"torchrun, or set trainer.devices=1."
        )
    if cfg.data.batch_size % trainer.world_size:
        raise UserError(
            f"data.batch_size: {cfg.data.batch_size} messages can't be shared evenly by {trainer.world_size} "
            f"processes. Set data.batch_size to a multiple of {trainer.world_size}."
        )


PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def resolve_precision(precision: str, accelerator: str) -> str:
    """`auto` is `bf16-mixed` where the hardware multiplies bfloat16 natively, else `32-true`.

    Args:
        precision: one of `PRECISIONS`.
        accelerator: Lightning's name of one, or `auto`.
    """
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision: expected one of {', '.join(PRECISIONS)}, but it is {precision}.")
    if precision != "auto":
        return precision
    device = {"gpu": "cuda", "auto": best_device()}.get(accelerator, accelerator)
    return "bf16-mixed" if has_native_bf16(device) else "32-true"


def load_data(cfg: DictConfig) -> MessageDataModule:
    """The prepared splits, fetched first if need be."""
    data: MessageDataModule = instantiate(cfg.data.module)
    data.prepare_data()
    expect_vocabulary(cfg.model.tokenizer, cfg.model.backbone.vocab_size, cfg.model.weights)
    data.setup()
    return data


def build_module(cfg: DictConfig, trainer: Trainer, data: MessageDataModule) -> ClassifierModule:
    """The classifier with its frozen part switched off, and how it is trained."""
    keep_few_kernels()
    config = instantiate(cfg.model.backbone)
    path = locate_weights(cfg.model.weights, cfg.model.hub)
    model = load_classifier(config, path, instantiate(cfg.pooling), len(data.class_names), cfg.model.causal)
    instantiate(cfg.freeze)(model)
    sharded = isinstance(trainer.strategy, FSDPStrategy)  # it wants one type in each block, and moves weights about
    compute_type = torch.float32 if sharded else COMPUTE_TYPES.get(str(trainer.precision), torch.float32)
    hold_trained(model)
    if cfg.model.compile:
        model.compile_blocks()
    base = None
    if path is not None and not sharded and not all(p.requires_grad for p in model.parameters()):
        sha256 = content_hash(path, Path(cfg.cache_dir).expanduser() / "weights.json")
        base = Base(str(path), cfg.model.hub if cfg.model.weights == "pretrained" else None, sha256)
    spec = {
        "format": FORMAT,
        "backbone": asdict(config),
        "pooling": model.pooling.name,
        "causal": model.causal,
        "lora": model.lora,
        "tokenizer": cfg.model.tokenizer,
        "vocabulary": None
        if cfg.model.tokenizer == "gpt2"
        else ranks_to_text(load_encoding(cfg.model.tokenizer)._mergeable_ranks),
        "class_names": data.class_names,
        "max_length": data.max_length,
        "pad_to": data.pad_to,
        "truncate": data.truncate,
        "temperature": 1.0,
        "note": data.report.note,
        "base": asdict(base) if base else None,
    }
    prefix = None if sharded else build_prefix(cfg, data, model, compute_type, base)
    if prefix is None:  # a prefix converts its weights itself, and only if it has to compute
        hold_frozen(model, compute_type)
    scheduler = instantiate(cfg.scheduler) if cfg.get("scheduler") else None
    # Lightning clips no gradients for an optimizer that might unscale them itself, even where nothing is scaled
    mixed = trainer.precision == "16-mixed" or (trainer.precision == "bf16-mixed" and trainer.gradient_clip_val)
    unfused = {"fused": False} if mixed and cfg.optimizer.get("fused") else {}
    optimizer = instantiate(cfg.optimizer, **unfused)
    try:
        optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {first_line(error)} Set the keys of optimizer to values that it takes.") from error
    return ClassifierModule(model, optimizer, scheduler, data.class_names, spec, cfg.seed, prefix)


COMPUTE_TYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def build_prefix(
    cfg: DictConfig, data: MessageDataModule, model: GPTClassifier, compute_type: torch.dtype, base: Base | None
) -> FrozenPrefix | None:
    """The cache of what can't change during this training, or `None`, said why, where there is none."""
    options = CacheOptions(**cfg.cache)
    depth = model.frozen_depth()
    padded = model.pooling.reads_padding
    reason = ""
    if not options.enabled:
        reason = "cache.enabled=false"
    elif model.backbone.config.dropout and not model.backbone.wte.weight.requires_grad:
        reason = "dropout acts in the frozen blocks too"
    elif depth == 0:
        reason = "every block is trained"
    elif padded and data.pad_to == "batch":
        reason = f"pooling={model.pooling.name} reads padding, and data.pad_to=batch changes it from batch to batch"
    if not reason:
        key = PrefixKey(
            weights=base.sha256 if base else None,
            backbone=asdict(model.backbone.config),
            depth=depth,
            causal=model.causal,
            dtype=str(compute_type).removeprefix("torch."),
            pooling=model.pooling.name if depth == model.pooled_depth else None,
            padded_length=int(data.pad_to) if padded else None,
            pad_id=data.pad_id if padded else None,
        )
        prefix = FrozenPrefix(key, options)
        size = prefix.size_gb(data.token_rows())
        if size <= options.max_disk_gb:
            return prefix
        reason = f"it would take {size:.1f} GB, more than cache.max_disk_gb={options.max_disk_gb}"
    log.info("prefix   not kept: %s", reason)
    return None
