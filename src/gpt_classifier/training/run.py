"""One run, from a composed configuration to a trained model and, if asked, a folder of results."""

import csv
import logging
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.artifact import store_ngrams
from gpt_classifier.atomic import write_json, write_table, write_text
from gpt_classifier.config import instantiate
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.prepare import text_hash
from gpt_classifier.data.sources import extra_columns
from gpt_classifier.device import peak_memory_gb
from gpt_classifier.errors import option_group
from gpt_classifier.ngrams import NGrams, told
from gpt_classifier.quiet import quiet
from gpt_classifier.signals import ended_in_order
from gpt_classifier.training import report
from gpt_classifier.training.build import build_module, build_pooling, build_trainer, check, load_data
from gpt_classifier.training.callbacks import BestWeights
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.hyperparameters import Trial, describe_settings
from gpt_classifier.training.module import ClassifierModule
from gpt_classifier.training.recipe import settle
from gpt_classifier.training.resume import bring_best_along, find_resumable, settings_to_keep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Args:
        module: with the last weights, or the best ones where they were kept in memory.
        data: as it was prepared.
        stages: `best` and `last`, and `start` where it was measured, each with `epoch`, `step` and the metrics of the
            splits that were measured.
        seconds: of `training`, and of the whole `run`.
        score: the best epoch's monitored validation metric, which sweeps compare; `nan` without validation.
        interrupted: whether it was ended before its time, as by Ctrl-C.
        adaptation: what came of learning from texts without labels; empty where `data.adapt` says nothing.
        ngrams: the linear model that the module's is joined with; `None` without `with_ngrams`.
        stacked: what came of that, see `gpt_classifier.stacking`.
    """

    module: ClassifierModule
    data: MessageDataModule
    stages: report.Stages
    seconds: dict[str, float]
    score: float
    interrupted: bool
    adaptation: dict[str, Any] = field(default_factory=dict)
    ngrams: NGrams | None = None
    stacked: dict[str, Any] = field(default_factory=dict)


PASSED = {"val": ("train", "val"), "never": ("train",)}
"""Splits that pass through the model, by what is measured; all where it is not among these."""


def train(config: DictConfig, context: RunContext) -> Result:
    """Train one classifier and report on it.

    Args:
        config: what `conf/config.yaml` composes.
        context: where the run takes place.

    Raises:
        UserError: something that a user can fix.
    """
    started = time.perf_counter()
    with quiet(all_of_it=context.folder is None), ended_in_order():
        check(config)
        measured = what_to_measure(config, context)
        seed_everything(config.seed, verbose=False)
        pooling = build_pooling(config, context.pooling)
        data = load_data(config, context.source, pooling)
        data.report.log()
        adapted, adaptation = adapt_first(config, context, data) if config.data.get("adapt") else (None, {})
        data.needed = tuple(split for split in data.splits if split in PASSED.get(measured, data.splits))
        stacking = instantiate(config.stacking) if config.with_ngrams else None
        if stacking is not None:
            stacking.expect_possible(config, data)
        asked, config = config, settle(config, context, data)
        trainer = build_trainer(config, context, validate=measured != "never")
        module = build_module(config, trainer, data, pooling, adapted)
        module.settings = settings_to_keep(config, context, data, str(trainer.precision))
        checkpoint = find_resumable(config.ckpt_path, module) if config.ckpt_path else None
        parameters = count_parameters(module)
        describe(config, context, trainer, data, module, parameters)
        if trainer.is_global_zero and context.folder is not None:
            keep_inputs(config, context.folder, data)
            if checkpoint is not None:
                bring_best_along(checkpoint, context.folder)
        try:
            stages, training = fit_and_evaluate(trainer, data, module, checkpoint, measured, context.interruptible)
            if stacking is not None:
                measure_again(trainer, data, module, stages["best"])
        finally:
            if module.prefix is not None:
                module.prefix.close()
        ngrams, stacked, interrupted = None, {}, trainer.interrupted
        if stacking is not None and not interrupted:
            weights = {"model.weights": str(adapted)} if adapted else {}
            try:
                ngrams, stacked = stacking.join(asked, context, data, module, stages["best"], weights)
                keep_ngrams(trainer, module, ngrams)
            except KeyboardInterrupt:
                if not context.interruptible:
                    raise
                interrupted = True
        result = Result(
            module,
            data,
            stages,
            {"training": training, "run": time.perf_counter() - started},
            stages["best"].get("val", {}).get(module.task.monitor, float("nan")),
            interrupted,
            adaptation,
            ngrams,
            stacked,
        )
        if trainer.is_global_zero and context.folder is not None:
            write_results(config, context, trainer, result, parameters)
    return result


def adapt_first(config: DictConfig, context: RunContext, data: MessageDataModule) -> tuple[Path, dict[str, Any]]:
    """Weights that learned from texts without labels as `conf/adaptation` says, and facts about them for reports."""
    with option_group("adaptation"):
        adaptation = instantiate(config.adaptation)
    return adaptation.before(config, context, data)


def what_to_measure(config: DictConfig, context: RunContext) -> str:
    """`all`, `final`, `val` or `never`; `auto` is `final`, or `val` in a sweep.

    A sweep that showed test figures of every trial would invite choosing by them.
    """
    if config.evaluate != "auto":
        return config.evaluate
    return "val" if context.sweep else "final"


def describe(
    config: DictConfig,
    context: RunContext,
    trainer: Trainer,
    data: MessageDataModule,
    module: ClassifierModule,
    parameters: dict[str, int],
) -> None:
    """What is about to be trained, and how."""
    pooling = module.model.pooling
    if pooling.reads_padding and data.pad_to == "batch":
        log.warning(
            "pooling=%s reads padding and data.pad_to=batch pads each batch differently: predictions depend on what "
            "else is in the batch; data.pad_to=train pads all alike, as the book's chapter does",
            pooling.name(),
        )
    log.info("model    %s, weights %s", context.title(), config.model.weights)
    log.info("trained  %s parameters; frozen %s", f"{parameters['trained']:,}", f"{parameters['frozen']:,}")
    accelerator = type(trainer.accelerator).__name__.removesuffix("Accelerator")
    processes = f"{trainer.world_size} processes" if trainer.world_size > 1 else "one process"
    how = (accelerator, processes, trainer.precision, trainer.max_epochs)
    log.info("trainer  %s, %s, precision %s, %d epochs", *how)


def count_parameters(module: ClassifierModule) -> dict[str, int]:
    """How many are trained and how many are frozen."""
    counts = {"trained": 0, "frozen": 0}
    for parameter in module.model.parameters():
        counts["trained" if parameter.requires_grad else "frozen"] += parameter.numel()
    return counts


def keep_inputs(config: DictConfig, run_dir: Path, data: MessageDataModule) -> None:
    """The resolved configuration and the splits: the messages' rows in their source, labels, hashes, perhaps texts."""
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    for name in data.splits:
        frame = data.split_frame(name)
        frame["hash"] = frame["text"].map(text_hash)
        columns = ["row", "label", "hash", *(["text", *extra_columns(frame)] if data.keeps_texts else [])]
        write_table(run_dir / "splits" / f"{name}.csv", frame[columns], quoting=csv.QUOTE_ALL)


