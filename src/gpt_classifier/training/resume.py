"""Whether a checkpoint continues a training, and what it brings along."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.errors import UserError, first_line
from gpt_classifier.models.classifier import FORMAT
from gpt_classifier.training.module import ClassifierModule


def settings_to_keep(cfg: DictConfig, data: MessageDataModule) -> dict[str, Any]:
    """What a resumed run must share with the run that it continues, as plain values."""
    assert data.frame is not None, "setup() comes first"
    messages = hashlib.sha256(data.frame.to_csv(index=False).encode()).hexdigest()
    choices = HydraConfig.get().runtime.choices
    return {
        "freeze": f"{choices['freeze']} {_plain(cfg.freeze, without='_target_')}".strip(),
        "optimizer": _plain(cfg.optimizer),
        "scheduler": _plain(cfg.get("scheduler")),
        "seed": cfg.seed,
        "data.batch_size": data.batch_size,
        "data.bucket_batches": data.bucket_batches,
        "trainer.accumulate_grad_batches": cfg.trainer.accumulate_grad_batches,
        "messages and their split": messages[:12],
    }


def _plain(config: DictConfig | None, without: str = "") -> str:
    """A group as one line, to compare and to show."""
    values: Any = OmegaConf.to_container(config, resolve=True) if config else {}
    return " ".join(f"{key}={value}" for key, value in values.items() if key not in ("_partial_", without))


def find_resumable(ckpt_path: str, module: ClassifierModule) -> Path:
    """Check that a checkpoint continues this training.

    Raises:
        UserError: it is missing, damaged, holds weights only, was written within an epoch, or is of another training.
    """
    path = Path(ckpt_path).expanduser()
    hint = "Set ckpt_path to the checkpoints/last.ckpt of the run that is to go on."
    if not path.is_file():
        raise UserError(f"ckpt_path: there is no file {path}. {hint}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        spec = checkpoint["classifier"]
        if spec["format"] != FORMAT:
            raise ValueError("it was written by another version")
    except Exception as error:
        raise UserError(
            f"ckpt_path: {path} is not a whole checkpoint of this project ({first_line(error)}). {hint}"
        ) from error
    if "optimizer_states" not in checkpoint:
        raise UserError(f"ckpt_path: {path} holds weights only, without the optimizer's state. {hint}")
    if not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        raise UserError(
            f"ckpt_path: {path} was written in the middle of an epoch; only a checkpoint from the end of one can be "
            f"resumed. {hint}"
        )
    pairs = {
        key: (spec[key], module.spec[key]) for key in ("class_names", "backbone", "pooling", "causal", "tokenizer")
    }
    kept = checkpoint["progress"]["settings"]
    pairs |= {key: (kept.get(key), ours) for key, ours in module.settings.items()}
    ours, theirs = module.spec["base"] or {}, spec["base"] or {}
    if ours.get("sha256") != theirs.get("sha256"):
        pairs["model.weights"] = (theirs.get("path", "of its own"), ours.get("path", "of its own"))
    expect_same(path, pairs)
    return path


def expect_same(path: Path, pairs: dict[str, tuple[Any, Any]]) -> None:
    """Refuse a checkpoint of another training.

    Args:
        path: the checkpoint.
        pairs: of each setting, what the checkpoint has and what this run has.

    Raises:
        UserError: at the first that differs.
    """
    for key, (found, expected) in pairs.items():
        if found != expected:
            raise UserError(
                f"ckpt_path: {path} was trained with {key} {found}, but this run has {expected}. "
                f"Resume with the options of that run, which are in {path.parent.parent / 'config.yaml'}."
            )


def bring_best_along(checkpoint: Path, run_dir: Path) -> None:
    """The best weights so far go on being the best of the resumed run until others are."""
    best, target = checkpoint.with_name("best.ckpt"), run_dir / "checkpoints" / "best.ckpt"
    if best.exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, target)
