"""The parts of a training, from a composed configuration."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import FSDPStrategy
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.activations.frozen_prefix import CacheOptions, FrozenPrefix, PrefixKey
from gpt_classifier.artifact import pooling_state
from gpt_classifier.config import InstantiationException, instantiate
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.sources import Source
from gpt_classifier.device import best_device, evaluation_tokens, has_native_bf16, warn_if_emulated
from gpt_classifier.errors import OptionError, UserError, expect_number, first_line, option_group
from gpt_classifier.families import complete_config, empty_backbone, load_classifier
from gpt_classifier.models.backbone import Backbone
from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.freezing import hold_frozen, hold_trained
from gpt_classifier.models.limits import expect_adaptable
from gpt_classifier.models.pooling import Pooling
from gpt_classifier.models.weights import content_hash, locate_weights
from gpt_classifier.paths import cache_folder
from gpt_classifier.schema import check_types
from gpt_classifier.spec import Base, Spec, pooling_text
from gpt_classifier.tokenizers import expect_vocabulary, tokenizer_of
from gpt_classifier.training.callbacks import FillPrefix, OwnSignals, Progress
from gpt_classifier.training.checkpoint_io import AtomicCheckpointIO
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.linear_probe import FitHead, can_probe
from gpt_classifier.training.loggers import build_logger
from gpt_classifier.training.module import ClassifierModule
from gpt_classifier.training.recipe import AUTO

log = logging.getLogger(__name__)

MOST_PROCESSES = 1024  # of one machine

USUAL = "gpt_classifier.training.run.train"

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
    check_types(cfg)
    if cfg.data.get("adapt"):
        expect_adaptable(cfg.model, "data.adapt")
        if cfg.procedure._target_ != USUAL:
            raise UserError("data.adapt: only procedure=usual adapts the model before it is trained. Leave one out.")
    elif cfg.data.get("transductive"):
        raise OptionError("data.transductive", "false where data.adapt says nothing", True, "Set data.adapt=train.")
    devices = cfg.trainer.get("devices")
    if isinstance(devices, int):  # others are Lightning's affair
        expect_number("trainer.devices", devices, -1, MOST_PROCESSES, whole=True, hint="auto takes all that there are.")
    for option, reason in REFUSED.items():
        if OmegaConf.select(cfg, option) is not None:
            raise UserError(f"{option} can't be set: {reason}.")


def expect_one_process(cfg: DictConfig) -> None:
    """Refuse several processes where folds are trained one after another.

    Raises:
        OptionError: there are to be several.
    """
    if cfg.trainer.get("devices") not in (1, "1") or cfg.trainer.get("num_nodes", 1) != 1:
        raise OptionError("trainer.devices", "1, as folds are trained in one process", cfg.trainer.get("devices"))


def build_trainer(cfg: DictConfig, context: RunContext, validate: bool = True) -> Trainer:
    """The Lightning trainer with its callbacks, loggers and resolved precision; without a folder it writes nothing."""
    callbacks = [instantiate(callback) for callback in (cfg.get("callbacks") or {}).values() if callback is not None]
    probed = cfg.head_init == "linear_probe"
    parts: dict[str, Any] = {
        "callbacks": [OwnSignals(), FillPrefix(), *([FitHead()] if probed else []), *callbacks, *context.callbacks],
        "logger": [
            build_logger(name, logger) for name, logger in (cfg.get("logger") or {}).items() if logger is not None
        ],
        "precision": resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator, _without_weights(cfg).width),
        "plugins": [AtomicCheckpointIO()],
    }
    if not validate:
        parts["limit_val_batches"] = 0
    elif probed:  # with few texts it may be the best that there is
        parts["num_sanity_val_steps"] = -1
    if context.folder is None:
        parts |= {"logger": False, "enable_checkpointing": False, "enable_progress_bar": context.progress}
        parts["callbacks"] += [Progress()] if context.progress else []
    try:
        trainer = instantiate(cfg.trainer, **parts)
    except (InstantiationException, MisconfigurationException) as error:
        cause = error.__cause__ or error
        raise UserError(
            f"trainer: Lightning refuses these settings: {str(cause).strip()} trainer=auto takes what this machine has."
        ) from error
    if trainer.world_size > 1:
        _check_processes(cfg, trainer, context)
    return trainer


def _check_processes(cfg: DictConfig, trainer: Trainer, context: RunContext) -> None:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    launches = environment is not None and not environment.creates_processes_externally
    if launches and context.sweep:
        raise UserError(
            f"trainer: {trainer.world_size} processes and -m do not go together: each process would repeat the "
            f"whole sweep, because Lightning starts it with the same command line. Start one run after another "
            f"from the shell (for s in 1 2 3; do python train.py trainer=ddp seed=$s; done), start the sweep under "
            f"torchrun, or set trainer.devices=1."
        )
    if cfg.data.batch_size % trainer.world_size:
        raise UserError(
            f"data.batch_size: {cfg.data.batch_size} messages can't be shared evenly by {trainer.world_size} "
            f"processes. Set data.batch_size to a multiple of {trainer.world_size}."
        )


NARROW = 512
"""Below this width a CPU trains faster in float32: its products in bfloat16 are too small to gain from."""


def resolve_precision(precision: str, accelerator: str, width: int | None = None) -> str:
    """`auto` is `bf16-mixed` where the hardware multiplies bfloat16 natively and it is faster, else `32-true`.

    Args:
        precision: one of `gpt_classifier.schema.PRECISIONS`.
        accelerator: Lightning's name of one, or `auto`.
        width: of the model's hidden states; `None` where batches are large enough for any width to gain.
    """
    device = device_of(accelerator)
    if precision != "auto":
        warn_if_emulated(precision, device)
        return precision
    slower = device == "cpu" and width is not None and width < NARROW
    return "bf16-mixed" if has_native_bf16(device) and not slower else "32-true"


def device_of(accelerator: str) -> str:
    """The type of device that Lightning's name of an accelerator means here: `cpu`, `cuda` or `mps`."""
    return {"gpu": "cuda", "auto": best_device()}.get(accelerator, accelerator)


