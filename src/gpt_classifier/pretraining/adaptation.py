"""Learning from texts without labels before fine-tuning: `gpt-classifier adapt`, and `data.adapt` of a run.

Continued pretraining in the domain of the task (Gururangan et al., 2020, "Don't Stop Pretraining").
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gpt_classifier.activations.cache_folder import lock
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

FORMAT = 2  # of keys; a change makes older adapted weights unused
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
        patience: passes without a better measurement after which it stops.
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
        origin = self.origin(config, name, texts, data.tokenizer, "data.adapt")
        path, facts = origin.adapted(Path(config.cache_dir), place, kept)
        return path, {"of": config.data.adapt, "transductive": config.data.transductive, **plain(facts)}

    def origin(
        self, config: DictConfig, name: str, texts: Sequence[str], tokenizer: Tokenizer, option: str
    ) -> "Origin":
        """What adapted weights are to be made from.

        Args:
            config: composed, with `model` and `trainer`.
            name: of the model.
            texts: in any order, duplicates among them.
            tokenizer: of the model.
            option: what named the texts, for messages.

        Raises:
            UserError: the model has no weights, or there are too few texts.
        """
        texts = sorted(set(texts))
        different = len({fold(text) for text in texts})
        if different < FEWEST:
            raise OptionError(option, f"at least {FEWEST} different texts to learn from", different)
        model, trainer = config.model, config.trainer
        with option_group("model"):
            path = locate_weights(model.weights, model.hub, model.revision)
            assert path is not None, "random weights were refused"
            sizes: GPTConfig = replace(instantiate(model.backbone), causal=True)  # as it was pretrained
        rate = float(self.rates.get(name, self.rates["default"]) if self.lr == AUTO else self.lr)
        return Origin(
            f"{name}, weights {model.weights}",
            path,
            sizes,
            tokenizer,
            model.tokenizer != "gpt2",
            texts,
            self.val_fraction,
            Schedule(self.passes, self.patience, self.batch_tokens, rate, self.seed),
            trainer.accelerator,
            resolve_precision(trainer.precision, trainer.accelerator, sizes.n_embd),
        )


@dataclass(frozen=True)
class Origin:
    """What adapted weights are made from.

    Args:
        name: of the model and its weights, in words.
        path: of the weights.
        sizes: of the model.
        tokenizer: of the model.
        own_vocabulary: whether that is another one than GPT-2's.
        texts: sorted, no two equal.
        val_fraction: part of them that is held out.
        schedule: how they are learned.
        accelerator: Lightning's name of one.
        precision: Lightning's name of one, not `auto`.
    """

    name: str
    path: Path
    sizes: GPTConfig
    tokenizer: Tokenizer
    own_vocabulary: bool
    texts: Sequence[str]
    val_fraction: float
    schedule: Schedule
    accelerator: str
    precision: str

    def adapted(self, cache: Path, place: Path | None, kept: Sequence[Path] = ()) -> tuple[Path, Facts]:
        """Adapted weights, computed where they are not kept yet.

        Args:
            cache: a directory, in which `adapted` has those of earlier runs.
            place: a folder to write; `None` for none.
            kept: other folders that may have them.

        Returns:
            `place`, or a file of the cache; and what is known of the weights.
        """
        key, root = self.key(), cache.expanduser() / "adapted"
        file = root / key[:32] / FILE
        with ExitStack() as stack:
            while not lock(root, key[:32], stack):
                log.info("adapt    another process computes the weights in %s: waiting for them", file.parent)
            known = next((found for found in (file, *(folder / FILE for folder in kept)) if facts_of(found, key)), None)
            if known is None:
                save_weights(file, *self._learn(key))
            file = known or file
            facts = facts_of(file, key)
            assert facts is not None
            log.info("adapted  %s%s", facts.told(), f" (kept in {file.parent})" if known else "")
            with suppress(OSError):  # another user's
                os.utime(file)  # used last
            if place is None:
                return file, facts
            state = self.tokenizer.state()
            ranks = state["ranks"] if self.own_vocabulary and state["kind"] == "tiktoken" else None
            write_folder(place, file, self.sizes, ranks, self.name, facts)
        return place, facts

    def key(self) -> str:
        """A hash of everything that the weights depend on."""
        values = {
            "format": FORMAT,
            "weights": content_hash(self.path, cache_folder() / "weights.json"),
            "sizes": asdict(self.sizes),
            "tokenizer": self.tokenizer.state(),
            "texts": self.texts,
            "val_fraction": self.val_fraction,
            "schedule": asdict(self.schedule),
            "precision": self.precision,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _learn(self, key: str) -> tuple[Mapping[str, Tensor], Facts]:
        with option_group("model"):
            model, _ = load_backbone(self.sizes, self.path)
        hold_trained(model)
        held_out = hold_out(self.texts, self.val_fraction, self.schedule.seed)
        rows = self.tokenizer.encode(self.texts, WHOLE, "head")[0]
        train, val = ([row for row, out in zip(rows, held_out, strict=True) if out is part] for part in (False, True))
        learned = learn(model, train, val, self.tokenizer.pad_id, self.schedule, self.accelerator, self.precision)
        state = learned.state or load_backbone(self.sizes, self.path)[0].state_dict()
        return state, Facts(key, len(train), len(val), learned.before, learned.after, learned.passes)


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
        texts: of which at least two are no near-duplicates of each other.
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
        origin = settings.origin(cfg, name, texts, tokenizer, "data.path")
        place, facts = origin.adapted(Path(cfg.cache_dir), context.folder / "model")
        log.info("weights and card are in %s", place)
    return facts.after
