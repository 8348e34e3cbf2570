"""Learning from texts without labels before fine-tuning: `gpt-classifier adapt`, and `data.adapt` of a run.

Continued pretraining in the domain of the task (Gururangan et al., 2020, "Don't Stop Pretraining").
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.activations.cache_folder import alone
from gpt_classifier.atomic import write_text
from gpt_classifier.checkpoints import run_folder
from gpt_classifier.config import instantiate
from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.prepare import fold
from gpt_classifier.errors import OptionError, UserError, expect_number, option_group
from gpt_classifier.models.freezing import hold_trained
from gpt_classifier.models.gpt import GPTConfig
from gpt_classifier.models.limits import expect_adaptable
from gpt_classifier.models.weights import content_hash, load_backbone, locate_weights
from gpt_classifier.paths import cache_folder
from gpt_classifier.pretraining.adapted import FILE, Facts, facts_of, plain, save_weights, write_folder
from gpt_classifier.pretraining.learning import Schedule, learn
from gpt_classifier.quiet import quiet
from gpt_classifier.schema import check_types
from gpt_classifier.signals import ended_in_order
from gpt_classifier.tables.unlabelled import UnlabelledTexts
from gpt_classifier.tokenizers import expect_vocabulary, tokenizer_of
from gpt_classifier.tokenizers.interface import Tokenizer
from gpt_classifier.training.build import resolve_precision
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.recipe import AUTO

log = logging.getLogger(__name__)

FORMAT = 1  # of keys; a change makes older adapted weights unused
FEWEST = 10  # different texts
WHOLE = 10**9  # tokens of a text: none is cut

TRANSDUCTIVE = (
    "Before fine-tuning, the model learned from the texts of validation and test too, without their labels "
    "(data.transductive=true): on texts that it has not seen it may be worse than measured here."
)


@dataclass(frozen=True)
class Adaptation:
    """Settings of learning from texts without labels.

    Args:
        passes: over the texts, at most.
        patience: measurements in a row without a better one after which it stops.
        val_fraction: part of the texts that is held out and measured; texts that are equal but for case, digits and
            punctuation are on one side.
        batch_tokens: of a step.
        lr: peak learning rate of AdamW, or `auto`.
        rates: what that is, by file of `conf/model`, and `default` for others.
        seed: which texts are held out, and their order.

    Raises:
        OptionError: a number out of its range.
    """

    passes: int
    patience: int
    val_fraction: float
    batch_tokens: int
    lr: float | str
    rates: Mapping[str, float]
    seed: int

    def __post_init__(self) -> None:
        expect_number("passes", self.passes, 1, 1000, whole=True)
        expect_number("patience", self.patience, 1, whole=True)
        expect_number("val_fraction", self.val_fraction, 0.001, 0.5)
        expect_number("batch_tokens", self.batch_tokens, 1, whole=True)
        if self.lr != AUTO:
            expect_number("lr", self.lr, 0)

    def before(self, config: DictConfig, context: RunContext, data: MessageDataModule) -> tuple[Path, dict[str, Any]]:
        """Adapt the weights of a run to the texts that `data.adapt` names, or find them adapted.

        Args:
            config: of the run, composed.
            context: of the run; without a folder the weights are left where later runs find them.
            data: prepared; where the texts of validation and test are learned from, every report will say so.

        Returns:
            A file or folder of weights, and facts about them for reports.

        Raises:
            UserError: the model can't be adapted, or there are too few texts.
        """
        texts = texts_of(data, config.data.adapt, config.data.transductive)
        if config.data.transductive:
            data.report.note = " ".join(filter(None, (data.report.note, TRANSDUCTIVE)))
            log.warning(TRANSDUCTIVE)
        kept = [run_folder(Path(config.ckpt_path).expanduser()) / "adapted"] if config.get("ckpt_path") else []
        place = context.folder / "adapted" if context.folder else None
        name = context.choices.get("model", "")
        path, facts = self.weights(config, name, texts, data.tokenizer, "data.adapt", place, kept)
        return path, {"of": config.data.adapt, "transductive": config.data.transductive, **plain(facts)}

    def weights(
        self,
        config: DictConfig,
        name: str,
        texts: Sequence[str],
        tokenizer: Tokenizer,
        option: str,
        place: Path | None,
        kept: Sequence[Path] = (),
    ) -> tuple[Path, Facts]:
        """Weights adapted to texts, computed where they are not kept yet.

        Args:
            config: composed, with `model`, `trainer` and `cache_dir`.
            name: of the model.
            texts: in any order, duplicates among them.
            tokenizer: of the model.
            option: what named the texts, for messages.
            place: a folder to write; `None` for none.
            kept: other folders that may have them.

        Returns:
            `place`, or a file of the cache; and what is known of the weights.
        """
        texts = sorted(set(texts))
        if len(texts) < FEWEST:
            raise OptionError(option, f"at least {FEWEST} different texts to learn from", len(texts))
        with option_group("model"):
            path = locate_weights(config.model.weights, config.model.hub, config.model.revision)
            assert path is not None, "random weights were refused"
            sizes: GPTConfig = replace(instantiate(config.model.backbone), causal=True)  # as it was pretrained
        precision = resolve_precision(config.trainer.precision, config.trainer.accelerator, sizes.n_embd)
        schedule = Schedule(self.passes, self.patience, self.batch_tokens, self._rate(name), self.seed)
        key = _hash(
            {
                "format": FORMAT,
                "weights": content_hash(path, cache_folder() / "weights.json"),
                "sizes": asdict(sizes),
                "tokenizer": tokenizer.state(),
                "texts": texts,
                "val_fraction": self.val_fraction,
                "schedule": asdict(schedule),
                "precision": precision,
            }
        )
        root = Path(config.cache_dir).expanduser() / "adapted"
        file = root / key[:32] / FILE
        with alone(root, key[:32], "adapt    another process computes the weights in %s: waiting for them"):
            known = next((found for found in (file, *(folder / FILE for folder in kept)) if facts_of(found, key)), None)
            if known is None:
                learned = self._learn(sizes, path, texts, tokenizer, schedule, config.trainer.accelerator, precision)
                save_weights(file, learned[0], replace(learned[1], key=key))
            file = known or file
            facts = facts_of(file, key)
            assert facts is not None
            log.info("adapted  %s%s", facts.told(), f" (kept in {file.parent})" if known else "")
            with suppress(OSError):  # another user's
                os.utime(file)  # used last
            if place is None:
                return file, facts
            state = tokenizer.state()
            ranks = state["ranks"] if state["kind"] == "tiktoken" and config.model.tokenizer != "gpt2" else None
            write_folder(place, file, sizes, ranks, f"{name}, weights {config.model.weights}", facts)
        return place, facts

    def _rate(self, name: str) -> float:
        return float(self.rates.get(name, self.rates["default"]) if self.lr == AUTO else self.lr)

    def _learn(
        self,
        sizes: GPTConfig,
        path: Path,
        texts: Sequence[str],
        tokenizer: Tokenizer,
        schedule: Schedule,
        accelerator: str,
        precision: str,
    ) -> tuple[Mapping[str, Any], Facts]:
        with option_group("model"):
            model, _ = load_backbone(sizes, path)
        hold_trained(model)
        before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        held_out = hold_out(texts, self.val_fraction, self.seed)
        rows = tokenizer.encode(texts, WHOLE, "head")[0]
        parts = [[row for row, out in zip(rows, held_out, strict=True) if out == wanted] for wanted in (False, True)]
        learned = learn(model, parts[0], parts[1], tokenizer.pad_id, schedule, accelerator, precision)
        facts = Facts("", len(parts[0]), len(parts[1]), learned.before, learned.after, learned.passes)
        return learned.state or before, facts


def texts_of(data: MessageDataModule, which: str, transductive: bool) -> list[str]:
    """The texts that a run may learn from without labels.

    Args:
        data: prepared.
        which: `train` for those of the training split; `all_unlabelled` for all of the source that are not in
            validation or test: what balancing or `train_size` left out, and rows without a label. What belongs to a
            group of validation or test, or is as new as they are, stays out.
        transductive: those of validation and test, too. Otherwise nothing that is equal to one of these but for case,
            digits and punctuation.
    """
    assert data.frame is not None, "data is prepared"
    tested = data.frame[data.frame["split"] != "train"]
    texts = data.frame.loc[data.frame["split"] == "train", "text"].tolist()
    if which == "all_unlabelled":
        left = data.found[data.found["split"].isna()]
        if "group" in left:
            left = left[~left["group"].isin(tested["group"])]
        if "time" in left and len(tested):
            left = left[left["time"] < tested["time"].min()]
        texts += [*left["text"], *data.unlabelled]
    if transductive:
        return [*texts, *tested["text"]]
    kept_apart = set(tested["text"].map(fold))
    return [text for text in texts if fold(text) not in kept_apart]


def hold_out(texts: Sequence[str], fraction: float, seed: int) -> list[bool]:
    """Which texts are held out; near-duplicates are on one side.

    Args:
        texts: at least two that are no near-duplicates, or all are learned from and held out.
        fraction: of them.
        seed: of the choice.
    """
    keys = [fold(text) for text in texts]
    different = sorted(set(keys))
    chosen = np.random.default_rng(seed).permutation(len(different))[: max(1, round(fraction * len(different)))]
    held_out = {different[i] for i in chosen}
    return [key in held_out for key in keys]


def adapt(cfg: DictConfig, context: RunContext) -> float:
    """Adapt a pretrained GPT to the texts of files.

    Args:
        cfg: what `conf/adapt.yaml` composes.
        context: where it takes place; it needs a folder.

    Returns:
        The loss of held-out texts in nats per token, which sweeps compare.

    Raises:
        UserError: something that a user can fix.
    """
    assert context.folder is not None, "adapting leaves a folder of weights"
    with quiet(), ended_in_order():
        check_types(cfg)
        expect_adaptable(cfg.model, "model")
        if not cfg.model.causal:
            raise UserError("model.causal: adapting predicts from earlier tokens alone. Leave it true.")
        with option_group("adaptation"):
            settings: Adaptation = instantiate(cfg.adaptation)
        seed_everything(settings.seed, verbose=False)
        with option_group("data"):
            options: Any = OmegaConf.to_container(cfg.data, resolve=True)
            texts = UnlabelledTexts(**options).read()
        model = cfg.model
        with option_group("model"):
            tokenizer = tokenizer_of(model.tokenizer, model.weights, model.hub, model.revision)
            expect_vocabulary(tokenizer, model.tokenizer, model.backbone.vocab_size, model.weights)
        write_text(context.folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        name = context.choices.get("model", "")
        place, facts = settings.weights(cfg, name, texts, tokenizer, "data.path", context.folder / "model")
        log.info("weights and card are in %s", place)
    return facts.after


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
