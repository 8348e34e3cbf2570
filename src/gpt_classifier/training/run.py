"""One training, from a composed configuration to a folder of results."""

import logging
import math
import shutil
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.data.tokenizer import load_encoding
from gpt_classifier.errors import UserError
from gpt_classifier.model.pretrained import load_classifier
from gpt_classifier.training import report
from gpt_classifier.training.callbacks import BestCheckpoint
from gpt_classifier.training.module import ClassifierModule

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
    _quieten()
    seed_everything(cfg.seed, verbose=False)
    trainer = build_trainer(cfg)
    data = load_data(cfg, trainer)
    module = build_module(cfg, data)
    if trainer.is_global_zero:
        describe(cfg, trainer, data, module)
        keep_inputs(cfg, run_dir, data)
    stages = fit_and_evaluate(cfg, trainer, data, module, run_dir)
    seconds = {"training": stages.pop("seconds"), "run": time.perf_counter() - started}
    if trainer.is_global_zero:
        write_results(cfg, trainer, data, module, stages, seconds, run_dir)
    return stages["best"]["val"]["accuracy"]


def _quieten() -> None:
    """Say what concerns the user, once."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # the messages are in memory, tokenized
        ".*smaller than the logging interval.*",  # the running loss is logged at the end of an epoch too
        ".*The dirpath has changed.*",  # of a resumed run
        ".*exists and is not empty.*",
        ".*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message)
    if not _is_first_process():
        logging.getLogger("gpt_classifier").setLevel(logging.ERROR)


def _is_first_process() -> bool:
    """Known before the trainer is, unlike `trainer.is_global_zero`."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


# building


def build_trainer(cfg: DictConfig) -> Trainer:
    """The Lightning trainer with its callbacks, loggers and resolved precision."""
    parts = {
        "callbacks": [instantiate(callback) for callback in cfg.callbacks.values()],
        "logger": [_build_logger(name, logger) for name, logger in cfg.logger.items()],
        "precision": resolve_precision(cfg.trainer.precision, cfg.trainer.accelerator),
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
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    else:
        native = False
    return "bf16-mixed" if native else "32-true"


def load_data(cfg: DictConfig, trainer: Trainer) -> MessageDataModule:
    """The prepared splits; one process of a machine fetches what has to be fetched."""
    encoding = load_encoding(cfg.model.tokenizer)
    if encoding.n_vocab > cfg.model.backbone.vocab_size:
        raise UserError(
            f"model.tokenizer: {cfg.model.tokenizer} has {encoding.n_vocab} tokens, but the model has embeddings "
            f"for {cfg.model.backbone.vocab_size}. Set model.tokenizer to the vocabulary that the model was "
            f"trained with."
        )
    data: MessageDataModule = instantiate(cfg.data.module)
    data.prepare_data()
    data.setup()
    return data


def build_module(cfg: DictConfig, data: MessageDataModule) -> ClassifierModule:
    """The classifier with its frozen part switched off, and how it is trained."""
    lr = cfg.optimizer.get("lr")
    if not isinstance(lr, int | float) or not math.isfinite(lr) or lr < 0:
        raise UserError(f"optimizer.lr: expected a number of at least 0, such as 5e-5, but it is {lr}.")
    backbone = instantiate(cfg.model.backbone)
    model = load_classifier(backbone, cfg.model.weights, cfg.model.hub, instantiate(cfg.pooling), len(data.class_names))
    instantiate(cfg.freeze)(model)
    spec = {
        "format": 1,
        "backbone": asdict(backbone),
        "pooling": model.pooling.name,
        "tokenizer": cfg.model.tokenizer,
        "class_names": data.class_names,
        "max_length": data.max_length,
        "pad_to": data.pad_to,
        "truncate": data.truncate,
        "note": data.report.note,
    }
    scheduler = instantiate(cfg.scheduler) if cfg.get("scheduler") else None
    return ClassifierModule(model, instantiate(cfg.optimizer), scheduler, data.class_names, spec, cfg.seed)


# before and after


def describe(cfg: DictConfig, trainer: Trainer, data: MessageDataModule, module: ClassifierModule) -> None:
    """What is about to be trained, on what."""
    data.report.log()
    if module.model.pooling.reads_padding and data.pad_to == "batch":
        log.warning(
            "pooling=%s reads padding and data.pad_to=batch pads each batch differently: predictions depend on what "
            "else is in the batch; data.pad_to=train pads all alike, as the book's chapter does",
            module.model.pooling.name,
        )
    counts = _parameter_counts(module)
    log.info("model    %s, weights %s", _title(cfg), cfg.model.weights)
    log.info("trained  %s parameters; frozen %s", f"{counts['trained']:,}", f"{counts['frozen']:,}")
    processes = f"{trainer.world_size} processes" if trainer.world_size > 1 else "one process"
    log.info(
        "trainer  %s, %s, precision %s, %d epochs",
        type(trainer.accelerator).__name__.removesuffix("Accelerator"),
        processes,
        trainer.precision,
        trainer.max_epochs,
    )


def _parameter_counts(module: ClassifierModule) -> dict[str, int]:
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
        data.split_frame(name).to_csv(run_dir / "splits" / f"{name}.csv", index=False)


def fit_and_evaluate(
    cfg: DictConfig, trainer: Trainer, data: MessageDataModule, module: ClassifierModule, run_dir: Path
) -> dict[str, Any]:
    """Measure, train, measure the last and the best weights.

    Returns:
        `start`, `last` and `best`, each with `epoch`, `step` and the metrics of all splits, and the `seconds` of
        training.
    """
    checkpoint = find_resumable(cfg.ckpt_path, module, run_dir) if cfg.ckpt_path else None
    if checkpoint is None:
        trainer.test(module, data, verbose=False)
        module.start = {"epoch": 0, "step": 0, **module.evaluation}
        module.history.append(
            {
                "epoch": 0.0,
                "step": 0,
                "examples": 0,
                "val/loss": module.evaluation["val"]["loss"],
                "val/accuracy": module.evaluation["val"]["accuracy"],
            }
        )
        report.log_evaluation(trainer.loggers, module.evaluation, step=0)
    began = time.perf_counter()
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    seconds = time.perf_counter() - began
    step = trainer.global_step
    trainer.test(module, data, verbose=False)
    last = {"epoch": trainer.current_epoch, "step": step, **module.evaluation}
    report.log_evaluation(trainer.loggers, module.evaluation, step=step)
    keeper = next(callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint))  # type: ignore[attr-defined]
    best = dict(last)
    if keeper.best and keeper.best["step"] != step:
        trainer.test(module, data, ckpt_path=keeper.path, verbose=False, weights_only=True)
        best = {"epoch": keeper.best["epoch"], "step": keeper.best["step"], **module.evaluation}
    return {"start": module.start, "last": last, "best": best, "seconds": seconds}


