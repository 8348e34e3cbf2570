"""Chapter 6 of "Build a Large Language Model (From Scratch)", step by step.

This follows the chapter's script and its use of random numbers, so that the same weights give the same losses: loaders
shuffle with the default generator; the seed is set before the loaders, before the new head and before training;
evaluations take the first batches of a freshly shuffled training loader. Only the computation differs: the frozen
blocks are computed once, and the last block only at the position that is read.

The chapter keeps no best epoch, so the run's checkpoint is `checkpoints/last.ckpt`: the weights after the last step,
without the optimizer's state.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Trainer, seed_everything
from lightning.fabric.utilities import move_data_to_device
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from gpt_classifier.artifact import KEY
from gpt_classifier.atomic import write_json
from gpt_classifier.data.batching import Batch
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.device import peak_memory_gb
from gpt_classifier.errors import UserError, expect_number
from gpt_classifier.figures import curves, save
from gpt_classifier.quiet import quiet
from gpt_classifier.training.build import build_module, build_trainer, check, load_data
from gpt_classifier.training.checkpoint_io import AtomicCheckpointIO
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.hyperparameters import describe_settings
from gpt_classifier.training.module import ClassifierModule
from gpt_classifier.training.recipe import settle
from gpt_classifier.training.run import Result, count_parameters, describe, keep_inputs

log = logging.getLogger(__name__)

PUBLISHED = {
    "step 0, loss": (2.153, 2.392),
    "step 50, loss": (0.617, 0.637),
    "step 100, loss": (0.523, 0.557),
    "epoch 1, accuracy": (0.7000, 0.7250),
    "final accuracy": (0.9721, 0.9732, 0.9567),
}
"""The chapter's numbers for gpt2-small with released weights: training, validation and, at the end, test."""

FIXED = {
    "trainer.precision": "32-true",
    "trainer.accumulate_grad_batches": 1,
    "trainer.gradient_clip_val": None,
    "model.dropout": 0.0,
    "scheduler": None,
    "ckpt_path": None,
    "trainer.fast_dev_run": None,
    "trainer.limit_train_batches": None,
    "trainer.limit_val_batches": None,
    "trainer.max_steps": None,
    "trainer.max_time": None,
    "trainer.profiler": None,
    "callbacks.early_stopping": None,
}
"""Options whose values the chapter's script fixes; `None` for what it does not have."""

CHECKPOINT = Path("checkpoints", "last.ckpt")
"""Where a run keeps its weights."""


def replay(config: DictConfig, context: RunContext, eval_freq: int, eval_iter: int) -> Result:
    """Train as the chapter does, print what it prints, and compare with what it published.

    Args:
        config: what `conf/config.yaml` composes.
        context: where the run takes place; it needs a folder.
        eval_freq: steps between two evaluations of the losses.
        eval_iter: batches per evaluation, and for the accuracies after each epoch.

    Raises:
        UserError: something that a user can fix.
    """
    with quiet():
        return _replay(config, context, eval_freq, eval_iter)


