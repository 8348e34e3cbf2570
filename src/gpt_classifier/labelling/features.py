"""What a linear classifier reads of each text: pooled activations of the frozen model, and its distinct tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt_classifier.data.sources import Texts
from gpt_classifier.errors import UserError
from gpt_classifier.inference.fitting import configure
from gpt_classifier.models.letters import TokenLetters, letters_of
from gpt_classifier.models.linear_probe import Bags
from gpt_classifier.quiet import quiet
from gpt_classifier.training.build import build_module, build_pooling, build_trainer, load_data
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.recipe import settle

AT_ONCE = 20_000  # tokens between two reports of progress: a second or so of gpt2-nano


class Stopped(Exception):
    """Whoever waited for features does not want them any more."""


@dataclass(frozen=True)
class Features:
    """Of N texts.

    Args:
        pooled: `(N, D)` float32, after all blocks.
        ids: `(M,)` int64, the distinct tokens of each text, one text after the other.
        starts: `(N,)` int64, where each text begins in them.
        ngrams: of all V tokens.
    """

    pooled: Tensor
    ids: Tensor
    starts: Tensor
    ngrams: TokenLetters

    def weigh(self, texts: np.ndarray) -> tuple[Tensor, Bags]:
        """How much each token says by some of the texts, and by which n-grams, as `TokenLetters.weigh`."""
        ids, starts = self.ids.numpy(), self.starts.tolist()
        ends = [*starts[1:], len(ids)]
        return self.ngrams.weigh(ids[starts[text] : ends[text]] for text in texts.tolist())

    def bags(self, idf: Tensor) -> Bags:
        """What tokens say of all texts, of Euclidean length 1 each, as `BagOfTokens.values`."""
        bags = Bags(self.ids, idf[self.ids], self.starts)
        owners = bags.owners()
        norms = torch.zeros(len(self.starts)).index_add_(0, owners, bags.values.square()).sqrt().clamp_min(1e-12)
        return bags._replace(values=bags.values / norms[owners])


def compute_features(
    params: Mapping[str, Any],
    texts: Sequence[str],
    progress: Callable[[float], None] = lambda part: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Features:
    """Pass all texts through a frozen model, once: activations stay in memory for later fits of this process.

    Args:
        params: those of `TextClassifier`; what it would train is not looked at.
        texts: N of them, at least two, none empty.
        progress: is told which part is done, from 0 to 1.
        stopped: asked now and then whether to give up.

    Raises:
        UserError: a parameter that does not fit, or a model whose activations can't be kept.
        Stopped: when `stopped` says so.
    """
    config = configure({**params, "freeze": "head_only", "validation": 0, "progress": False})
    context = RunContext(
        folder=None, choices={"model": params["model"], "freeze": "head_only"}, source=None, progress=False
    )
    with quiet(all_of_it=True):
        pooling = build_pooling(config)
        # labels are not looked at either; there must be two
        data = load_data(config, Texts(texts, [str(place % 2) for place in range(len(texts))]), pooling)
        config = settle(config, context, data)
        trainer = build_trainer(config, context, validate=False)
        module = build_module(config, trainer, data, pooling)
    prefix, model = module.prefix, module.model.eval()
    if prefix is None or prefix.key.depth != model.pooled_depth:
        raise UserError(f"--model: the activations of {params['model']} can't be kept, as labelling needs them.")
    assert data.frame is not None
    shuffled = data.frame["row"].to_numpy()
    rows = [np.empty(0, dtype=np.int32)] * len(texts)
    for place, row in zip(shuffled, data.datasets["train"].rows, strict=True):
        rows[place] = row
    total, done = sum(map(len, rows)), 0
    with trainer.precision_plugin.forward_context():
        for part in _parts(rows):
            if stopped():
                raise Stopped
            prefix.fill({"texts": part}, model, data.pad_id)
            done += sum(map(len, part))
            progress(done / total)
        prefix.fill({"texts": rows}, model, data.pad_id)
    distinct = [np.unique(row) for row in rows]
    counts = torch.tensor([len(ids) for ids in distinct])
    return Features(
        prefix.unpack(prefix.gather("texts", range(len(rows)))),
        torch.from_numpy(np.concatenate(distinct).astype(np.int64)),
        counts.cumsum(dim=0) - counts,
        letters_of(data.tokenizer, model.backbone.vocab_size),
    )


def _parts(rows: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Rows sorted by length, in parts of about `AT_ONCE` tokens."""
    parts: list[list[np.ndarray]] = [[]]
    tokens = 0
    for row in sorted(rows, key=len):
        if parts[-1] and tokens + len(row) > AT_ONCE:
            parts.append([])
            tokens = 0
        parts[-1].append(row)
        tokens += len(row)
    return parts