def find_resumable(ckpt_path: str, module: ClassifierModule, run_dir: Path) -> Path:
    """Check that a checkpoint continues this training, and bring along the best weights so far.

    Raises:
        UserError: it is missing, damaged, holds weights only, or is of another classifier.
    """
    path = Path(ckpt_path).expanduser()
    hint = "Set ckpt_path to the checkpoints/last.ckpt of the run that is to go on."
    if not path.is_file():
        raise UserError(f"ckpt_path: there is no file {path}. {hint}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        spec = checkpoint["classifier"]
    except Exception as error:
        raise UserError(f"ckpt_path: {path} is not a whole checkpoint of this project. {hint}") from error
    if "optimizer_states" not in checkpoint:
        raise UserError(f"ckpt_path: {path} holds weights only, without the optimizer's state. {hint}")
    for key in ("class_names", "backbone", "pooling", "tokenizer"):
        if spec[key] != module.spec[key]:
            raise UserError(
                f"ckpt_path: {path} was trained with {key} {spec[key]}, but this run has {module.spec[key]}. "
                f"Resume with the options of that run, which are in {path.parent.parent / 'config.yaml'}."
            )
    best, target = path.with_name("best.ckpt"), run_dir / "checkpoints" / "best.ckpt"
    if _is_first_process() and best.exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, target)
    return path


def write_results(
    cfg: DictConfig,
    trainer: Trainer,
    data: MessageDataModule,
    module: ClassifierModule,
    stages: report.Stages,
    seconds: dict[str, float],
    run_dir: Path,
) -> None:
    """metrics.json, the pictures, what the loggers show at the end, and the summary."""
    choices = HydraConfig.get().runtime.choices
    settings = {group: choices[group] for group in ("model", "freeze", "pooling", "data", "optimizer", "scheduler")}
    settings |= {
        "weights": cfg.model.weights,
        "seed": cfg.seed,
        "epochs": cfg.trainer.max_epochs,
        "batch_size": cfg.data.batch_size,
        "lr": cfg.optimizer.lr,
        "weight_decay": cfg.optimizer.get("weight_decay", 0.0),
        "train_size": sum(data.report.splits["train"].values()),
        "deduplicate": cfg.data.deduplicate,
        "pad_to": data.pad_to,
        "dropout": cfg.model.backbone.dropout,
        "precision": trainer.precision,
    }
    report.write_json(
        run_dir / "metrics.json",
        {
            "settings": settings,
            "parameters": _parameter_counts(module),
            "data": data.report.as_dict(),
            **stages,
            "seconds": seconds,
        },
    )
    texts = {name: data.split_frame(name) for name in SPLITS}
    report.write_figures(run_dir, module.history, stages["best"], data.class_names)
    report.log_best(trainer.loggers, settings, stages["best"], module.predictions, texts, data.class_names)
    log.info("\n%s", report.summary(stages, _title(cfg), seconds, run_dir, data.report.note))
