"""One training, from a composed configuration to a folder of results."""

import csv
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.device import peak_memory_gb, reuse_freed_memory
from gpt_classifier.json_files import write_json
from gpt_classifier.training import report
from gpt_classifier.training.build import build_module, build_trainer, check, load_data
from gpt_classifier.training.callbacks import BestCheckpoint
from gpt_classifier.training.module import ClassifierModule
from gpt_classifier.training.quiet import quieten
from gpt_classifier.training.resume import bring_best_along, find_resumable, settings_to_keep

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float:
    """Train one classifier and report on it.

    Args:
        cfg: what `conf/config.yaml` composes.

    Returns:
        The best epoch's validation accuracy, which sweeps compare.

    Raises:
        UserError: something that a user can mend.
    """
    started = time.perf_counter()
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    quieten()
    check(cfg)
    seed_everything(cfg.seed, verbose=False)
    trainer = build_trainer(cfg)
    data = load_data(cfg)
    data.report.log()
    module = build_module(cfg, trainer, data)
    module.settings = settings_to_keep(cfg, data)
    checkpoint = find_resumable(cfg.ckpt_path, module) if cfg.ckpt_path else None
    parameters = count_parameters(module)
    describe(cfg, trainer, data, module, parameters)
    if trainer.is_global_zero:
        keep_inputs(cfg, run_dir, data)
        if checkpoint is not None:
            bring_best_along(checkpoint, run_dir)
    stages = fit_and_evaluate(trainer, data, module, checkpoint)
    seconds = {"training": stages.pop("seconds"), "run": time.perf_counter() - started}
    if trainer.is_global_zero:
        write_results(cfg, trainer, data, module, parameters, stages, seconds, run_dir)
    return stages["best"]["val"]["accuracy"]


def describe(
    cfg: DictConfig, trainer: Trainer, data: MessageDataModule, module: ClassifierModule, parameters: dict[str, int]
) -> None:
    """What is about to be trained, and how."""
    if module.model.pooling.reads_padding and data.pad_to == "batch":
        log.warning(
            "pooling=%s reads padding and data.pad_to=batch pads each batch differently: predictions depend on what "
            "else is in the batch; data.pad_to=train pads all alike, as the book's chapter does",
            module.model.pooling.name,
        )
    log.info("model    %s, weights %s", _title(cfg), cfg.model.weights)
    log.info("trained  %s parameters; frozen %s", f"{parameters['trained']:,}", f"{parameters['frozen']:,}")
    processes = f"{trainer.world_size} processes" if trainer.world_size > 1 else "one process"
    log.info(
        "trainer  %s, %s, precision %s, %d epochs",
        type(trainer.accelerator).__name__.removesuffix("Accelerator"),
        processes,
        trainer.precision,
        trainer.max_epochs,
    )


def count_parameters(module: ClassifierModule) -> dict[str, int]:
    """How many are trained and how many are frozen."""
    counts = {"trained": 0, "frozen": 0}
    for parameter in module.model.parameters():
        counts["trained" if parameter.requires_grad else "frozen"] += parameter.numel()
    return counts


def _title(cfg: DictConfig) -> str:
    choices = HydraConfig.get().runtime.choices
    return " · ".join(choices[group] for group in ("model", "freeze", "pooling", "data"))


def keep_inputs(cfg: DictConfig, run_dir: Path, data: MessageDataModule) -> None:
    """The resolved configuration and the three splits."""
    (run_dir / "splits").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, run_dir / "config.yaml", resolve=True)
    for name in SPLITS:
        data.split_frame(name).to_csv(run_dir / "splits" / f"{name}.csv", index=False, quoting=csv.QUOTE_ALL)


def fit_and_evaluate(
    trainer: Trainer, data: MessageDataModule, module: ClassifierModule, checkpoint: Path | None
) -> dict[str, Any]:
    """Measure, train, measure the last and the best weights.

    Args:
        trainer: with a `BestCheckpoint` among its callbacks.
        data: prepared.
        module: to train.
        checkpoint: to go on from, if any; what was measured before training comes with it.

    Returns:
        `start`, `last` and `best`, each with `epoch`, `step` and the metrics of all splits, and the `seconds` of
        training.
    """
    if checkpoint is None:
        trainer.test(module, data, verbose=False)
        module.begin()
        report.log_evaluation(trainer.loggers, module.evaluation, SPLITS, step=0)
    reuse_freed_memory()
    began = time.perf_counter()
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    seconds = time.perf_counter() - began
    step = trainer.global_step
    keeper = next((c for c in trainer.callbacks if isinstance(c, BestCheckpoint)), None)  # type: ignore[attr-defined]
    if keeper is not None:
        keeper.keep_last_if_none(trainer)
    trainer.test(module, data, verbose=False)
    last = {"epoch": trainer.current_epoch, "step": step, **module.evaluation}
    report.log_evaluation(trainer.loggers, module.evaluation, ("train", "test"), step=step)  # val: at the epoch's end
    best = dict(last)
    if keeper is not None and keeper.best and keeper.best["step"] != step:
        trainer.test(module, data, ckpt_path=keeper.path, verbose=False, weights_only=True)
        best = {"epoch": keeper.best["epoch"], "step": keeper.best["step"], **module.evaluation}
    return {"start": module.start, "last": last, "best": best, "seconds": seconds}


def describe_settings(cfg: DictConfig) -> dict[str, Any]:
    """Everything that a sweep may vary, as plain values under their names on the command line."""
    choices = HydraConfig.get().runtime.choices
    groups = ("model", "freeze", "pooling", "data", "optimizer", "scheduler")
    settings: dict[str, Any] = {group: choices[group] for group in groups} | {"seed": cfg.seed}
    for group in (*groups, "trainer"):
        for key, value in (cfg.get(group) or {}).items():
            if isinstance(value, str | int | float | bool) and not key.startswith("_"):
                settings[f"{group}.{key}"] = value
    return settings


def write_results(
    cfg: DictConfig,
    trainer: Trainer,
    data: MessageDataModule,
    module: ClassifierModule,
    parameters: dict[str, int],
    stages: report.Stages,
    seconds: dict[str, float],
    run_dir: Path,
) -> None:
    """metrics.json, the pictures, what the loggers show at the end, and the summary."""
    settings = describe_settings(cfg) | {"trainer.precision": str(trainer.precision)}
    write_json(
        run_dir / "metrics.json",
        {
            "settings": settings,
            "parameters": parameters,
            "data": asdict(data.report),
            **stages,
            "seconds": seconds,
            "peak_memory_gb": peak_memory_gb(trainer.strategy.root_device),
        },
    )
    texts = {name: data.split_frame(name) for name in SPLITS}
    report.write_figures(run_dir, module.history, stages["best"], data.class_names)
    report.log_best(trainer.loggers, settings, stages["best"], module.predictions, texts, data.class_names)
    log.info("\n%s", report.summary(stages, _title(cfg), seconds, run_dir, data.report.note))
