"""What is counted for Prometheus."""

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gpt_classifier.confusion import MOST_CLASSES
from gpt_classifier.serving.drift import Drift
from gpt_classifier.serving.served import Answer, Served

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable, read by the library when it is imported: where workers put their numbers together."""

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class Metrics:
    """Counters of one process; `page` has those of all workers.

    What is said of the last texts is of the worker that is asked for the page: each has a share of all requests.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        late: dict[str, Any] = {"registry": self._registry, "multiprocess_mode": "livemostrecent"}
        own: dict[str, Any] = {"registry": self._registry}
        name = "gpt_classifier"
        self.requests = Counter(f"{name}_requests", "Requests by path and status", ["path", "status"], **own)
        self.seconds = Histogram(f"{name}_request_seconds", "Seconds to answer /predict", buckets=SECONDS, **own)
        self.texts = Counter(f"{name}_texts", "Texts classified", **own)
        self.truncated = Counter(f"{name}_truncated_texts", "Texts of which something was left out", **own)
        self.tokens = Histogram(f"{name}_text_tokens", "Tokens read of a text", buckets=TOKENS, **own)
        self.confidence = Histogram(f"{name}_confidence", "Probability of the predicted class", buckets=SHARES, **own)
        self.predicted = Counter(f"{name}_predictions", "Texts by predicted class", ["label"], **own)
        self.reloads = Counter(f"{name}_reloads", "Checkpoints opened while serving", ["outcome"], **own)
        self.waiting = Gauge(
            f"{name}_waiting_texts", "Texts not answered yet", multiprocess_mode="livesum", registry=self._registry
        )
        self.model = Gauge(f"{name}_model", "1 for what answers", ["name", "version"], **late)
        self.drift = Gauge(f"{name}_drift", "Population stability index, last texts and validation", ["of"], **late)
        self.recent = Gauge(f"{name}_recent", "Mean of the last texts", ["of"], **late)
        self.validation = Gauge(f"{name}_validation", "The same of validation", ["of"], **late)

    def serve(self, served: Served, before: Served | None = None) -> None:
        """Say which classifier answers from now on."""
        if before is not None:
            self.model.labels(before.name, before.version).set(0)
        self.model.labels(served.name, served.version).set(1)
        if served.profile is not None:
            self.validation.labels("unknown_bytes").set(served.profile.unknown_bytes)

    def answered(self, answer: Answer) -> None:
        """Count the texts of a request."""
        self.texts.inc(len(answer.tokens))
        self.truncated.inc(sum(answer.truncated))
        labels = answer.served.labels
        for tokens, row in zip(answer.tokens.tolist(), answer.probabilities, strict=True):
            self.tokens.observe(tokens)
            self.confidence.observe(float(row.max()))
            if len(labels) <= MOST_CLASSES:
                self.predicted.labels(str(labels[row.argmax()])).inc()

    def page(self, drift: Drift) -> bytes:
        """All of it, of all workers, as Prometheus reads it."""
        for name, value in drift.summary().items():
            self.drift.labels(name).set(value)
        for name, value in drift.means().items():
            self.recent.labels(name).set(value)
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)
