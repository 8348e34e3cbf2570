"""Whether a checkpoint continues a run, and what it brings along."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gpt_classifier.artifact import open_artifact
from gpt_classifier.checkpoints import RESUME, resumable_path
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.errors import UserError
from gpt_classifier.spec import Spec, pooling_text
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.module import ClassifierModule


def settings_to_keep(
    config: DictConfig, context: RunContext, data: MessageDataModule, precision: str
) -> dict[str, Any]:
    """What a resumed run must share with the run that it continues, as plain values."""
    freeze = context.choices.get("freeze", "")
    settings = {
        "freeze": f"{freeze} {_plain(config.freeze, without='_target_')}".strip(),
        "optimizer": _plain(config.optimizer),
        "scheduler": _plain(config.get("scheduler")),
        "seed": config.seed,
        "head_init": config.head_init,
        "bag_of_tokens": config.bag_of_tokens,
        "data.batch_size": data.batch_size,
        "data.bucket_batches": data.bucket_batches,
        "data.pad_to": data.pad_to,
        "data.max_length": data.max_length,
        "data.truncate": data.truncate,
        "data.adapt": config.data.get("adapt"),
        "data.transductive": config.data.get("transductive") or None,  # as in checkpoints from before there was one
        "with_ngrams": config.with_ngrams or None,  # likewise
        "head_rate": config.head_rate if config.head_init == "linear_probe" and config.head_rate != 1 else None,
        "cache.dtype": config.cache.dtype,
        "trainer.accumulate_grad_batches": config.trainer.accumulate_grad_batches,
        "trainer.precision": precision,
        "trainer.gradient_clip_val": config.trainer.get("gradient_clip_val"),
        "trainer.gradient_clip_algorithm": config.trainer.get("gradient_clip_algorithm"),
        "messages and their split": data.fingerprint(),
    }
    if "temperature" in config.task:
        settings["temperature"] = config.task.temperature
    if config.get("scheduler"):  # whose steps it counts; without one a run may go on for longer
        settings["trainer.max_epochs"] = config.trainer.max_epochs
    return settings


def _plain(config: DictConfig | None, without: str = "") -> str:
    """A group as one line, to compare and to show."""
    values: Any = OmegaConf.to_container(config, resolve=True) if config else {}
    return " ".join(f"{key}={value}" for key, value in values.items() if key not in ("_partial_", without))


def find_resumable(ckpt_path: str, module: ClassifierModule) -> Path:
    """Check that a checkpoint continues this run.

    Raises:
        UserError: it is missing, damaged, holds weights only, was written within an epoch, or is of another run.
    """
    path = resumable_path(ckpt_path)
    try:
        artifact = open_artifact(path)
    except UserError as error:
        raise UserError(f"ckpt_path: {str(error).removeprefix('checkpoint: ')} {RESUME}") from error
    checkpoint = artifact.rest
    if "optimizer_states" not in checkpoint:
        raise UserError(f"ckpt_path: {path} holds weights only, without the optimizer's state. {RESUME}")
    if not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        raise UserError(
            f"ckpt_path: {path} was written in the middle of an epoch; only a checkpoint from the end of one can be "
            f"resumed. {RESUME}"
        )
    found, expected = _of_spec(artifact.spec), _of_spec(module.spec)
    kept = checkpoint["progress"]["settings"]
    expect_same(path, {"freeze": (kept.get("freeze"), module.settings["freeze"])})  # by which weights have a base
    bases = [spec.base for spec in (artifact.spec, module.spec)]
    if len({base.sha256 if base else None for base in bases}) > 1:
        theirs, ours = (base.path if base else "of its own" for base in bases)
        expect_same(path, {"model.weights": (theirs, ours)})
    expect_same(
        path,
        {key: (found[key], expected[key]) for key in expected}
        | {key: (kept.get(key), ours) for key, ours in module.settings.items()},
    )
    return path


def _of_spec(spec: Spec) -> dict[str, Any]:
    tokenizer = hashlib.sha256(json.dumps(spec.tokenizer, sort_keys=True).encode()).hexdigest()[:12]
    return {
        "classes": spec.task,
        "model": spec.backbone,
        "pooling": pooling_text(spec.pooling),
        "model.tokenizer": tokenizer,
    }


def expect_same(path: Path, pairs: dict[str, tuple[Any, Any]]) -> None:
    """Refuse a checkpoint of another run.

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
    """The best weights so far remain the best of the resumed run until others are better."""
    best, target = checkpoint.with_name("best.ckpt"), run_dir / "checkpoints" / "best.ckpt"
    if best.exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, target)
