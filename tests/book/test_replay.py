"""The chapter's procedure against a plain loop in torch: the same weights give the same losses."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import Run, save_as_released
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gpt_classifier.errors import UserError
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.weights import load_backbone
from gpt_classifier.tokenizers.byte_level import load_encoding

CONFIG = GPTConfig(vocab_size=8192, n_positions=160, n_embd=32, n_layer=3, n_head=2)
RATE, EVERY = 5e-3, 20
CHAPTER = [
    "experiment=book/chapter",
    "model=gpt2-nano",
    "data=sample_sms",
    "trainer=cpu",
    "trainer.max_epochs=2",
    f"optimizer.lr={RATE}",
    f"procedure.eval_freq={EVERY}",
    *(f"model.backbone.{key}={getattr(CONFIG, key)}" for key in ("n_positions", "n_embd", "n_layer", "n_head")),
]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    backbone = GPT(CONFIG).initialise()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)  # large enough for losses to move
    return save_as_released(backbone, tmp_path / "weights")


def lines_of(text: str) -> list[str]:
    return re.findall(r"Ep \d+ \(Step.*|\w+ accuracy: \d.*", text)


class Reference:
    """The chapter's loop over whole padded rows and all positions, without any cache."""

    def __init__(self, run: Run, weights: Path) -> None:
        encoding = load_encoding("gpt2-nano")
        rows = {split: [encoding.encode(text) for text in run.texts(split)] for split in ("train", "val", "test")}
        longest = max(map(len, rows["train"]))

        def dataset(split: str) -> TensorDataset:
            padded = [(row[:longest] + [encoding.eot_token] * longest)[:longest] for row in rows[split]]
            labels = [["ham", "spam"].index(label) for label in run.labels(split)]
            return TensorDataset(torch.tensor(padded), torch.tensor(labels))

        torch.manual_seed(123)
        self.loaders = {
            "train": DataLoader(dataset("train"), batch_size=8, shuffle=True, drop_last=True),
            "val": DataLoader(dataset("val"), batch_size=8),
            "test": DataLoader(dataset("test"), batch_size=8),
        }
        backbone, _ = load_backbone(CONFIG, weights)
        for parameter in backbone.parameters():
            parameter.data = parameter.data.clone()
            parameter.requires_grad = False
        torch.manual_seed(123)
        self.model = nn.ModuleList([backbone, nn.Linear(CONFIG.n_embd, 2)])
        for part in (backbone.h[-1], backbone.ln_f):
            part.requires_grad_(True)

    def logits(self, ids: Tensor) -> Tensor:
        backbone, head = self.model
        return head(backbone.hidden(ids))[:, -1]

    def first(self, split: str, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i, batch in enumerate(self.loaders[split]):
            if i == number:
                break
            yield batch

    @torch.no_grad()
    def loss(self, split: str) -> float:
        losses = [F.cross_entropy(self.logits(ids), labels).item() for ids, labels in self.first(split, 5)]
        return sum(losses) / len(losses)

    @torch.no_grad()
    def accuracy(self, split: str, number: int) -> float:
        right = [self.logits(ids).argmax(dim=-1) == labels for ids, labels in self.first(split, number)]
        return torch.cat(right).float().mean().item()

    def train(self, epochs: int) -> tuple[list[str], list[float]]:
        """The lines that the chapter prints, and the losses among them."""
        torch.manual_seed(123)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.1)
        lines, losses, step = [], [], -1
        for epoch in range(epochs):
            for ids, labels in self.loaders["train"]:
                optimizer.zero_grad()
                F.cross_entropy(self.logits(ids), labels).backward()
                optimizer.step()
                step += 1
                if step % EVERY == 0:
                    train, val = self.loss("train"), self.loss("val")
                    losses += [train, val]
                    lines.append(f"Ep {epoch + 1} (Step {step:06d}): Train loss {train:.3f}, Val loss {val:.3f}")
            train, val = self.accuracy("train", 5), self.accuracy("val", 5)
            lines.append(f"Training accuracy: {100 * train:.2f}% | Validation accuracy: {100 * val:.2f}%")
        for split, name in (("train", "Training"), ("val", "Validation"), ("test", "Test")):
            lines.append(f"{name} accuracy: {100 * self.accuracy(split, 10_000):.2f}%")
        return lines, losses


