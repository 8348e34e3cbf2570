"""The command serve: what it refuses before it begins."""

import socket
from pathlib import Path

import pytest
from exported import opened_gpt

from gpt_classifier.commands import main as command
from gpt_classifier.commands import serve as module
from gpt_classifier.serving import supervisor
from gpt_classifier.serving.places import place_of
from gpt_classifier.serving.settings import API_KEY, Settings


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--max-texts", "0"], "--max-texts: expected a whole number of at least 1"),
        (["--max-waiting", "5"], "--max-waiting: expected at least 1000, as many as a request may have"),
        (["--timeout", "nan"], "--timeout: expected a number of at least 0.1"),
        (["--workers", "0"], "--workers: expected a whole number from 1 to 256"),
        (["--checkpoint", "nowhere"], "checkpoint: there is no file"),
        (["--host", "203.0.113.7"], "--host, --port: expected an address of this machine and a port that is free"),
        (["--port", "70000"], "--host, --port: expected an address of this machine and a port that is free"),
    ],
)
def test_options_that_can_not_be_are_told(options: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(SystemExit, match=expected):
        command(["serve", "--checkpoint", str(tmp_path / "a.ckpt"), *options])


def test_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(module.UserError, match=rf"port {port} can't be had .*Set another --port"):
            place_of("127.0.0.1", port, workers=1)


def test_short_key_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(API_KEY, "secret")
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(SystemExit, match=f"{API_KEY}: expected at least 16 ASCII characters") as told:
        command(["serve", "--checkpoint", str(tmp_path / "a.ckpt")])
    assert "secret" not in str(told.value)


def test_it_listens_on_this_machine_alone_unless_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    opened_gpt(tmp_path / "spam")
    asked: list[tuple[str, int]] = []

    def serve(settings: Settings, host: str, port: int) -> bool:
        asked.append((host, port))
        return True

    monkeypatch.setattr(supervisor, "serve", serve)
    command(["serve", "--checkpoint", str(tmp_path / "spam")])
    assert "can ask" not in capsys.readouterr().err
    command(["serve", "--checkpoint", str(tmp_path / "spam"), "--host", "0.0.0.0"])
    assert asked == [("127.0.0.1", 8000), ("0.0.0.0", 8000)]
    assert f"Whoever reaches 0.0.0.0 can ask: {API_KEY} is not set" in capsys.readouterr().err