def fit_and_evaluate(
    trainer: Trainer,
    data: MessageDataModule,
    module: ClassifierModule,
    checkpoint: Path | None,
    measured: str,
    interruptible: bool = False,
) -> tuple[report.Stages, float]:
    """Train, and measure what is asked.

    Args:
        trainer: with a `BestWeights` among its callbacks, unless the last weights are wanted.
        data: prepared.
        module: to train.
        checkpoint: to go on from, if any; what was measured before training comes with it.
        measured: `all`: every split before training, after it, and with the best weights; `final`: the test split
            once, with the best weights; `val` and `never`: none. Validation after each epoch is the trainer's affair.
        interruptible: Ctrl-C ends training but not the process.

    Returns:
        The stages of `Result`, and the seconds of training.
    """
    if checkpoint is None and measured == "all":
        _measure(trainer, data, module, data.splits)
        module.begin()
        report.log_evaluation(trainer.loggers, module.evaluation, step=0)
    module.evaluation = {}
    began = time.perf_counter()
    _fit(trainer, data, module, checkpoint, interruptible)
    seconds = time.perf_counter() - began
    last: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step, **module.evaluation}
    keeper = keeper_of(trainer)
    if keeper is not None:
        keeper.keep_last_if_none(trainer)
    if measured == "all":
        _measure(trainer, data, module, data.splits)
        last |= module.evaluation
        fresh = {split: metrics for split, metrics in module.evaluation.items() if split != "val"}
        report.log_evaluation(trainer.loggers, fresh, last["step"])  # validation: at the epoch's end
    best = dict(last)
    others = keeper is not None and keeper.best and keeper.best["step"] != last["step"]
    if keeper is not None and others:
        best = {"epoch": keeper.best["epoch"], "step": keeper.best["step"], "val": keeper.best["metrics"]}
        if keeper.path is None:
            keeper.restore(module)
    wanted = {"all": data.splits if others else (), "final": ("test",)}.get(measured, ())
    if set(wanted) & set(data.splits):
        path = keeper.path if keeper is not None and others else None
        _measure(trainer, data, module, wanted, path)
        best |= module.evaluation
        if measured == "final":
            report.log_evaluation(trainer.loggers, module.evaluation, best["step"])
    if keeper is not None and keeper.predictions is not None and measured != "all":
        module.predictions["val"] = keeper.predictions
    start = {"start": module.start} if module.start else {}
    return {**start, "last": last, "best": best}, seconds


