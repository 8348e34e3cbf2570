"""Prediction by this project: a classifier on the given weights, over many messages, or one at a time."""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from messages import many_messages

from gpt_classifier.device import best_device
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.gpt import GPTConfig
from gpt_classifier.models.pooling import LastToken
from gpt_classifier.models.weights import load_classifier

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sms", required=True)
    parser.add_argument("--predict", type=int, required=True)
    parser.add_argument("--one-at-a-time", action="store_true")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    model = load_classifier(GPTConfig(), Path(options.weights), LastToken(), num_classes=2)
    spec = {
        "backbone": asdict(GPTConfig()),
        "tokenizer": "gpt2",
        "vocabulary": None,
        "temperature": 1.0,
        "class_names": ["ham", "spam"],
        "max_length": 1024,
        "pad_to": "batch",
        "truncate": "head",
        "note": "",
    }
    classifier = TextClassifier(model.requires_grad_(False).eval().to(best_device()), spec, options.precision)
    texts = [classifier.encoding.decode(row.tolist()) for row in many_messages(options.sms, options.predict)]
    classifier.predict(texts[:8])
    began = time.perf_counter()
    if options.one_at_a_time:
        for text in texts:
            classifier.predict([text])
    else:
        classifier.predict(texts)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    print(json.dumps({"messages_per_second": len(texts) / (time.perf_counter() - began)}))