def build_pooling(cfg: DictConfig, make: Callable[[int], Pooling] | None = None) -> Pooling:
    """The pooling, its sizes settled.

    Args:
        cfg: the composed configuration.
        make: makes it from the width of the hidden states; `None` for what `cfg` names.
    """
    backbone = _without_weights(cfg)
    with option_group("pooling"):
        pooling = make or instantiate(cfg.pooling)
        if not isinstance(pooling, Pooling):
            pooling = pooling(backbone.width)
        return pooling.within(backbone.context)


def load_data(cfg: DictConfig, source: Source | None = None, pooling: Pooling | None = None) -> MessageDataModule:
    """The prepared splits, fetched first if need be.

    Args:
        cfg: the composed configuration.
        source: texts and labels instead of those that it names.
        pooling: instead of the one that it names.
    """
    backbone = _without_weights(cfg)
    with option_group("model"):
        tokenizer = tokenizer_of(cfg.model.tokenizer, cfg.model.weights, cfg.model.hub, cfg.model.revision)
        name = cfg.model.tokenizer or cfg.model.hub or f"that of {cfg.model.weights}"
        expect_vocabulary(tokenizer, str(name), backbone.vocab_size, cfg.model.weights)
    parts = {
        "tokenizer": tokenizer,
        "context_length": backbone.context,
        "windows": (pooling or build_pooling(cfg)).windows,
        "task": instantiate(cfg.task, **({"monitor": "accuracy"} if cfg.monitor == AUTO else {})),
    }
    parts["evaluation_tokens"] = evaluation_tokens(device_of(cfg.trainer.accelerator))
    if cfg.data.batch_size == AUTO:
        parts["batch_size"] = 1
    try:
        with option_group("data"):
            data: MessageDataModule = instantiate(cfg.data.module, **parts, **({"source": source} if source else {}))
            data.prepare_data()
            data.setup()
    except OptionError as error:  # special tokens leave no room in windows, which are the pooling's
        error.field = re.sub(r"^data\.windows\b", "pooling", error.field)
        raise
    return data


def backbone_config(cfg: DictConfig) -> Any:
    """The sizes of the backbone, of one of `gpt_classifier.families.FAMILIES`."""
    with option_group("model.backbone"):
        config = instantiate(cfg.model.backbone)
    with option_group("model"):
        return complete_config(config, cfg.model.weights, cfg.model.hub, cfg.model.revision)


def _without_weights(cfg: DictConfig) -> Backbone:
    config = backbone_config(cfg)
    with option_group("model.backbone"):
        return empty_backbone(config)


