"""A service around a tiny classifier, in this process, and what a client asks it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exported import opened_gpt
from starlette.testclient import TestClient

from gpt_classifier.serving.application import create
from gpt_classifier.serving.gate import Gate
from gpt_classifier.serving.served import Served
from gpt_classifier.serving.settings import Limits, Settings

KEY = "sixteen-characters-or-more"


def settings_for(bundle: Path, **options: Any) -> Settings:
    """A server's, exact to the last place; options of `Limits` are taken too."""
    limits = {name: options.pop(name) for name in list(options) if name in Limits.__dataclass_fields__}
    return Settings(str(bundle), bundle, precision="32-true", limits=Limits(**limits), **options)


@contextmanager
def service(bundle: Path, **options: Any) -> Iterator[TestClient]:
    """A client of a service that answers with a bundle, which is made unless it is there."""
    if not bundle.exists():
        opened_gpt(bundle)
    settings = settings_for(bundle, **options)
    gate = create(settings, Served.open(bundle, settings))
    with TestClient(gate, raise_server_exceptions=False) as client:
        yield client


def state_of(client: TestClient) -> Any:
    """The `Service` behind a client."""
    gate = client.app
    assert isinstance(gate, Gate)
    return gate.app.state.service  # type: ignore[attr-defined]
