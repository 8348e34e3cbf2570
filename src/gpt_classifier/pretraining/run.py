"""One pretraining, from a composed configuration to a folder of weights."""

import hashlib
import logging
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.strategies import FSDPStrategy
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch.utils.data import DataLoader

from gpt_classifier import torch_files
from gpt_classifier.atomic import write_text
from gpt_classifier.config import instantiate
from gpt_classifier.errors import UserError, expect_number, option_group
from gpt_classifier.models.freezing import hold_trained
from gpt_classifier.models.weights import load_backbone, locate_weights
from gpt_classifier.pretraining.corpus import Documents, TrainWindows, Windows, read_documents, tokenize, windows
from gpt_classifier.pretraining.export import Pretrained, export
from gpt_classifier.pretraining.module import PretrainingModule, chunk_loss
from gpt_classifier.pretraining.vocabulary import save_vocabulary, train_vocabulary
from gpt_classifier.quiet import quiet
from gpt_classifier.schema import check_types
from gpt_classifier.signals import ended_in_order
from gpt_classifier.tokenizers.byte_level import encoding_of, load_encoding, ranks_from_text, ranks_to_text, read_ranks
from gpt_classifier.training.build import resolve_precision
from gpt_classifier.training.callbacks import OwnSignals
from gpt_classifier.training.checkpoint_io import AtomicCheckpointIO
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.resume import expect_same

log = logging.getLogger(__name__)


def pretrain(cfg: DictConfig, context: RunContext) -> float:
    """Train a GPT to continue text.

    Args:
        cfg: what `conf/pretrain.yaml` composes.
        context: where the run takes place; it needs a folder.

    Returns:
        The validation loss in nats per token, which sweeps compare.

    Raises:
        UserError: something that a user can mend.
    """
    assert context.folder is not None, "a pretraining leaves a folder of weights"
    with quiet(), ended_in_order():
        return _pretrain(cfg, context.folder, context.choices.get("model", "gpt"))