def build_module(
    cfg: DictConfig,
    trainer: Trainer,
    data: MessageDataModule,
    pooling: Pooling | None = None,
    adapted: Path | None = None,
) -> ClassifierModule:
    """The classifier with its frozen part switched off, and how it is trained.

    Args:
        cfg: the composed configuration.
        trainer: for precision and strategy.
        data: prepared.
        pooling: instead of the one that `cfg` names.
        adapted: weights instead of those that `cfg` names; where nothing is written (`run_dir=null`) they may be gone
            tomorrow, and the checkpoint has all of them.
    """
    config = backbone_config(cfg)
    pooling = pooling or build_pooling(cfg)
    with option_group("model"):
        path = adapted or locate_weights(cfg.model.weights, cfg.model.hub, cfg.model.revision)
        model = load_classifier(config, path, pooling, len(data.task.classes))
    with option_group("freeze"):
        instantiate(cfg.freeze)(model)
    model.train()  # where a backbone drops may depend on what is trained
    sharded = isinstance(trainer.strategy, FSDPStrategy)  # it wants one type in each block, and moves weights about
    if cfg.bag_of_tokens and cfg.head_init == "random":
        log.info("head     random: bag_of_tokens needs head_init=linear_probe")
    probed = cfg.head_init == "linear_probe" and can_probe(trainer, data, model)
    if probed and cfg.bag_of_tokens:
        model.words = BagOfTokens(model.backbone.vocab_size, len(data.task.classes))
    compute_type = torch.float32 if sharded else COMPUTE_TYPES.get(str(trainer.precision), torch.float32)
    hold_trained(model)
    if cfg.model.compile:
        model.compile_blocks()
    base = None
    lasting = path is not None and (adapted is None or cfg.run_dir is not None)
    if path is not None and lasting and not sharded and not all(p.requires_grad for p in model.parameters()):
        sha256 = content_hash(path, cache_folder() / "weights.json")
        fetched = cfg.model.weights == "pretrained" and adapted is None
        base = Base(str(path), cfg.model.hub if fetched else None, sha256, cfg.model.revision if fetched else None)
    spec = Spec(
        backbone=model.backbone.state(),
        pooling=pooling_state(model.pooling),
        tokenizer=data.tokenizer.state(),
        task=data.task.state(),
        max_length=data.max_length,
        pad_to=data.pad_to,
        truncate=data.truncate,
        lora=model.lora,
        base=base,
        note=data.report.note,
        whole_numbers=data.whole_numbers,
        teachers=[dict(teacher) for teacher in cfg.get("teachers") or ()],
    )
    prefix = None if sharded else build_prefix(cfg, data, model, compute_type, base)
    if prefix is None:  # a prefix converts its weights itself, and only if it has to compute
        hold_frozen(model, compute_type)
    scheduler = instantiate(cfg.scheduler) if cfg.get("scheduler") else None
    # Lightning clips no gradients for an optimizer that might unscale them itself, even where nothing is scaled
    mixed = trainer.precision == "16-mixed" or (trainer.precision == "bf16-mixed" and trainer.gradient_clip_val)
    unfused = {"fused": False} if mixed and cfg.optimizer.get("fused") else {}
    optimizer = instantiate(cfg.optimizer, **unfused)
    try:
        optimizer([torch.nn.Parameter(torch.zeros(1, 1))])  # a matrix: Muon takes nothing else
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {first_line(error)} Set the keys of optimizer to values that it takes.") from error
    head_rate = cfg.head_rate if probed else 1.0
    return ClassifierModule(model, data.task, optimizer, scheduler, spec, cfg.seed, prefix, head_rate)


COMPUTE_TYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def build_prefix(
    cfg: DictConfig, data: MessageDataModule, model: Classifier, compute_type: torch.dtype, base: Base | None
) -> FrozenPrefix | None:
    """The cache of what can't change during this run, or `None`, said why, where there is none."""
    options = CacheOptions(**cfg.cache)
    depth = model.frozen_depth()
    backbone, pooling = model.backbone, model.pooling
    reason = ""
    if not options.enabled:
        reason = "cache.enabled=false"
    elif backbone.dropout and backbone.drops_frozen and not any(p.requires_grad for p in backbone.stage(0)):
        reason = "dropout acts in the frozen blocks too"
    elif depth == 0:
        reason = "every block is trained"
    elif pooling.reads_padding and data.pad_to == "batch":
        reason = f"pooling={pooling.name()} reads padding, and data.pad_to=batch changes it from batch to batch"
    if not reason:
        dtype = str(compute_type).removeprefix("torch.")
        key = PrefixKey(
            weights=base.sha256 if base else None,
            backbone=backbone.frozen_state(),
            width=backbone.width,
            depth=depth,
            dtype=dtype,
            pooling=pooling_text(pooling_state(pooling)) if depth == model.pooled_depth else None,
            window=pooling.windows.size if pooling.windows else None,
            stored=options.stored(dtype),
            padded_length=int(data.pad_to) if pooling.reads_padding else None,
            pad_id=data.pad_id if pooling.reads_padding else None,
        )
        prefix = FrozenPrefix(key, options)
        reason = prefix.too_large(data.token_rows())
        if not reason:
            return prefix
    log.info("prefix   not cached: %s", reason)
    return None
