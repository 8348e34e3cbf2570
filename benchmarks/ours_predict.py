"""Prediction by this project: a classifier on the given weights, over many messages, or one at a time."""

import argparse
import json
import time
from pathlib import Path

import torch
from messages import many_messages

from gpt_classifier.artifact import Spec, pooling_state
from gpt_classifier.device import best_device, prepare_process
from gpt_classifier.families import load_classifier
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.models.gpt import GPTConfig
from gpt_classifier.models.pooling import LastToken
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sms", required=True)
    parser.add_argument("--predict", type=int, required=True)
    parser.add_argument("--one-at-a-time", action="store_true")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    prepare_process()
    model = load_classifier(GPTConfig(), Path(options.weights), LastToken(), num_outputs=2)
    tokenizer = load_tokenizer("gpt2")
    spec = Spec(
        backbone=model.backbone.state(),
        pooling=pooling_state(model.pooling),
        tokenizer=tokenizer.state(),
        task=SingleLabel(["ham", "spam"]).state(),
        max_length=1024,
        pad_to="batch",
        truncate="head",
    )
    classifier = Predictor(model.to(best_device()), spec, options.precision)
    texts = ["".join(tokenizer.pieces(row)) for row in many_messages(options.sms, options.predict)]
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
