"""Predictions at every padded length, against messages that are really padded to it."""

import numpy as np
import torch

from gpt_classifier.book.padding import study_padding
from gpt_classifier.data.batching import pad
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import POOLINGS


def test_study_gives_the_labels_of_rows_that_are_padded_so_far() -> None:
    config = GPTConfig(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    torch.manual_seed(1)  # whose labels depend on the padding
    model = Classifier(GPT(config), POOLINGS["padded_last_token"](), num_outputs=2).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    random = np.random.default_rng(0)
    rows = [random.integers(0, 29, n, dtype=np.int32) for n in random.integers(1, 13, 50)]
    labels = torch.from_numpy(random.integers(0, 2, 50))
    study = study_padding(model, rows, labels, longest=14, pad_id=29)

    with torch.no_grad():
        for T in range(1, 15):
            one_by_one = [model(*pad([row], max(T, len(row)), 29)).argmax().item() for row in rows]
            assert study.predicted[:, T - 1].tolist() == one_by_one
    alone, padded = study.predicted[:, 0], study.predicted[:, 13]
    assert study.changed()[0] == 0
    assert study.changed()[13] == int((alone != padded).sum())
    assert study.accuracy()[13] == (padded == labels).float().mean().item()
    assert study.unstable() >= max(study.changed())
    assert study.unstable() > 0
