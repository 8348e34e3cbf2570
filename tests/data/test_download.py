"""Downloads against a local server that serves the file, breaks off, stalls, or serves something else."""

import http.server
import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpt_classifier.data import download
from gpt_classifier.data.download import fetch_member, sha256
from gpt_classifier.data.sources import SmsSpam
from gpt_classifier.errors import UserError

CONTENT = "".join(f'{"spam" if i % 5 == 0 else "ham"}\tmessage {i}, "quoted\n' for i in range(2000)).encode()


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme", "about")
        archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zipped("SMSSpamCollection", CONTENT)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {
            "/good.zip": ARCHIVE,
            "/outside.zip": zipped("../../SMSSpamCollection", CONTENT),
            "/other-content.zip": zipped("SMSSpamCollection", CONTENT + b"ham\tone more\n"),
            "/other-member.zip": zipped("README", CONTENT),
            "/page.zip": b"<html>please log in</html>",
            "/bomb.zip": zipped("SMSSpamCollection", b"0" * 4_000_000),
            "/broken.zip": ARCHIVE,
            "/stalled.zip": ARCHIVE,
            "/awaited.zip": ARCHIVE,
        }.get(self.path)
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/awaited.zip":  # the first request waits for whether a second comes meanwhile
            second = self.server.second  # type: ignore[attr-defined]
            second.set() if len(self.server.requests) > 1 else second.wait(0.3)  # type: ignore[attr-defined]
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path in ("/broken.zip", "/stalled.zip"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if self.path == "/stalled.zip":
                time.sleep(3)
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.5)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []  # type: ignore[attr-defined]
        server.second = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def fetch(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> Callable[..., Path]:
    def fetch(*names: str) -> Path:
        urls = [f"http://127.0.0.1:{server.server_port}/{name}.zip" for name in names]
        target = tmp_path / "cache" / "SMSSpamCollection"
        return fetch_member(urls, target.name, sha256(CONTENT), target, max_bytes=1_000_000)

    return fetch


def test_file_is_unpacked_and_fetched_once(fetch: Callable, server: http.server.ThreadingHTTPServer) -> None:
    path = fetch("good")
    assert path.read_bytes() == CONTENT
    assert fetch("good") == path
    assert server.requests == ["/good.zip"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "broke off"),
        ("stalled", "no answer in time|broke off"),
        ("missing", "404"),
        ("page", "not a whole zip archive"),
        ("other-content", "expected SMSSpamCollection with sha256"),
        ("other-member", "has no file SMSSpamCollection"),
        ("bomb", "larger than 1000000 bytes"),
    ],
)
def test_bad_place_is_told_and_leaves_nothing_behind(fetch: Callable, tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        fetch(name)
    assert f"/{name}.zip" in str(error.value)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_mirror_serves_when_the_first_place_does_not(fetch: Callable) -> None:
    assert fetch("broken", "other-content", "good").read_bytes() == CONTENT


def test_of_several_processes_one_downloads_and_the_others_find_the_file(
    fetch: Callable, server: http.server.ThreadingHTTPServer
) -> None:
    with ThreadPoolExecutor(3) as pool:  # the lock is one of files: it holds between threads as between processes
        paths = list(pool.map(fetch, ["awaited"] * 3))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.requests == ["/awaited.zip"]  # type: ignore[attr-defined]


def test_damaged_cached_file_is_fetched_again(fetch: Callable) -> None:
    fetch("good").write_bytes(CONTENT[:1000])
    assert fetch("good").read_bytes() == CONTENT


def test_a_failed_repair_keeps_what_was_there(fetch: Callable) -> None:
    path = fetch("good")
    path.write_bytes(b"something of the user's")
    with pytest.raises(UserError):
        fetch("page")
    assert path.read_bytes() == b"something of the user's"


def test_member_names_can_not_reach_outside_the_folder(fetch: Callable, tmp_path: Path) -> None:
    path = fetch("outside")
    assert [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".lock"] == [path]


def test_real_archive_over_http(sms_zip: Path, sms_file: Path, tmp_path: Path) -> None:
    class Real(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(sms_zip.parent))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Real) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{sms_zip.name}"
        source = SmsSpam(None, str(tmp_path), [url], sha256(sms_file.read_bytes()))
        source.prepare()
        server.shutdown()
    assert len(source.load().frame) == 5574
