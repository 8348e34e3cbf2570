"""What else is said to help small sets, beside the recipe for own data, on validation alone.

python benchmarks/recipes.py --data clinc=DIR --sizes 1510 --seeds 1,2,3,4,5 --out benchmarks/results/recipes.jsonl

DIR has train.csv and val.csv with the columns text and label; no test text is read. A seed draws the training texts,
too. What is in the file already is not run again.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rows import add_row, read_rows, tables_of
from safetensors.torch import load_file, save_file
from splits import run
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gpt_classifier.assets import ASSETS
from gpt_classifier.device import prepare_process
from gpt_classifier.models.pooling import LastToken, Mean, Pooling
from gpt_classifier.tasks import SingleLabel

NANO = ASSETS / "gpt2-nano"


class Averaged(Callback):
    """Measures, and keeps, an average of the weights over steps in place of the weights.

    Args:
        decay: of an exponential average over all steps; `None` for the plain mean over the second half.
    """

    def __init__(self, decay: float | None = None) -> None:
        self.decay = decay
        self.begins = 0
        self.kept: list[Tensor] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights = nn.ParameterList(p for p in pl_module.parameters() if p.requires_grad)
        average = None if self.decay is None else get_ema_multi_avg_fn(self.decay)
        self.average = AveragedModel(self.weights, multi_avg_fn=average)
        self.begins = 0 if self.decay else int(trainer.estimated_stepping_batches) // 2

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step > self.begins:
            self.average.update_parameters(self.weights)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > self.begins:
            self.kept = [weight.detach().clone() for weight in self.weights]
            self.put(list(self.average.module.parameters()))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.kept is not None:
            self.put(self.kept)
            self.kept = None

    def put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, values, strict=True):
                weight.copy_(value)


class Smoothed(SingleLabel):
    """A tenth of each label is spread over all classes (Szegedy et al., 2016)."""

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)
        return losses.mean() if weights is None else (weights * losses).mean()


class LastAndMean(Pooling):
    """Half the last token, half the mean."""

    fixed = True

    def __init__(self) -> None:
        super().__init__()
        self.last, self.mean = LastToken(), Mean()

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        return (self.last(hidden, lengths) + self.mean(hidden, lengths)) / 2


def layerwise(parameters: Any, decay: float, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
    """AdamW whose rate falls by `decay` with each block below the last (Howard and Ruder, 2018)."""
    if not isinstance(parameters[0], dict):  # a trial with one weight
        return torch.optim.AdamW(parameters, lr=lr, **kwargs)
    blocks, head = parameters
    left = list(blocks["params"])  # in the order of their use: 2 embeddings, 12 tensors a block, a norm of 2
    groups: list[dict[str, Any]] = [head | {"lr": lr}, {"params": left[-14:], "lr": lr}]
    left = left[:-14]
    while left:
        groups.append({"params": left[-12:], "lr": groups[-1]["lr"] * decay})
        left = left[:-12]
    return torch.optim.AdamW(groups, lr=lr, **kwargs)


def forgetful(folder: Path) -> Path:
    """gpt2-nano whose last block has random weights, as GPT-2's were at first; the tokenizer stays."""
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        weights = load_file(NANO / "model.safetensors")
        last = max(int(name.split("h.")[1].split(".")[0]) for name in weights if "h." in name)
        generator = torch.Generator().manual_seed(0)
        for name, value in weights.items():
            if f"h.{last}." in name:
                drawn = torch.randn(value.shape, generator=generator) * 0.02
                fixed = torch.full(value.shape, float("ln_" in name and name.endswith("weight")))
                weights[name] = (drawn if value.dim() == 2 else fixed).to(value.dtype)
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_bytes((NANO / "config.json").read_bytes())
    return folder


AVERAGE = "+callbacks.a_average._target_=recipes.Averaged"
VARIANTS = {
    "as it is": [],
    "weights averaged exponentially, 0.99": [AVERAGE, "+callbacks.a_average.decay=0.99"],
    "weights averaged over the second half": [AVERAGE],
    "label smoothing 0.1": ["task._target_=recipes.Smoothed"],
    "twice the steps at a third of the rate": ["recipe.min_steps=2000", "recipe.most_epochs=20", "recipe.lr=1e-3"],
    "last token and mean": ["pooling._target_=recipes.LastAndMean"],
    "dropout 0.1": ["model.backbone.dropout=0.1"],
    "last block from random weights": ["model.weights=FORGETFUL"],
    "last two blocks": ["freeze=last_two_blocks"],
    "all blocks": ["freeze=none"],
    "all blocks, rate times 0.7 a block": [
        "freeze=none",
        "optimizer._target_=recipes.layerwise",
        "+optimizer.decay=0.7",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--sizes", default="1000", help="training texts")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--cache", default="outputs/cache/activations")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines, which is added to")
    options = parser.parse_args()
    prepare_process(training=True)
    weights = forgetful(options.out.parent / "forgetful")
    known = {(row["data"], row["size"], row["variant"], row["seed"]): row for row in read_rows(options.out)}
    for pair in options.data:
        data, _, folder = pair.partition("=")
        shared = tables_of(folder, "train", "val")
        for size in map(int, options.sizes.split(",")):
            for seed in map(int, options.seeds.split(",")):
                for variant, overrides in VARIANTS.items():
                    if (data, size, variant, seed) in known:
                        continue
                    given = [o.replace("FORGETFUL", str(weights)) for o in overrides]
                    drawn = [f"seed={seed}", f"data.subset_seed={seed}", f"data.train_size={size}"]
                    found = run([*shared, *drawn, *given], options.cache, "val")
                    row = {"data": data, "size": size, "variant": variant, "seed": seed, **found}
                    known[data, size, variant, seed] = row
                    add_row(options.out, row)
            for variant in VARIANTS:
                rows = [row for key, row in known.items() if key[:3] == (data, size, variant)]
                accuracy = [100 * row["val"]["accuracy"] for row in rows]
                ahead = [
                    value - 100 * known[data, size, "as it is", row["seed"]]["val"]["accuracy"]
                    for value, row in zip(accuracy, rows, strict=True)
                ]
                several = len(rows) > 1
                spread = f" ± {stdev(accuracy):.1f}" if several else ""
                error = f" ± {stdev(ahead) / len(ahead) ** 0.5:.1f}" if several else ""
                line = f"{data} {size} {variant:40} {mean(accuracy):.1f}{spread}, gains {mean(ahead):+.1f}{error}"
                print(f"{line}, {mean(row['seconds'] for row in rows):.0f} s", flush=True)


if __name__ == "__main__":
    main()
