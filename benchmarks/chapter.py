"""Contender a: the procedure of the book's chapter 6, as a reference.

Float32; every message padded to 120 tokens; all positions through all blocks and the head, read at position -1;
loss and accuracy on 5 batches of training and validation set every 50 steps and after each epoch; at the end the
accuracy on all three sets. The backbone is this project's, with fused attention, so that only the procedure differs:
the book's own attention is slower.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from messages import BATCH_SIZE, PADDED, chapters_split, many_messages
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gpt_classifier.data.batching import pad
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.weights import load_backbone


class ChapterModel(nn.Module):
    def __init__(self, backbone: GPT) -> None:
        super().__init__()
        self.backbone = backbone
        self.requires_grad_(False)
        self.out_head = nn.Linear(backbone.config.n_embd, 2)
        for module in (backbone.h[-1], backbone.ln_f):
            module.requires_grad_(True)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out_head(self.backbone.hidden(ids))[:, -1]  # (B, 2), of (B, T, 2)


@torch.no_grad()
def evaluate(model: ChapterModel, loader: DataLoader, batches: int | None = None) -> tuple[float, float]:
    model.eval()
    loss, correct, seen = 0.0, 0, 0
    for i, (ids, labels) in enumerate(loader):
        if i == batches:
            break
        logits = model(ids)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(dim=-1) == labels).sum())
        seen += len(labels)
    model.train()
    return loss / seen, correct / seen


def train(weights: str, sms_file: str, epochs: int) -> dict:
    torch.manual_seed(123)
    data = chapters_split(sms_file)
    loaders = {}
    for name, dataset in data.datasets.items():
        ids, _ = pad(dataset.rows, PADDED, dataset.pad_id)
        training = name == "train"
        loaders[name] = DataLoader(
            TensorDataset(ids, dataset.labels), batch_size=BATCH_SIZE, shuffle=training, drop_last=training
        )
    backbone, _ = load_backbone(GPTConfig(), Path(weights))
    for parameter in backbone.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    model = ChapterModel(backbone).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.1)
    began, step = time.perf_counter(), 0
    for _ in range(epochs):
        for ids, labels in loaders["train"]:
            optimizer.zero_grad()
            F.cross_entropy(model(ids), labels).backward()
            optimizer.step()
            if step % 50 == 0:
                for name in ("train", "val"):
                    evaluate(model, loaders[name], batches=5)
            step += 1
        for name in ("train", "val"):
            evaluate(model, loaders[name], batches=5)
    epoch_seconds = (time.perf_counter() - began) / epochs
    accuracy = {name: evaluate(model, loader)[1] for name, loader in loaders.items()}
    return {"epoch_seconds": epoch_seconds, "accuracy": accuracy}


@torch.no_grad()
def predict(weights: str, sms_file: str, n: int, batch_size: int) -> dict:
    backbone, _ = load_backbone(GPTConfig(), Path(weights))
    model = ChapterModel(backbone).eval()
    rows = [row[:PADDED] for row in many_messages(sms_file, n)]
    model(pad(rows[:1], PADDED, 50256)[0])
    began = time.perf_counter()
    for start in range(0, n, batch_size):
        model(pad(rows[start : start + batch_size], PADDED, 50256)[0]).argmax(dim=-1)
    return {"messages_per_second": n / (time.perf_counter() - began)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sms", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--predict", type=int, help="predict that many messages instead of training")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    options = parser.parse_args()
    if options.predict:
        print(json.dumps(predict(options.weights, options.sms, options.predict, options.batch_size)))
    else:
        print(json.dumps(train(options.weights, options.sms, options.epochs)))
