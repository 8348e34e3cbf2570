"""What the service answers, without a network."""

import asyncio
import json
import logging
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from exported import TEXTS, opened_gpt
from services import KEY, service, settings_for, state_of

from gpt_classifier import TextClassifier
from gpt_classifier.errors import OptionError
from gpt_classifier.serving.logs import JsonLines
from gpt_classifier.serving.served import Served
from gpt_classifier.serving.settings import Limits, Settings


def test_answer_is_that_of_predict_proba_to_the_last_place(tmp_path: Path) -> None:
    classifier = opened_gpt(tmp_path / "spam")
    with service(tmp_path / "spam") as client:
        said = client.post("/predict", json={"texts": TEXTS}).json()
    expected = classifier.predict_proba(TEXTS)
    assert [one["label"] for one in said["predictions"]] == classifier.predict(TEXTS).tolist()
    for one, row in zip(said["predictions"], expected.tolist(), strict=True):
        assert one["probabilities"] == dict(zip(classifier.classes_.tolist(), row, strict=True))
        assert one["confidence"] == max(row) == next(iter(one["probabilities"].values()))
    assert said["model"] == "spam"
    assert len(said["model_version"]) == 12


def test_one_text_is_answered_with_one_prediction_and_top_limits_the_classes(tmp_path: Path) -> None:
    with service(tmp_path / "spam") as client:
        one = client.post("/predict", json={"text": "See you at five", "top": 1}).json()
        several = client.post("/predict", json={"texts": ["See you at five"]}).json()
    assert "predictions" not in one
    assert "prediction" not in several
    assert list(one["prediction"]["probabilities"]) == [one["prediction"]["label"]]
    assert several["predictions"][0]["confidence"] == one["prediction"]["confidence"]


def test_long_text_says_that_it_was_truncated(tmp_path: Path) -> None:
    with service(tmp_path / "spam") as client:
        found = client.post("/predict", json={"texts": ["word " * 400, "word " * 3]}).json()["predictions"]
    assert [one["truncated"] for one in found] == [True, False]
    assert found[0]["tokens"] == 24


def test_requests_at_the_same_time_share_batches_and_get_their_own_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(tmp_path / "spam") as client:
        texts = [f"{'word ' * (i % 20)}number {i}" for i in range(60)]
        alone = [client.post("/predict", json={"text": text}).json()["prediction"] for text in texts]
        batches = []
        answer = Served.answer
        go_on = threading.Event()

        def slowly(self: Served, requests: list, most: int) -> list:
            batches.append(len(requests))
            go_on.wait(10)
            return answer(self, requests, most)

        monkeypatch.setattr(Served, "answer", slowly)
        with ThreadPoolExecutor(60) as clients:
            asked = [clients.submit(client.post, "/predict", json={"text": text}) for text in texts]
            batcher = state_of(client).batcher
            while batcher.waiting < 60:
                time.sleep(0.005)
            go_on.set()
            together = [one.result().json()["prediction"] for one in asked]
    for one, same in zip(together, alone, strict=True):
        assert one["probabilities"] == pytest.approx(same["probabilities"], abs=1e-5)  # its place among others
        assert one["label"] == same["label"]
    assert sum(batches) == 60
    assert max(batches) > 30


