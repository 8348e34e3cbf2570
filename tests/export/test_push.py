"""Uploading, to a stand-in for the Hugging Face Hub."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from exported import opened_gpt
from huggingface_hub import constants

from gpt_classifier.commands import main as command
from gpt_classifier.errors import UserError
from gpt_classifier.export import push


class Hub:
    """What the stand-in was asked, and what it answers.

    Attributes:
        repositories: by name, whether each is private.
        uploaded: the files of each commit.
        refuses: the status of every answer, 200 for none.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, bool] = {}
        self.uploaded: list[set[str]] = []
        self.refuses = 200
        self.tokens: set[str | None] = set()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        parts = path.split("?")[0].strip("/").split("/")
        if self.refuses != 200:
            return self.refuses, {"error": "no"}
        if parts[:2] == ["api", "whoami-v2"]:
            return 200, {"name": "me", "type": "user"}
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            known = name in self.repositories
            self.repositories.setdefault(name, asked.get("visibility") == "private" or bool(asked.get("private")))
            return (409 if known else 200), {"url": f"{constants.ENDPOINT}/{name}", "error": "exists"}
        if method == "POST" and parts[4:5] == ["preupload"]:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            return 200, {"files": [{**file, "shouldIgnore": False} for file in files]}
        if method == "POST" and parts[4:5] == ["commit"]:
            lines = [json.loads(line) for line in body.splitlines()]
            self.uploaded.append({line["value"]["path"] for line in lines if line["key"] == "file"})
            url = f"{constants.ENDPOINT}/{parts[2]}/{parts[3]}/commit/abc"
            return 200, {"commitUrl": url, "commitOid": "a" * 40, "hookOutput": "", "success": True}
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            return 200, {"id": name, "private": self.repositories[name], "sha": "a" * 40, "siblings": []}
        return 200, {}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.tokens.add(self.headers.get("Authorization"))
            status, content = state.answer(self.command, self.path, body)
            sent = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_HEAD = do

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spam").mkdir()
    for name in ("config.json", "README.md"):
        (tmp_path / "spam" / name).write_text("{}")
    return tmp_path / "spam"


def test_repository_is_private_unless_asked(hub: Hub, folder: Path) -> None:
    push.expect_account("me/spam")
    assert push.upload(folder, "me/spam").endswith("/me/spam")
    assert push.upload(folder, "shown", public=True).endswith("/me/shown")
    assert hub.repositories == {"me/spam": True, "me/shown": False}
    assert hub.uploaded == [{"config.json", "README.md"}] * 2
    assert "Bearer hf_test" in hub.tokens


def test_public_repository_that_is_there_gets_nothing_unless_asked(hub: Hub, folder: Path) -> None:
    hub.repositories = {"me/spam": False, "me/hidden": True}
    with pytest.raises(UserError, match=r"is there already, and public\. Nothing was uploaded"):
        push.upload(folder, "me/spam")
    assert hub.uploaded == []
    push.upload(folder, "me/hidden")
    push.upload(folder, "me/spam", public=True)
    assert len(hub.uploaded) == 2


def test_refusal_of_the_hub_is_told_with_what_is_left(hub: Hub, folder: Path) -> None:
    hub.refuses = 403
    with pytest.raises(UserError, match=r"--push: me/spam could not be uploaded: .*hf upload me/spam"):
        push.upload(folder, "me/spam")


def test_what_would_fail_is_told_before_anything_is_written(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="expected a repository such as me/spam, but it is 'a/b/c'"):
        push.expect_account("a/b/c")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match=r"asks for a token, and there is none\. Run hf auth login"):
        push.expect_account("me/spam")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"can't be reached .* Connect to the network"):
        push.expect_account("me/spam")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids the network"):
        push.expect_account("me/spam")


def test_command_uploads_the_whole_export(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    opened_gpt(tmp_path / "ours")
    out = tmp_path / "spam"
    command(["export", "--checkpoint", str(tmp_path / "ours"), "--to", "hf", "--out", str(out), "--push", "me/spam"])
    assert hub.uploaded == [{path.name for path in out.iterdir()}]
    assert "uploaded to http://127.0.0.1" in capsys.readouterr().out
    assert 'model="me/spam"' in (out / "README.md").read_text()
