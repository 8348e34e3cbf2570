"""The classifier of a session is the linear probe that fine-tuning begins from, on activations kept in memory."""

import numpy as np
import pytest
import torch

from gpt_classifier import TextClassifier
from gpt_classifier.activations.memory_cache import STORE, clear_memory_cache
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.labelling.features import Stopped, compute_features
from gpt_classifier.labelling.linear import LinearModel, fit_linear, standardised
from gpt_classifier.models.letters import letters_of

TEXTS = [
    "WINNER!! Call now to claim your prize",
    "See you at five",
    "a",
    "Urgent: cash cash cash, call 0800 now",
    "Mum says that lunch is at home, and that the train is late, so wait there",
    "prize prize prize",
]
PARAMS = TextClassifier(device="cpu", precision="32-true").get_params()


def test_probabilities_are_those_of_a_classifier_with_the_same_head() -> None:
    features = compute_features(PARAMS, TEXTS)
    linear = fit_linear(features, [5, 1, 0], [1, 0, 1], ["ham", "spam"])
    fitted = TextClassifier(
        freeze="head_only", validation=0, epochs=1, device="cpu", precision="32-true", progress=False
    )
    predictor = fitted.fit(TEXTS[:2], ["spam", "ham"])._predictor
    assert isinstance(predictor, Predictor)
    model = predictor.model
    assert model.words is not None
    assert linear.fit.words is not None
    with torch.no_grad():
        rows = [predictor.token_rows([TEXTS[i]])[0] for i in (5, 1, 0)]
        model.words.idf.copy_(letters_of(predictor.tokenizer, model.backbone.vocab_size).weigh(rows)[0])
        model.words.weight.copy_(linear.fit.words)
        model.head.weight.copy_(linear.fit.weight)
        model.head.bias.copy_(linear.fit.bias)
    found = linear.probabilities(features)
    np.testing.assert_allclose(found, fitted.predict_proba(TEXTS), atol=1e-5)
    assert found.argmax(axis=1)[[5, 1, 0]].tolist() == [1, 0, 1]


def test_activations_are_computed_once_and_their_progress_is_told() -> None:
    clear_memory_cache()
    parts: list[float] = []
    compute_features(PARAMS, TEXTS, parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == 1
    held = STORE.nbytes
    assert held == len(TEXTS) * 192 * 4
    points = LinearModel(PARAMS, TEXTS, ["ham", "spam"]).prepare(lambda part: None, lambda: False)
    assert STORE.nbytes == held
    assert np.mean((points**2).sum(axis=1)) == pytest.approx(1, abs=1e-3)


def test_computing_activations_can_be_given_up() -> None:
    with pytest.raises(Stopped):
        compute_features(PARAMS, TEXTS, stopped=lambda: True)


def test_feature_that_is_the_same_in_all_texts_says_nothing() -> None:
    found = standardised(np.array([[1.0, 7.0], [3.0, 7.0]], dtype=np.float32))
    np.testing.assert_allclose(found[:, 1], 0)