def keeper_of(trainer: Trainer) -> BestWeights | None:
    """The callback that keeps the best weights, if there is one."""
    return next((c for c in trainer.callbacks if isinstance(c, BestWeights)), None)  # type: ignore[attr-defined]


def measure_again(trainer: Trainer, data: MessageDataModule, module: ClassifierModule, best: dict[str, Any]) -> None:
    """Predictions of measured splits that an earlier process made, before this one resumed its run."""
    missing = [split for split in data.splits if split in best and split not in module.predictions]
    if missing:
        keeper = keeper_of(trainer)
        _measure(trainer, data, module, missing, keeper.path if keeper is not None else None)


def keep_ngrams(trainer: Trainer, module: ClassifierModule, ngrams: NGrams) -> None:
    """The linear model goes where the best weights are: in their file, if they have one."""
    module.spec = replace(module.spec, ngrams=ngrams.state()[0])
    keeper = keeper_of(trainer)
    if keeper is not None and keeper.path is not None and keeper.path.exists():
        store_ngrams(keeper.path, ngrams)


def _fit(
    trainer: Trainer, data: MessageDataModule, module: ClassifierModule, checkpoint: Path | None, interruptible: bool
) -> None:
    main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main_thread else None
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # how Lightning leaves after Ctrl-C, which it ignores from then on
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if not (interruptible and trainer.interrupted):
            raise


def _measure(
    trainer: Trainer,
    data: MessageDataModule,
    module: ClassifierModule,
    splits: Sequence[str],
    checkpoint: Path | None = None,
) -> None:
    """Whole splits into `module.evaluation`, with the weights of a checkpoint or the present ones."""
    data.evaluated = tuple(split for split in data.splits if split in splits)
    trainer.test(module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)


def write_results(
    config: DictConfig, context: RunContext, trainer: Trainer, result: Result, parameters: dict[str, int]
) -> None:
    """metrics.json, tables of many classes, the pictures, what the loggers show at the end, and the summary."""
    assert context.folder is not None
    module, data, stages = result.module, result.data, result.stages
    settings = describe_settings(config, context) | {"trainer.precision": str(trainer.precision)}
    write_json(
        context.folder / "metrics.json",
        {
            "settings": settings,
            "parameters": parameters,
            "data": report.counted(asdict(data.report)),
            **({"adaptation": result.adaptation} if result.adaptation else {}),
            **({"stacking": result.stacked} if result.stacked else {}),
            **report.shortened(stages),
            "seconds": result.seconds,
            "peak_memory_gb": peak_memory_gb(trainer.strategy.root_device),
        },
    )
    classes = module.task.classes
    texts = {name: data.split_frame(name) for name in data.splits} if data.keeps_texts else {}
    report.write_tables(context.folder, stages["best"])
    taught = data.report.taught
    report.write_figures(context.folder, module.history, stages["best"], classes, taught)
    trial = Trial.of(settings, context)
    report.log_best(trainer.loggers, settings, trial, stages["best"], module.predictions, texts, classes)
    advice = report.advise(module.history, stages["best"], trainer.max_epochs or 0, result.interrupted)
    kept = module.prefix.key.stored if module.prefix is not None else None
    title = context.title() + (f", figures of activations rounded to {kept}" if kept in ("bfloat16", "int8") else "")
    if module.spec.teachers:
        advice = f"Distilled from {module.spec.taught_by}.\n{advice}".rstrip()
    if result.stacked:
        advice = f"With n-grams: {told(result.stacked)}.\n{advice}".rstrip()
    summary = report.summary(stages, title, result.seconds, context.folder, data.report.note, advice, taught)
    log.info("\n%s", summary)
