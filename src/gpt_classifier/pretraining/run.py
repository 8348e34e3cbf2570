"""One pretraining, from a composed configuration to a folder of weights."""

import logging
import os
import platform
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from gpt_classifier.data.tokenizer import load_encoding, rank_file
from gpt_classifier.device import reuse_freed_memory
from gpt_classifier.errors import UserError, expect_number
from gpt_classifier.model.freezing import hold_trained
from gpt_classifier.model.pretrained import load_backbone, locate_weights
from gpt_classifier.pretraining.corpus import Documents, TrainWindows, Windows, read_documents, tokenize, windows
from gpt_classifier.pretraining.export import Pretrained, export
from gpt_classifier.pretraining.module import PretrainingModule, chunk_loss
from gpt_classifier.pretraining.vocabulary import save_vocabulary, train_vocabulary
from gpt_classifier.training.build import resolve_precision
from gpt_classifier.training.checkpoint_io import AtomicCheckpointIO

log = logging.getLogger(__name__)


def pretrain(cfg: DictConfig) -> float:
    """Train a GPT to continue text.

    Args:
        cfg: what `conf/pretrain.yaml` composes.

    Returns:
        The validation loss in nats per token, which sweeps compare.

    Raises:
        UserError: something that a user can mend.
    """
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    _quieten()
    check(cfg)
    seed_everything(cfg.seed, verbose=False)
    reuse_freed_memory()
    documents = read_documents(Path(cfg.data.path).expanduser(), cfg.data.val_every)
    resumed = _open_checkpoint(cfg.ckpt_path)
    ranks_path = _vocabulary(cfg, documents, run_dir)
    encoding = load_encoding(str(ranks_path))
    train_ids, val_ids = tokenize(documents.train, encoding), tokenize(documents.val, encoding)
    val_bytes = sum(len(document.encode()) for document in documents.val)
    log.info("text     %s documents, %s tokens; held out %s, %s tokens", *_counts(documents, train_ids, val_ids))
    context = cfg.model.backbone.n_positions
    expect_number("data: tokens of the text", len(train_ids), cfg.batch_tokens * 2)
    trainer = build_trainer(cfg, run_dir)
    backbone, _ = load_backbone(instantiate(cfg.model.backbone), locate_weights(cfg.model.weights, cfg.model.hub))
    hold_trained(backbone)
    if cfg.compile == "all":
        for block in backbone.h:
            block.compile()
    spec = {"sizes": OmegaConf.to_container(cfg.model.backbone), "batch_tokens": cfg.batch_tokens, "seed": cfg.seed}
    module = PretrainingModule(
        backbone,
        instantiate(cfg.optimizer),
        instantiate(cfg.scheduler),
        encoding,
        val_bytes / len(val_ids),
        spec,
        torch.compile(chunk_loss) if cfg.compile != "none" else None,
    )
    if resumed and any(resumed["pretraining"].get(key) != value for key, value in spec.items()):
        raise UserError(f"ckpt_path: {cfg.ckpt_path} is of another training. Resume with the options of that run.")
    log.info("model    %s parameters", f"{sum(p.numel() for p in backbone.parameters()):,}")
    log.info("trainer  %s, precision %s, %d steps", cfg.trainer.accelerator, trainer.precision, trainer.max_steps)
    if trainer.is_global_zero:
        OmegaConf.save(cfg, run_dir / "config.yaml", resolve=True)
    train_windows = TrainWindows(
        train_ids,
        context,
        cfg.batch_tokens,
        list(cfg.windows),
        cfg.seed,
        first=resumed["global_step"] if resumed else 0,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    trainer.fit(
        module,
        DataLoader(train_windows, batch_size=None),
        DataLoader(val_windows(val_ids, context, cfg), batch_size=None),  # type: ignore[arg-type] # a list of batches
        ckpt_path=cfg.ckpt_path,
        weights_only=True,
    )
    if trainer.is_global_zero and module.val:
        facts = Pretrained(
            Path(cfg.data.path).name,
            len(documents.train),
            len(train_ids),
            module.tokens_seen,
            module.val["loss"],
            module.val["bits_per_byte"],
            cfg.hardware or f"{torch.get_num_threads()} threads of {platform.processor() or platform.machine()}",
            module.seconds / 3600,
            shlex.join(["python", *sys.argv]),
            module.continuations(),
        )
        export(backbone, encoding._mergeable_ranks, facts, run_dir / "model")
        log.info("weights, vocabulary and card are in %s", run_dir / "model")
    return module.val.get("loss", float("nan"))


def check(cfg: DictConfig) -> None:
    """Refuse values that would fail later, somewhere deep.

    Raises:
        UserError: at the first of them.
    """
    if OmegaConf.is_missing(cfg.data, "path"):
        raise UserError("data.path: set it to a text file, plain or .xz, documents separated by lines <|endoftext|>.")
    for option in ("tokens", "batch_tokens", "val_steps", "checkpoint_steps"):
        expect_number(option, cfg[option], 1, whole=True)
    if cfg.compile not in ("none", "loss", "all"):
        raise UserError(f"compile: expected none, loss or all, but it is {cfg.compile}.")
    expect_number("data.val_every", cfg.data.val_every, 2, whole=True)
    context = cfg.model.backbone.n_positions
    if cfg.batch_tokens % context:
        raise UserError(f"batch_tokens: expected a multiple of the context, {context}, but it is {cfg.batch_tokens}.")
    lengths = list(cfg.windows)
    if not lengths or not all(isinstance(length, int) and length > 0 and context % length == 0 for length in lengths):
        raise UserError(f"windows: expected lengths that divide the context, {context}, but they are {lengths}.")


def build_trainer(cfg: DictConfig, run_dir: Path) -> Trainer:
    """The Lightning trainer with what watches a pretraining."""
    checkpoints = ModelCheckpoint(
        run_dir / "checkpoints", "last", every_n_train_steps=cfg.checkpoint_steps, enable_version_counter=False
    )
    trainer: Trainer = instantiate(
        cfg.trainer,
        callbacks=[
            checkpoints,
            LearningRateMonitor(logging_interval="step"),
            TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 0),
        ],
        logger=[instantiate(logger) for logger in (cfg.logger or {}).values()],
        precision=resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator),
        plugins=[AtomicCheckpointIO()],
        max_epochs=-1,
        max_steps=cfg.tokens // cfg.batch_tokens,
        val_check_interval=cfg.val_steps,
        check_val_every_n_epoch=None,
    )
    if (cfg.batch_tokens // cfg.model.backbone.n_positions) % trainer.world_size:
        raise UserError(f"batch_tokens: {cfg.batch_tokens} can't be shared evenly by {trainer.world_size} processes.")
    return trainer


def val_windows(ids: Any, context: int, cfg: DictConfig) -> list[Windows]:
    """The held-out text in windows of the whole context, each token once, what is left at the end left out."""
    starts = range(0, len(ids) - context, context)
    if not starts:
        raise UserError(f"data.val_every: the held-out documents have fewer tokens than the context, {context}.")
    size = max(1, 16_384 // context)
    return [windows(ids, starts[i : i + size], context, context) for i in range(0, len(starts), size)]


def _vocabulary(cfg: DictConfig, documents: Documents, run_dir: Path) -> Path:
    """The rank file to use, made from the text if there is none."""
    kept = run_dir / "vocabulary.tiktoken"
    if cfg.vocabulary:
        return rank_file(cfg.vocabulary)
    if cfg.ckpt_path:
        return rank_file(str(Path(cfg.ckpt_path).parent.parent / kept.name))
    ranks = train_vocabulary(documents.train, cfg.model.backbone.vocab_size)
    part = kept.with_suffix(f".{os.getpid()}.part")
    save_vocabulary(ranks, part)
    os.replace(part, kept)
    return kept


def _open_checkpoint(ckpt_path: str | None) -> dict[str, Any] | None:
    if ckpt_path is None:
        return None
    hint = "Set ckpt_path to the checkpoints/last.ckpt of the pretraining that is to go on."
    try:
        checkpoint = torch.load(ckpt_path, map_location="cpu", weights_only=True, mmap=True)
        return {"pretraining": checkpoint["pretraining"], "global_step": checkpoint["global_step"]}
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise UserError(f"ckpt_path: {ckpt_path} is not a whole checkpoint of a pretraining. {hint}") from error


def _counts(documents: Documents, train_ids: Any, val_ids: Any) -> tuple[str, ...]:
    sizes = (len(documents.train), len(train_ids), len(documents.val), len(val_ids))
    return tuple(f"{size:,}" for size in sizes)


def _quieten() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*mid-epoch.*",
        ".*The dirpath has changed.*",
        ".*LeafSpec.*",
        ".*exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)