def _pretrain(cfg: DictConfig, run_dir: Path, name: str) -> float:
    check(cfg)
    seed_everything(cfg.seed, verbose=False)
    documents = read_documents(Path(cfg.data.path).expanduser(), cfg.data.val_every)
    ckpt_path = Path(cfg.ckpt_path).expanduser() if cfg.ckpt_path else None
    checkpoint = _open_checkpoint(ckpt_path) if ckpt_path else None
    resumed = checkpoint["pretraining"] if checkpoint else {}
    encoding = encoding_of(_vocabulary(cfg, documents, resumed))
    if encoding.n_vocab != cfg.model.backbone.vocab_size:
        raise UserError(
            f"vocabulary: it has {encoding.n_vocab} tokens, but model.backbone.vocab_size is "
            f"{cfg.model.backbone.vocab_size}. Set one to the other."
        )
    train_ids, val_ids = tokenize(documents.train, encoding), tokenize(documents.val, encoding)
    val_bytes = sum(len(document.encode()) for document in documents.val)
    log.info("text     %s documents, %s tokens; held out %s, %s tokens", *_counts(documents, train_ids, val_ids))
    context = cfg.model.backbone.n_positions
    expect_number("data: tokens of the text", len(train_ids), cfg.batch_tokens * 2)
    trainer = build_trainer(cfg, run_dir)
    config = instantiate(cfg.model.backbone)
    with option_group("model"):
        backbone, _ = load_backbone(config, locate_weights(cfg.model.weights, cfg.model.hub, cfg.model.revision))
    hold_trained(backbone)
    if cfg.compile == "all":
        for block in backbone.h:
            block.compile()
    ranks = encoding._mergeable_ranks
    settings = settings_to_keep(cfg) | {"data": hashlib.sha256(train_ids.tobytes()).hexdigest()[:12]}
    if ckpt_path:
        expect_same(ckpt_path, {key: (resumed["settings"].get(key), ours) for key, ours in settings.items()})
    commands = [*resumed.get("commands", []), shlex.join(["python", *sys.argv])]
    spec = {"settings": settings, "commands": commands, "vocabulary": ranks_to_text(ranks)}
    module = PretrainingModule(
        backbone,
        instantiate(cfg.optimizer),
        instantiate(cfg.scheduler) if cfg.scheduler.get("_target_") else None,
        encoding,
        val_bytes / len(val_ids),
        spec,
        torch.compile(chunk_loss) if cfg.compile != "none" else None,
    )
    log.info("model    %s parameters", f"{sum(p.numel() for p in backbone.parameters()):,}")
    log.info("trainer  %s, precision %s, %d steps", cfg.trainer.accelerator, trainer.precision, trainer.max_steps)
    if trainer.is_global_zero:
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        save_vocabulary(ranks, run_dir / "vocabulary.tiktoken")
    train_windows = TrainWindows(
        train_ids,
        context,
        cfg.batch_tokens,
        list(cfg.windows),
        cfg.seed,
        first=checkpoint["global_step"] if checkpoint else 0,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    batches: Any = val_windows(val_ids, cfg, trainer)  # a list is a dataset of batches
    held_out: DataLoader[Windows] = DataLoader(batches, batch_size=None)
    loader = DataLoader(train_windows, batch_size=None)
    trainer.fit(module, loader, held_out, ckpt_path=ckpt_path, weights_only=True)
    if trainer.global_step < trainer.max_steps:
        log.info(
            "stopped at step %d of %d; no model is written before the last", trainer.global_step, trainer.max_steps
        )
        return module.val.get("loss", float("nan"))
    trainer.save_checkpoint(run_dir / "checkpoints" / "last.ckpt")
    trainer.validate(module, held_out, verbose=False)
    if trainer.is_global_zero:
        facts = Pretrained(
            name,
            Path(cfg.data.path).name,
            len(documents.train),
            len(train_ids),
            module.tokens_seen,
            module.val["loss"],
            module.val["bits_per_byte"],
            cfg.hardware or _hardware(trainer),
            module.seconds / 3600,
            commands,
            module.samples,
        )
        export(backbone, ranks, facts, run_dir / "model")
        log.info("weights, vocabulary and card are in %s", run_dir / "model")
    return module.val["loss"]


def check(cfg: DictConfig) -> None:
    """Refuse values that would fail later, somewhere deep.

    Raises:
        UserError: at the first of them.
    """
    if OmegaConf.is_missing(cfg.data, "path") or not isinstance(cfg.data.path, str):
        raise UserError("data.path: set it to a text file, plain or .xz, documents separated by lines <|endoftext|>.")
    check_types(cfg)
    if not cfg.model.causal:
        raise UserError("model.causal: pretraining predicts from earlier tokens alone. Leave it true.")
    if cfg.compile not in ("none", "loss", "all"):
        raise UserError(f"compile: expected none, loss or all, but it is {cfg.compile}.")
    context = cfg.model.backbone.n_positions
    if cfg.batch_tokens % context:
        raise UserError(f"batch_tokens: expected a multiple of the context, {context}, but it is {cfg.batch_tokens}.")
    if cfg.tokens < cfg.batch_tokens:
        raise UserError(f"tokens: expected at least batch_tokens, {cfg.batch_tokens}, but it is {cfg.tokens}.")
    lengths = list(cfg.windows) if isinstance(cfg.windows, ListConfig) else [cfg.windows]
    if context not in lengths or not all(isinstance(n, int) and n > 0 and context % n == 0 for n in lengths):
        raise UserError(
            f"windows: expected a list of lengths that divide the context, {context}, and the context itself, without "
            f"which later positions are never trained, but it is {lengths}."
        )
    if cfg.trainer.accumulate_grad_batches != 1:
        raise UserError("trainer.accumulate_grad_batches can't be set here: batch_tokens is the size of a step.")


def settings_to_keep(cfg: DictConfig) -> dict[str, str]:
    """What a resumed training must share with the one that it continues, as plain values."""
    keys = ("model.backbone", "optimizer", "scheduler", "seed", "tokens", "batch_tokens", "windows", "data.val_every")
    values = {key: OmegaConf.select(cfg, key) for key in keys}
    return {
        key: str(OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)
        for key, value in values.items()
    }


def build_trainer(cfg: DictConfig, run_dir: Path) -> Trainer:
    """The Lightning trainer with what watches a pretraining."""
    checkpoints = ModelCheckpoint(
        run_dir / "checkpoints", "last", every_n_train_steps=cfg.checkpoint_steps, enable_version_counter=False
    )
    trainer: Trainer = instantiate(
        cfg.trainer,
        callbacks=[
            OwnSignals(),
            checkpoints,
            LearningRateMonitor(logging_interval="step"),
            TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 0),
        ],
        logger=[instantiate(logger) for logger in (cfg.get("logger") or {}).values() if logger is not None],
        precision=resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator),
        plugins=[AtomicCheckpointIO()],
        max_epochs=-1,
        max_steps=cfg.tokens // cfg.batch_tokens,
        val_check_interval=cfg.val_steps,
        check_val_every_n_epoch=None,
    )
    if isinstance(trainer.strategy, FSDPStrategy):
        raise UserError("trainer=fsdp can't pretrain here; trainer=ddp trains a copy of the model on each GPU.")
    if (cfg.batch_tokens // cfg.model.backbone.n_positions) % trainer.world_size:
        raise UserError(f"batch_tokens: {cfg.batch_tokens} can't be shared evenly by {trainer.world_size} processes.")
    return trainer


def val_windows(ids: np.ndarray, cfg: DictConfig, trainer: Trainer) -> list[Windows]:
    """The held-out text in windows of the whole context, each token once, what is left at the end left out.

    Of several processes each has its share.
    """
    context = cfg.model.backbone.n_positions
    starts = range(0, len(ids) - context, context)[trainer.global_rank :: trainer.world_size]
    if not starts:
        raise UserError(f"data.val_every: the held-out documents have fewer tokens than the context, {context}.")
    size = max(1, 16_384 // context)
    return [windows(ids, starts[i : i + size], context, context) for i in range(0, len(starts), size)]


def _vocabulary(cfg: DictConfig, documents: Documents, resumed: dict[str, Any]) -> dict[bytes, int]:
    """The ranks to use, made from the text if there are none."""
    if resumed:
        return ranks_from_text(resumed["vocabulary"])
    if cfg.vocabulary:
        return load_encoding(cfg.vocabulary)._mergeable_ranks
    own = Path(cfg.model.weights).expanduser() / "vocabulary.tiktoken"
    if own.is_file():
        return read_ranks(own)
    if cfg.model.weights != "random":
        raise UserError(
            "vocabulary: set it to the one that the weights were trained with, gpt2 or the path of a rank file; a new "
            "one would give every embedding another meaning."
        )
    return train_vocabulary(documents.train, cfg.model.backbone.vocab_size)


def _hardware(trainer: Trainer) -> str:
    if torch.cuda.is_available() and trainer.strategy.root_device.type == "cuda":
        return f"{trainer.world_size} x {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} threads of {platform.processor() or platform.machine()}"


def _open_checkpoint(ckpt_path: Path) -> dict[str, Any]:
    hint = "Set ckpt_path to the checkpoints/last.ckpt of the pretraining that is to go on."
    try:
        checkpoint = torch_files.load(ckpt_path)
        return {"pretraining": checkpoint["pretraining"], "global_step": checkpoint["global_step"]}
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise UserError(f"ckpt_path: {ckpt_path} is not a whole checkpoint of a pretraining. {hint}") from error


def _counts(documents: Documents, train_ids: np.ndarray, val_ids: np.ndarray) -> tuple[str, ...]:
    sizes = (len(documents.train), len(train_ids), len(documents.val), len(val_ids))
    return tuple(f"{size:,}" for size in sizes)
