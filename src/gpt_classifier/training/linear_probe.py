"""The head before the first step: a linear probe, from which fine-tuning goes on.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022).
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor

from gpt_classifier.data.batching import EvaluationBatches
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.letters import letters_of
from gpt_classifier.models.linear_probe import Bags, Seen, probe, probe_by_part

log = logging.getLogger(__name__)

MOST_CLASSES = 500  # beyond which a probe would take longer than it saves
MOST_TEXTS, MOST_LOGITS = 20_000, 2_000_000  # texts of a split, and texts times classes: a start needs no more


def can_probe(trainer: Trainer, data: MessageDataModule, model: Classifier) -> bool:
    """Whether the head is fitted: not that of a file, not under FSDP, and not for very many classes."""
    sharded = isinstance(trainer.strategy, FSDPStrategy)
    return model.head_is_fresh and not sharded and len(data.task.classes) <= MOST_CLASSES


class FitHead(Callback):
    """Fits a fresh head, and `Classifier.words`, to the training messages before the first pass.

    A resumed run has a head, as has a file of a fine-tuned classifier.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit(trainer, pl_module)

    @torch.inference_mode(False)
    def _fit(self, trainer: Trainer, module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        model = module.model
        wanted = trainer.ckpt_path is None and model.head_is_fresh
        if wanted and not can_probe(trainer, data, model):
            log.info("head     random: no linear probe under FSDP or for more than %d classes", MOST_CLASSES)
        elif wanted:
            began = time.perf_counter()
            rows = data.datasets["train"].rows
            ngrams = None
            if model.words is not None:
                found = letters_of(data.tokenizer, model.backbone.vocab_size)
                idf, ngrams = found.weigh(rows[:: max(1, len(rows) // MOST_TEXTS)])
                model.words.idf.copy_(idf)
                ngrams = Bags(*move_data_to_device(tuple(ngrams), module.device))
            train = _see(trainer, module, "train")
            validated = trainer.limit_val_batches and "val" in data.splits
            if validated:
                fit = probe(train, _see(trainer, module, "val"), module.task, ngrams)
            else:
                fit = probe_by_part(train, module.task, ngrams, module.seed)
            fit = trainer.strategy.broadcast(move_data_to_device(fit, "cpu"))
            with torch.no_grad():
                model.head.weight.copy_(fit.weight)
                model.head.bias.copy_(fit.bias)
                if fit.words is not None:
                    model.words.weight.copy_(fit.words)
            log.info("head     linear probe of %d messages, %.1f s", len(train.targets), time.perf_counter() - began)
        model.head_is_fresh = False


@torch.no_grad()
def _see(trainer: Trainer, module: Any, split: str) -> Seen:
    """Messages of a split, as many as are needed, drawn by the run's seed."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    dataset, words = data.datasets[split], module.model.words
    most = min(MOST_TEXTS, MOST_LOGITS // len(module.task.classes))
    chosen = np.random.default_rng(module.seed).permutation(len(dataset))[:most]
    parts = EvaluationBatches(dataset.lengths[chosen], data.batch_size, data.pad_to, budget=data.evaluation_tokens)
    found: list[tuple[Tensor | None, ...]] = []
    training = module.training
    module.eval()
    for places, length in parts:
        batch = module.on_before_batch_transfer(dataset[chosen[places].tolist(), length], 0)
        batch = move_data_to_device(batch, module.device)
        with trainer.precision_plugin.forward_context():
            features = module.features(batch).float()
        ids = values = counts = None
        if words is not None:
            every = words.values(batch.ids, batch.lengths)  # (B, T)
            ids, values, counts = batch.ids[every > 0].long(), every[every > 0], (every > 0).sum(dim=1)
        found.append((features, batch.labels, batch.weights, ids, values, counts))
    module.train(training)
    features, targets, weights, ids, values, counts = (_joined(column) for column in zip(*found, strict=True))
    bags = None if counts is None else Bags(ids, values, counts.cumsum(dim=0) - counts)
    return Seen(features, bags, targets, weights)


def _joined(parts: Sequence[Tensor | None]) -> Any:
    """The concatenation of tensors, or `None` where there are none."""
    return None if parts[0] is None else torch.cat([part for part in parts if part is not None])