def _replay(config: DictConfig, context: RunContext, eval_freq: int, eval_iter: int) -> Result:
    began = time.perf_counter()
    run_dir = context.folder
    assert run_dir is not None, "the chapter's run leaves a folder"
    check(config)
    check_replay(config, eval_freq, eval_iter)
    seed_everything(config.seed, verbose=False)
    data = load_data(config)
    data.report.log()
    config = settle(config, context, data)
    trainer = build_trainer(config, context)
    if trainer.world_size > 1:
        raise UserError("procedure=chapter runs in one process. Set trainer=auto.")
    if data.pad_to == "batch":
        raise UserError(
            "procedure=chapter pads all messages to one length. Set data.pad_to=train, context or a number."
        )
    if data.splits != SPLITS:
        raise UserError("procedure=chapter needs validation and test. Set data.val_fraction and data.test_fraction.")
    module = build_module(config, trainer, data)
    parameters = count_parameters(module)
    describe(config, context, trainer, data, module, parameters)
    keep_inputs(config, run_dir, data)
    chapter = Chapter(module, data, trainer.strategy.root_device, config.seed)
    training_began = time.perf_counter()
    evaluations, epochs = chapter.train(trainer, eval_freq, eval_iter)
    seconds = {"training": time.perf_counter() - training_began}
    last = chapter.finish(trainer, run_dir)
    seconds["run"] = time.perf_counter() - began
    write_json(
        run_dir / "metrics.json",
        {
            "settings": describe_settings(config, context),
            "parameters": parameters,
            "data": asdict(data.report),
            "evaluations": evaluations,
            "epochs": epochs,
            "last": last,
            "seconds": seconds,
            "peak_memory_gb": peak_memory_gb(chapter.device),
        },
    )
    for what, rows in (("loss", evaluations), ("accuracy", epochs)):
        save(curves(rows, what, f"training, {eval_iter} batches"), run_dir / f"{what}.png")
    log.info("\n%s", compare(evaluations, epochs, last))
    log.info("\n%.1f s of training; the results are in %s", seconds["training"], run_dir)
    log.info("The weights of the last step are in %s (this procedure keeps no best epoch).", run_dir / CHECKPOINT)
    return Result(module, data, {"last": last, "best": last}, seconds, last["val"]["accuracy"], False)


def check_replay(cfg: DictConfig, eval_freq: int, eval_iter: int) -> None:
    """Refuse settings that the chapter's script does not have.

    Raises:
        UserError: at the first such setting.
    """
    expect_number("procedure.eval_freq", eval_freq, 1, whole=True)
    expect_number("procedure.eval_iter", eval_iter, 1, whole=True)
    for option, value in FIXED.items():
        group, _, key = option.partition(".")
        found = (cfg.get(group) or {}).get(key) if key else cfg.get(group)
        found = "set" if OmegaConf.is_config(found) and found else found
        if (found or None) != (value or None):
            raise UserError(
                f"{option}: procedure=chapter needs {'none' if value is None else value}, but it is {found}. "
                f"With procedure=usual any value is possible."
            )


