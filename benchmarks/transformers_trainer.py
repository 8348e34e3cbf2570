"""Contenders b and c: transformers' Trainer with GPT2ForSequenceClassification.

b as most people would run it: float32, each batch padded to its longest message. c at its best on this machine: bf16,
messages grouped by length in training, sorted by length in evaluation, evaluation batches of 64. Both train the last
block, the final LayerNorm and the head, evaluate after each epoch, and measure all three sets at the end.
"""

import argparse
import json
import tempfile
import time

import numpy as np
import torch
from messages import BATCH_SIZE, chapters_split, many_messages
from transformers import GPT2ForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

PAD_ID = 50256


def collate(features: list[dict]) -> dict[str, torch.Tensor]:
    T = max(len(feature["input_ids"]) for feature in features)
    ids = torch.full((len(features), T), PAD_ID)
    mask = torch.zeros(len(features), T, dtype=torch.long)
    for i, feature in enumerate(features):
        n = len(feature["input_ids"])
        ids[i, :n] = torch.tensor(feature["input_ids"])
        mask[i, :n] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if "labels" in features[0]:
        batch["labels"] = torch.tensor([feature["labels"] for feature in features])
    return batch


def model_of(weights: str) -> GPT2ForSequenceClassification:
    model = GPT2ForSequenceClassification.from_pretrained(weights, num_labels=2)
    model.config.pad_token_id = PAD_ID
    model.requires_grad_(False)
    for module in (model.transformer.h[-1], model.transformer.ln_f, model.score):
        module.requires_grad_(True)
    return model


def arguments(best: bool, epochs: int, folder: str) -> TrainingArguments:
    at_its_best = {
        "bf16": True,
        "bf16_full_eval": False,
        "train_sampling_strategy": "group_by_length",
        "per_device_eval_batch_size": 64,
    }
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=5e-5,
        weight_decay=0.1,
        lr_scheduler_type="constant",
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_drop_last=False,
        use_cpu=not torch.cuda.is_available(),
        seed=123,
        **(at_its_best if best else {"per_device_eval_batch_size": BATCH_SIZE}),
    )


def accuracy(prediction: object) -> dict[str, float]:
    return {"accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}  # type: ignore[attr-defined]


class EpochTimer(TrainerCallback):
    def __init__(self) -> None:
        self.began = 0.0
        self.seconds: list[float] = []

    def on_epoch_begin(self, *_: object, **__: object) -> None:
        self.began = time.perf_counter()

    def on_evaluate(self, *_: object, **__: object) -> None:  # evaluation follows each epoch
        self.seconds.append(time.perf_counter() - self.began)


def train(weights: str, sms_file: str, epochs: int, best: bool) -> dict:
    data = chapters_split(sms_file)
    sets = {}
    for name, dataset in data.datasets.items():
        pairs = zip(dataset.rows, dataset.labels.tolist(), strict=True)
        sets[name] = [{"input_ids": row.tolist(), "labels": label} for row, label in pairs]
        if best and name != "train":
            sets[name].sort(key=lambda feature: len(feature["input_ids"]))
    with tempfile.TemporaryDirectory() as folder:
        timer = EpochTimer()
        trainer = Trainer(
            model_of(weights),
            arguments(best, epochs, folder),
            data_collator=collate,
            train_dataset=sets["train"],
            eval_dataset=sets["val"],
            compute_metrics=accuracy,
            callbacks=[timer],
        )
        trainer.train()
        epoch_seconds = float(np.mean(timer.seconds))
        final = {name: trainer.evaluate(dataset)["eval_accuracy"] for name, dataset in sets.items()}
    return {"epoch_seconds": epoch_seconds, "accuracy": final}


def predict(weights: str, sms_file: str, n: int, best: bool) -> dict:
    rows = [{"input_ids": row.tolist()} for row in many_messages(sms_file, n)]
    if best:
        rows.sort(key=lambda row: len(row["input_ids"]))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model_of(weights), arguments(best, 1, folder), data_collator=collate, eval_dataset=rows[:8])
        trainer.predict(rows[:8])
        began = time.perf_counter()
        trainer.predict(rows)
        return {"messages_per_second": n / (time.perf_counter() - began)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sms", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--best", action="store_true", help="contender c")
    parser.add_argument("--predict", type=int, help="predict that many messages instead of training")
    options = parser.parse_args()
    if options.predict:
        print(json.dumps(predict(options.weights, options.sms, options.predict, options.best)))
    else:
        print(json.dumps(train(options.weights, options.sms, options.epochs, options.best)))
