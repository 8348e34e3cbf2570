"""What is said of the last texts beside those of validation."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Run
from services import service

from gpt_classifier.evaluation.profile import Profile, Shares, stability_index, unknown_bytes
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.serving.drift import FEWEST, WINDOW, Drift
from gpt_classifier.spec import sha256_of

PROFILE = Profile("", 400, Shares([10.0, 20.0], [0.25, 0.5, 0.25]), Shares([0.9], [0.5, 0.5]), [0.5, 0.5], 0.0, "abc ")


def answer(tokens: list[int], spam: list[float]) -> Any:
    probabilities = np.array([[1 - one, one] for one in spam], dtype=np.float32)
    return SimpleNamespace(tokens=np.array(tokens), probabilities=probabilities)


def test_texts_like_those_of_validation_do_not_drift_and_others_do() -> None:
    alike, other = Drift(PROFILE), Drift(PROFILE)
    alike.add(["a"] * FEWEST, answer([5, 15, 15, 25] * 25, [0.95, 0.8, 0.05, 0.2] * 25))
    other.add(["é"] * FEWEST, answer([40] * FEWEST, [0.6] * FEWEST))
    assert all(value < 0.01 for value in alike.summary().values())
    assert all(value > 0.25 for value in other.summary().values())
    assert set(alike.summary()) == {"tokens", "confidence", "classes"}
    assert (alike.means()["unknown_bytes"], other.means()["unknown_bytes"]) == (0, 1)


def test_old_texts_are_forgotten_and_few_are_not_compared() -> None:
    drift = Drift(PROFILE)
    drift.add(["a"] * (FEWEST - 1), answer([40] * (FEWEST - 1), [0.6] * (FEWEST - 1)))
    assert drift.summary() == {}
    drift.add(["a"] * WINDOW, answer([5, 15, 15, 25] * (WINDOW // 4), [0.95, 0.8, 0.05, 0.2] * (WINDOW // 4)))
    assert all(value < 0.01 for value in drift.summary().values())


def test_without_a_profile_only_means_are_told() -> None:
    drift = Drift(None)
    assert drift.means() == {}
    drift.add(["a"] * FEWEST, answer([4] * FEWEST, [0.75] * FEWEST))
    assert drift.summary() == {}
    assert drift.means() == {"tokens": 4.0, "confidence": 0.75}


def test_stability_index_of_known_shares() -> None:
    assert stability_index([0.2, 0.8], [0.5, 0.5], 10**9) == pytest.approx(0.3 * np.log(2.5) + 0.3 * np.log(1.6))
    assert np.isfinite(stability_index([0.0, 1.0], [1.0, 0.0], 100))


def test_unknown_bytes_are_those_of_other_characters() -> None:
    assert unknown_bytes("aé €", frozenset("a ")) == (5, 7)


def test_profile_of_a_run_is_of_its_validation_messages_and_keeps_no_text(short_run: Run) -> None:
    checkpoint = short_run.folder / "checkpoints" / "best.ckpt"
    predictor, sha256 = Predictor.open(checkpoint, precision="32-true"), sha256_of(checkpoint)
    found = Profile.measure(predictor, checkpoint, sha256)
    assert found is not None
    texts = short_run.texts("val")
    assert found.messages == len(texts)
    predicted = predictor.predict(texts)
    assert found.classes == pytest.approx([(predicted == name).mean() for name in predictor.classes])
    assert sum(found.tokens.shares) == pytest.approx(1)
    found.write(checkpoint)
    assert Profile.read(checkpoint, sha256) == found
    assert Profile.read(checkpoint, "another") is None
    kept = (checkpoint.parent / "best.profile.json").read_text()
    assert not any(text in kept for text in texts)
    with service(checkpoint) as client:
        client.post("/predict", json={"texts": texts * (FEWEST // len(texts) + 1)})
        page = client.get("/metrics").text
    drift = {
        line.split()[0]: float(line.split()[1]) for line in page.splitlines() if line.startswith("gpt_classifier_drift")
    }
    assert len(drift) == 3
    assert all(value < 0.1 for value in drift.values())
    assert 'gpt_classifier_validation{of="unknown_bytes"}' in page
