"""One pretraining, from a composed configuration to a folder of weights."""

import hashlib
import logging
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
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
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.weights import load_backbone, locate_weights
from gpt_classifier.pretraining.corpus import (
    Documents,
    HeldOut,
    TrainWindows,
    Windows,
    read_documents,
    tokenize,
    windows,
)
from gpt_classifier.pretraining.export import Pretrained, Text, export
from gpt_classifier.pretraining.module import PretrainingModule
from gpt_classifier.pretraining.vocabulary import save_vocabulary, train_vocabulary, transferred
from gpt_classifier.quiet import quiet
from gpt_classifier.schema import check_types
from gpt_classifier.signals import ended_in_order
from gpt_classifier.tables.reading import files_of
from gpt_classifier.tokenizers.byte_level import encoding_of, load_encoding, ranks_from_text, ranks_to_text
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
    texts = _texts(cfg)
    ckpt_path = Path(cfg.ckpt_path).expanduser() if cfg.ckpt_path else None
    checkpoint = _open_checkpoint(ckpt_path) if ckpt_path else None
    resumed = checkpoint["pretraining"] if checkpoint else {}
    encoding = encoding_of(_vocabulary(cfg, texts, resumed))
    if encoding.n_vocab != cfg.model.backbone.vocab_size:
        raise UserError(
            f"vocabulary: it has {encoding.n_vocab} tokens, but model.backbone.vocab_size is "
            f"{cfg.model.backbone.vocab_size}. Set one to the other."
        )
    train_parts = [tokenize(text.train, encoding) for text in texts]
    val_parts = [tokenize(text.val, encoding) for text in texts]
    for text, train_part, val_part in zip(texts, train_parts, val_parts, strict=True):
        log.info("text     %s", _counts(text, train_part, val_part))
    train_ids = np.concatenate(train_parts)
    context = cfg.model.backbone.n_positions
    expect_number("data: tokens of the text", len(train_ids), cfg.batch_tokens * 2)
    trainer = build_trainer(cfg, run_dir)
    backbone = _backbone(cfg, encoding)
    hold_trained(backbone)
    if cfg.compile:
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
        [_held_out(text, ids) for text, ids in zip(texts, val_parts, strict=True)],
        spec,
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
        cfg.masked.batches,
        cfg.masked.tokens,
        first=checkpoint["global_step"] if checkpoint else 0,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    batches: list[Any] = [val_windows(ids, cfg, trainer) for ids in val_parts]  # a list is a dataset of batches
    held_out: list[DataLoader[Windows]] = [DataLoader(part, batch_size=None) for part in batches]
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
            [
                Text(text.file, len(text.train), len(ids), module.val[f"bits_per_byte/{text.name}"])
                for text, ids in zip(texts, train_parts, strict=True)
            ],
            module.tokens_seen,
            module.val["loss"],
            cfg.masked.batches,
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
        raise UserError(
            "data.path: set it to a text file, plain, .gz or .xz, a document a line or separated by lines "
            "<|endoftext|>."
        )
    check_types(cfg)
    if not cfg.model.causal:
        raise UserError("model.causal: pretraining predicts from earlier tokens alone. Leave it true.")
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
    keys = (
        "model.backbone",
        "optimizer",
        "scheduler",
        "seed",
        "tokens",
        "batch_tokens",
        "windows",
        "masked",
        "data.val_every",
    )
    values = {key: OmegaConf.select(cfg, key) for key in (*keys, "masked", "data.val_every")}
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
    """A held-out text in windows of the whole context, each token once, what is left at the end left out.

    Of several processes each has its share. Where tokens are hidden in training, they are here: always the same.
    """
    context = cfg.model.backbone.n_positions
    starts = range(0, len(ids) - context, context)[trainer.global_rank :: trainer.world_size]
    if not starts:
        raise UserError(f"data.val_every: the held-out documents have fewer tokens than the context, {context}.")
    size = max(1, 16_384 // context)
    batches = [windows(ids, starts[i : i + size], context, context) for i in range(0, len(starts), size)]
    if not cfg.masked.batches:
        return batches
    draw = np.random.default_rng([trainer.global_rank])
    return [batch.hidden(cfg.masked.tokens, draw) for batch in batches]


def _texts(cfg: DictConfig) -> list[Documents]:
    """The files that `data.path` names, each measured by itself."""
    with option_group("data"):
        paths = files_of(cfg.data.path)
    texts = [read_documents(path, cfg.data.val_every) for path in paths]
    names = [text.name for text in texts]
    if len(set(names)) < len(names):
        raise UserError(f"data.path: each file is measured under its name, but some are called alike: {names}.")
    return texts


def _held_out(text: Documents, ids: np.ndarray) -> HeldOut:
    return HeldOut(text.name, sum(len(document.encode()) for document in text.val) / len(ids))


def _vocabulary(cfg: DictConfig, texts: Sequence[Documents], resumed: dict[str, Any]) -> dict[bytes, int]:
    """The ranks to use, made from the text if they are to be new or the weights are."""
    if resumed:
        return ranks_from_text(resumed["vocabulary"])
    if cfg.vocabulary not in (None, "new"):
        return load_encoding(cfg.vocabulary)._mergeable_ranks
    if cfg.vocabulary is None and cfg.model.weights != "random":
        return _vocabulary_of_weights(cfg)._mergeable_ranks
    return train_vocabulary((document for text in texts for document in text.train), cfg.model.backbone.vocab_size)


def _vocabulary_of_weights(cfg: DictConfig) -> tiktoken.Encoding:
    own = Path(cfg.model.weights).expanduser() / "vocabulary.tiktoken"
    with option_group("model"):
        return load_encoding(str(own) if own.is_file() else cfg.model.tokenizer)


def _backbone(cfg: DictConfig, encoding: tiktoken.Encoding) -> GPT:
    """The weights to go on from, their embeddings moved to a vocabulary that is not theirs."""
    config: GPTConfig = instantiate(cfg.model.backbone)
    theirs = encoding if cfg.model.weights == "random" else _vocabulary_of_weights(cfg)
    with option_group("model"):
        path = locate_weights(cfg.model.weights, cfg.model.hub, cfg.model.revision)
        backbone, _ = load_backbone(replace(config, vocab_size=theirs.n_vocab), path)
    if theirs._mergeable_ranks == encoding._mergeable_ranks:
        return backbone
    state = backbone.state_dict()
    state["wte.weight"] = transferred(state["wte.weight"], theirs, encoding)
    backbone = GPT(config)
    backbone.load_state_dict(state)
    return backbone


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


def _counts(text: Documents, train_ids: np.ndarray, val_ids: np.ndarray) -> str:
    learned, held_out = len(text.train), len(text.val)
    return (
        f"{text.name}: {learned:,} documents, {len(train_ids):,} tokens; held out {held_out:,}, {len(val_ids):,} tokens"
    )