def test_wrong_requests_are_told_without_what_they_say(tmp_path: Path) -> None:
    bodies: list[tuple[bytes, int]] = [
        (b"", 422),
        (b"{", 422),
        (b"[" * 100_000, 422),
        (b"null", 422),
        (b'"secret"', 422),
        (b'{"text": 5}', 422),
        (b'{"texts": "secret"}', 422),
        (b'{"texts": []}', 422),
        (b'{"texts": ["a", null]}', 422),
        (b'{"texts": ["a", "  "]}', 422),
        (b'{"text": "secret \\ud800"}', 422),
        (b'{"text": "secret", "texts": ["b"]}', 422),
        (b'{"text": "secret", "top": 0}', 422),
        (b'{"text": "secret", "top": ' + b"9" * 5000 + b"}", 422),
        (b'{"text": "\xff secret"}', 422),
    ]
    with service(tmp_path / "spam") as client:
        for body, status in bodies:
            answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (status, 400), body[:40]
            assert set(answer.json()) == {"error", "request_id"}
            assert "secret" not in answer.text
        assert client.post("/predict", data={"text": "a"}).status_code == 422
        assert client.get("/predict").status_code == 405
        assert client.get("/nowhere").status_code == 404
        assert client.post("/predict", json={"text": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("limit", "body", "status", "told"),
    [
        ({"max_body": 50}, {"text": "a" * 60}, 413, "expected a body of at most 50 bytes"),
        ({"max_texts": 2}, {"texts": ["a"] * 3}, 422, "texts: expected 1 to 2 of them, but there are 3"),
        ({"max_characters": 5}, {"texts": ["abc", "def"]}, 422, "at most 5 characters in all, but they have 6"),
        ({"max_tokens": 3}, {"texts": ["a b", "c d"]}, 422, "at most 3 tokens in all, but they have 4"),
    ],
)
def test_limits_say_what_they_are(tmp_path: Path, limit: dict, body: dict, status: int, told: str) -> None:
    with service(tmp_path / "spam", **limit) as client:
        answer = client.post("/predict", json=body)
        assert answer.status_code == status
        assert told in answer.json()["error"]
        assert client.post("/predict", json={"text": "ab"}).status_code == 200


def test_body_without_a_length_is_limited_too(tmp_path: Path) -> None:
    with service(tmp_path / "spam", max_body=50) as client:
        answer = client.post("/predict", content=(b" " * 20 for _ in range(10)))
    assert answer.status_code == 413


def test_too_many_waiting_texts_and_too_long_a_wait_are_told_with_when_to_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    with service(tmp_path / "spam", max_waiting=2, max_texts=2, timeout=0.5) as client:
        answer = Served.answer
        monkeypatch.setattr(Served, "answer", lambda *args: go_on.wait(10) and answer(*args))
        with ThreadPoolExecutor(2) as clients:
            waits = clients.submit(client.post, "/predict", json={"texts": ["a", "b"]})
            while state_of(client).batcher.waiting < 2:
                time.sleep(0.005)
            refused = client.post("/predict", json={"text": "c"})
            late = waits.result()
        go_on.set()
        assert (refused.status_code, late.status_code) == (429, 503)
        assert int(refused.headers["Retry-After"]) >= 1
        assert int(late.headers["Retry-After"]) >= 1
        monkeypatch.setattr(Served, "answer", answer)
        assert client.post("/predict", json={"text": "c"}).status_code == 200


def test_text_that_the_classifier_refuses_holds_up_no_other_request(tmp_path: Path) -> None:
    opened_gpt(tmp_path / "strict", truncate="error")
    with service(tmp_path / "strict") as client:
        refused = client.post("/predict", json={"texts": ["ok", "word " * 400]})
        assert refused.status_code == 422
        assert "text 2 of 2: the text is too long: 4" in refused.json()["error"]
        settings = settings_for(tmp_path / "strict")
        answers = Served.open(settings.path, settings).answer([["word " * 400], ["ok"]], 1000)
    assert isinstance(answers[0], Exception)
    assert not isinstance(answers[1], Exception)


def test_key_opens_everything_but_health_and_the_page(tmp_path: Path) -> None:
    with service(tmp_path / "spam", api_key=KEY) as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": KEY},
            {"Authorization": b"Bearer \xff"},
        ):
            for path in ("/info", "/metrics", "/openapi.json"):
                assert client.get(path, headers=headers).status_code == 401
            assert client.post("/predict", json={"text": "a"}, headers=headers).status_code == 401
        right = {"Authorization": f"Bearer {KEY}"}
        assert client.post("/predict", json={"text": "a"}, headers=right).status_code == 200
        assert client.get("/metrics", headers=right).status_code == 200
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/docs").status_code == 200
    with pytest.raises(OptionError, match="at least 16 ASCII characters"):
        Settings("x", tmp_path, api_key="short")
    assert KEY not in repr(settings_for(tmp_path, api_key=KEY))


def test_page_asks_no_other_server(tmp_path: Path) -> None:
    with service(tmp_path / "spam") as client:
        page = client.get("/docs")
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    assert "connect-src 'self'" in page.headers["Content-Security-Policy"]


def test_request_has_an_id_which_the_client_may_choose(tmp_path: Path) -> None:
    with service(tmp_path / "spam") as client:
        chosen = client.post("/predict", json={"text": "a"}, headers={"X-Request-ID": "mine-1"})
        made = client.post("/predict", json={"text": 1}, headers={"X-Request-ID": "not one\x7f"})
    assert chosen.headers["X-Request-ID"] == chosen.json()["request_id"] == "mine-1"
    assert made.headers["X-Request-ID"] == made.json()["request_id"]
    assert len(made.json()["request_id"]) == 32