@pytest.mark.parametrize("overrides", [[], ["cache.enabled=false"]])
def test_replay_prints_the_losses_of_the_chapters_own_loop(
    train: Callable[..., Run], weights: Path, capsys: pytest.CaptureFixture, overrides: list[str]
) -> None:
    run = train(f"model.weights={weights}", *overrides, base=CHAPTER)
    printed = capsys.readouterr().out
    lines, losses = Reference(run, weights).train(epochs=2)
    evaluations = run.metrics["evaluations"]
    found = [row[key] for row in evaluations for key in ("train/running_loss", "val/loss")]
    assert len(found) > 4
    assert found == pytest.approx(losses, abs=2e-5)
    assert lines_of(printed) == lines
    assert "2.153 / 2.392" in printed
    assert max(losses) - min(losses) > 0.02  # something was learned, so that equal losses mean something


def test_replay_leaves_a_run_that_predicts(
    train: Callable[..., Run], weights: Path, capsys: pytest.CaptureFixture
) -> None:
    run = train(f"model.weights={weights}", base=CHAPTER)
    assert f"The weights of the last step are in {run.folder / 'checkpoints' / 'last.ckpt'}" in capsys.readouterr().out
    files = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert {"config.yaml", "loss.png", "accuracy.png", "splits/test.csv", "csv/metrics.csv"} <= files
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["last.ckpt"]  # no best epoch is chosen
    classifier = TextClassifier.from_checkpoint(run.folder / "checkpoints" / "last.ckpt", precision="32-true")
    predicted = classifier.predict(run.texts("test"))
    right = sum(a == b for a, b in zip(predicted, run.labels("test"), strict=True)) / len(predicted)
    assert right == pytest.approx(run.metrics["last"]["test"]["accuracy"])
    drawn = pd.read_csv(run.folder / "csv" / "metrics.csv")["last/test/accuracy"].dropna().tolist()
    assert drawn == [pytest.approx(right)]
    # an incomplete last batch of the training set is left out, as in the chapter
    n = len(run.texts("train"))
    assert run.metrics["last"]["train"]["messages"] == n - n % 8


def test_dropout_of_adapters_acts_only_on_training_steps(train: Callable[..., Run], weights: Path) -> None:
    run = train(f"model.weights={weights}", "freeze=lora", "freeze.dropout=0.5", base=CHAPTER)
    classifier = TextClassifier.from_checkpoint(run.folder / "checkpoints" / "last.ckpt", precision="32-true")
    accuracy = classifier.score(run.texts("val"), run.labels("val"))
    assert accuracy == pytest.approx(run.metrics["last"]["val"]["accuracy"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.precision=bf16-mixed", r"trainer\.precision: procedure=chapter needs 32-true"),
        ("scheduler=cosine", r"scheduler: procedure=chapter needs none"),
        ("model.dropout=0.1", r"model\.dropout"),
        ("ckpt_path=last.ckpt", "ckpt_path"),
        ("data.pad_to=batch", r"data\.pad_to"),
        ("procedure.eval_freq=0", r"procedure\.eval_freq"),
        ("+trainer.max_steps=3", r"trainer\.max_steps"),
        ("debug=fast_dev_run", r"trainer\.\w+: procedure=chapter needs none"),
        ("callbacks=early_stopping", r"callbacks\.early_stopping"),
    ],
)
def test_what_the_chapter_does_not_have_is_refused(
    train: Callable[..., Run], weights: Path, capsys: pytest.CaptureFixture, override: str, message: str
) -> None:
    with pytest.raises((SystemExit, UserError)):
        train(f"model.weights={weights}", override, base=CHAPTER)
    assert re.search(message, capsys.readouterr().err)