class Chapter:
    """The chapter's loaders, losses and loop.

    Args:
        module: the classifier and its optimizer; its head is initialised again.
        data: prepared, all messages padded to one length.
        device: where to compute.
        seed: set before the loaders, the head and training.
    """

    def __init__(self, module: ClassifierModule, data: MessageDataModule, device: torch.device, seed: int) -> None:
        self.module = module
        self.data = data
        self.device = device
        self.seed = seed
        torch.manual_seed(seed)
        self.loaders: dict[str, DataLoader] = {
            split: DataLoader(
                range(len(data.datasets[split])),  # type: ignore[arg-type] # a dataset of its own indices
                batch_size=data.batch_size,
                shuffle=split == "train",
                drop_last=split == "train",
            )
            for split in SPLITS
        }
        torch.manual_seed(seed)
        module.model.head.reset_parameters()
        module.to(device)
        if module.prefix is not None:
            module.prefix.fill(data.token_rows(), module.model, data.pad_id)

    def batches(self, split: str, number: int | None = None) -> Iterator[Batch]:
        """The first `number` batches of a split, or all of them; each call shuffles with the default generator."""
        for i, indices in enumerate(self.loaders[split]):
            if i == number:
                return
            batch = self.data.datasets[split][indices.tolist(), int(self.data.pad_to)]
            if self.module.prefix is not None:
                batch = batch._replace(hidden=self.module.prefix.gather(split, indices.tolist()))
            yield move_data_to_device(batch, self.device)

    @torch.no_grad()
    def loss(self, split: str, number: int) -> float:
        """Mean of the batches' mean losses in nats."""
        self.module.eval()
        losses = [F.cross_entropy(self.module(batch), batch.labels).item() for batch in self.batches(split, number)]
        return sum(losses) / len(losses)

    @torch.no_grad()
    def accuracy(self, split: str, number: int | None = None) -> dict[str, Any]:
        """`accuracy`, from 0 to 1, and the number of `messages`."""
        self.module.eval()
        right, messages = 0, 0
        for batch in self.batches(split, number):
            right += int((self.module(batch).argmax(dim=-1) == batch.labels).sum())
            messages += len(batch.labels)
        return {"accuracy": right / messages, "messages": messages}

    def train(self, trainer: Trainer, eval_freq: int, eval_iter: int) -> tuple[list[dict], list[dict]]:
        """The chapter's training loop.

        Returns:
            Losses at each evaluation and accuracies after each epoch, with `epoch`, `step` and `examples`.
        """
        torch.manual_seed(self.seed)
        optimizer = self.module.make_optimizer([p for p in self.module.parameters() if p.requires_grad])
        steps = len(self.loaders["train"])
        evaluations: list[dict] = []
        epochs: list[dict] = []
        step = -1
        for epoch in range(1, (trainer.max_epochs or 0) + 1):
            for batch in self.batches("train"):
                self.module.train()
                optimizer.zero_grad()
                F.cross_entropy(self.module(batch), batch.labels).backward()
                optimizer.step()
                step += 1
                if step % eval_freq == 0:
                    train, val = self.loss("train", eval_iter), self.loss("val", eval_iter)
                    log.info("Ep %d (Step %06d): Train loss %.3f, Val loss %.3f", epoch, step, train, val)
                    where = {"epoch": (step + 1) / steps, "step": step, "examples": (step + 1) * self.data.batch_size}
                    evaluations.append({**where, "train/running_loss": train, "val/loss": val})
                    self._draw(trainer, {"train/loss": train, "val/loss": val}, step)
            train, val = (self.accuracy(split, eval_iter)["accuracy"] for split in ("train", "val"))
            log.info("Training accuracy: %.2f%% | Validation accuracy: %.2f%%", 100 * train, 100 * val)
            where = {"epoch": epoch, "step": step, "examples": (step + 1) * self.data.batch_size}
            epochs.append({**where, "train/running_accuracy": train, "val/accuracy": val})
            self._draw(trainer, {"train/accuracy": train, "val/accuracy": val}, step)
        return evaluations, epochs

    def finish(self, trainer: Trainer, run_dir: Path) -> dict[str, Any]:
        """Save the last weights, and measure them on all batches of all splits."""
        checkpoint = {KEY: self.module.spec.plain(), "state_dict": self.module.kept(self.module.state_dict())}
        AtomicCheckpointIO().save_checkpoint(checkpoint, run_dir / CHECKPOINT)
        last = {split: self.accuracy(split) for split in SPLITS}
        for split, name in zip(SPLITS, ("Training", "Validation", "Test"), strict=True):
            log.info("%s accuracy: %.2f%%", name, 100 * last[split]["accuracy"])
        step = (trainer.max_epochs or 0) * len(self.loaders["train"])
        self._draw(trainer, {f"last/{split}/accuracy": last[split]["accuracy"] for split in SPLITS}, step)
        for logger in trainer.loggers:
            logger.finalize("success")
        return {"epoch": trainer.max_epochs, "step": step, **last}

    def _draw(self, trainer: Trainer, values: dict[str, float], step: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)


def compare(evaluations: list[dict], epochs: list[dict], last: dict[str, Any]) -> str:
    """A table of this run's numbers beside `PUBLISHED`."""
    found: dict[str, tuple[float, ...]] = {
        f"step {row['step']}, loss": (row["train/running_loss"], row["val/loss"]) for row in evaluations
    }
    found |= {f"epoch {row['epoch']}, accuracy": (row["train/running_accuracy"], row["val/accuracy"]) for row in epochs}
    found["final accuracy"] = tuple(last[split]["accuracy"] for split in SPLITS)
    lines = [f"{'training / validation / test':<30}{'here':<28}the book, gpt2-small, released weights"]
    for name, published in PUBLISHED.items():
        shape = "{:.3f}" if name.endswith("loss") else "{:.2%}"
        ours, theirs = (" / ".join(map(shape.format, values)) for values in (found.get(name, ()), published))
        lines.append(f"{name:<30}{ours or '-':<28}{theirs}")
    return "\n".join(lines)
