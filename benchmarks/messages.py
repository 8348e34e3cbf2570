"""The same split, token ids and weights for every contender."""

from pathlib import Path

import numpy as np
import torch

from gpt_classifier.data.datamodule import MessageDataModule
from gpt_classifier.data.sources import SmsSpam
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer

SHA256 = "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"
BATCH_SIZE = 8
PADDED = 120  # the longest training message of the chapter's split, in tokens


def chapters_split(sms_file: str) -> MessageDataModule:
    """The chapter's three sets of the real messages."""
    data = MessageDataModule(
        SmsSpam(sms_file, "unused", [], SHA256, "minimal"),
        tokenizer=load_tokenizer("gpt2"),
        task=SingleLabel,
        context_length=1024,
        deduplicate="none",
        balance="undersample_all",
        val_fraction=0.1,
        test_fraction=0.2,
        split="random",
        split_seed=123,
        split_shuffles=1,
        train_size=None,
        subset_seed=123,
        batch_size=BATCH_SIZE,
        bucket_batches=1,
        pad_to="train",
        max_length=None,
        truncate="head",
        seed=123,
    )
    data.setup()
    return data


def random_weights(folder: Path, size: str = "gpt2") -> Path:
    """A folder as on the Hugging Face Hub, with random weights: time does not depend on their values."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shapes = {"gpt2": {}, "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16}}
    target = folder / f"{size}-random"
    if not (target / "model.safetensors").exists():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**shapes[size])).save_pretrained(target)
    return target


def many_messages(sms_file: str, n: int) -> list[np.ndarray]:
    """`n` token rows: the real messages over and over, with their real lengths."""
    frame = SmsSpam(sms_file, "unused", [], SHA256).load().frame
    rows, _ = load_tokenizer("gpt2").encode(frame["text"].tolist(), 1024, "head")
    return [rows[i % len(rows)] for i in range(n)]