@pytest.mark.parametrize("log_texts", [False, True])
def test_log_is_json_and_has_texts_only_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, log_texts: bool
) -> None:
    caplog.set_level(logging.INFO, "gpt_classifier.serving")
    with service(tmp_path / "spam", log_texts=log_texts) as client:
        client.post("/predict", json={"texts": ["a secret\nof mine", "b"]}, headers={"X-Request-ID": "one"})
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    told = next(line for line in lines if line.get("request_id") == "one")
    assert (told["status"], told["texts"], told["characters"]) == (200, 2, 17)
    assert ("secret" in json.dumps(lines)) == log_texts


def test_metrics_count_requests_texts_and_classes(tmp_path: Path) -> None:
    with service(tmp_path / "spam") as client:
        label = client.post("/predict", json={"text": "a b c"}).json()["prediction"]["label"]
        client.post("/predict", json={"texts": ["a b c", "word " * 400]})
        client.post("/predict", json={})
        client.get("/made/up")
        page = client.get("/metrics").text
    assert 'gpt_classifier_requests_total{path="/predict",status="200"} 2.0' in page
    assert 'gpt_classifier_requests_total{path="/predict",status="422"} 1.0' in page
    assert 'gpt_classifier_requests_total{path="other",status="404"} 1.0' in page
    assert "gpt_classifier_texts_total 3.0" in page
    assert "gpt_classifier_truncated_texts_total 1.0" in page
    assert f'gpt_classifier_predictions_total{{label="{label}"}}' in page
    assert "gpt_classifier_waiting_texts 0.0" in page


def test_new_checkpoint_takes_over_and_a_broken_one_does_not(tmp_path: Path) -> None:
    with service(tmp_path / "spam") as client:
        before = client.post("/predict", json={"text": "a"}).json()
        behind = state_of(client)
        first = weakref.ref(behind.served.predictor)
        expected = opened_gpt(tmp_path / "spam", temperature=3.0).predict_proba(["a"])[0].max()
        client.portal.call(behind.reload)
        after = client.post("/predict", json={"text": "a"}).json()
        assert after["model_version"] != before["model_version"]
        assert first() is None  # its memory is given back
        assert after["prediction"]["confidence"] == expected
        (tmp_path / "half").write_bytes(b"half")
        (tmp_path / "half").rename(tmp_path / "spam" / "model.safetensors")
        client.portal.call(behind.reload)
        assert client.post("/predict", json={"text": "a"}).json()["model_version"] == after["model_version"]
        page = client.get("/metrics").text
    assert 'gpt_classifier_reloads_total{outcome="failed"} 1.0' in page
    assert f'gpt_classifier_model{{name="spam",version="{before["model_version"]}"}} 0.0' in page


def test_error_that_nobody_foresaw_is_one_requests_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(tmp_path / "spam") as client:
        answer = Served.answer
        monkeypatch.setattr(Served, "answer", lambda *args: 1 / 0)
        failed = client.post("/predict", json={"text": "a"})
        monkeypatch.setattr(Served, "answer", answer)
        assert failed.status_code == 500
        assert set(failed.json()) == {"error", "request_id"}
        assert client.post("/predict", json={"text": "a"}).status_code == 200


def test_limits_out_of_range_are_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="max_waiting: expected at least 1000"):
        Limits(max_waiting=10)
    with pytest.raises(OptionError, match="timeout"):
        Limits(timeout=0)


def test_classes_that_are_whole_numbers_are_answered_as_numbers(tmp_path: Path) -> None:
    opened_gpt(tmp_path / "stars", classes=("1", "5"), whole_numbers=True)
    with service(tmp_path / "stars") as client:
        found = client.post("/predict", json={"text": "fine"}).json()["prediction"]["label"]
        assert client.get("/info").json()["classes"] == [1, 5]
    assert found in (1, 5)


def test_probabilities_do_not_depend_on_what_else_is_asked(tmp_path: Path) -> None:
    for pooling in ("max", "last_token"):
        classifier: TextClassifier = opened_gpt(tmp_path / pooling, pooling)
        texts = [f"{'word ' * (i % 23)}number {i}" for i in range(70)]
        together = classifier.predict_proba(texts)
        alone = np.concatenate([classifier.predict_proba([text]) for text in texts])
        np.testing.assert_allclose(alone, together, atol=2e-7)


def test_slow_body_is_given_up(tmp_path: Path) -> None:
    with service(tmp_path / "spam", timeout=0.1) as client:
        sent = []

        async def never() -> dict:
            await asyncio.sleep(5)
            return {}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
        client.portal.call(client.app, scope, never, send)
    assert sent[0]["status"] == 408
