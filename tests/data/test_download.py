"""Downloads against a local server that serves the file, breaks off, stalls, or serves something else."""

import contextlib
import http.server
import io
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpt_classifier import web
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


def zipped_in_folder(name: str, content: bytes) -> bytes:
    """An archive whose folder has the file's name, with an entry of its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir(name)
        archive.writestr(f"{name}/{name}", content)
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
            "/slow.zip": ARCHIVE,
            "/dripping.zip": ARCHIVE,
            "/dripping-headers.zip": ARCHIVE,
            "/endless.zip": ARCHIVE,
            "/announced.zip": ARCHIVE,
            "/folder.zip": zipped_in_folder("SMSSpamCollection", CONTENT),
            "/folder-only.zip": zipped("SMSSpamCollection/readme", b"about"),
        }.get(self.path)
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/awaited.zip":  # the first request waits for whether a second comes meanwhile
            second = self.server.second  # type: ignore[attr-defined]
            second.set() if len(self.server.requests) > 1 else second.wait(0.3)  # type: ignore[attr-defined]
        if body is None:
            self.send_error(404)
            return
        if self.path == "/dripping-headers.zip":
            self.drip(b"HTTP/1.1 200 OK\r\nServer: " + b"x" * 1000)
            return
        self.send_response(200)
        if self.path not in ("/endless.zip", "/dripping.zip"):
            self.send_header("Content-Length", str(10**12 if self.path == "/announced.zip" else len(body)))
        self.end_headers()
        if self.path == "/dripping.zip":
            self.drip(b"x" * 1000)
        elif self.path == "/endless.zip":
            with contextlib.suppress(OSError):  # until the client hangs up
                while not self.server.closing.is_set():  # type: ignore[attr-defined]
                    self.wfile.write(b"0" * 65536)
                    self.server.sent += 65536  # type: ignore[attr-defined]
        elif self.path == "/slow.zip":  # but it goes on
            step = len(body) // 8
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                self.wfile.flush()
                time.sleep(0.1)
        elif self.path == "/announced.zip":
            self.server.closing.wait(3)  # type: ignore[attr-defined]
        elif self.path in ("/broken.zip", "/stalled.zip"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if self.path == "/stalled.zip":
                time.sleep(3)
        else:
            self.wfile.write(body)

    def drip(self, sent: bytes) -> None:
        """One byte at a time, each soon enough for a timeout between bytes."""
        with contextlib.suppress(OSError):
            for byte in sent:
                if self.server.closing.wait(0.05):  # type: ignore[attr-defined]
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    monkeypatch.setattr(web, "READ_TIMEOUT", 0.5)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []  # type: ignore[attr-defined]
        server.second = threading.Event()  # type: ignore[attr-defined]
        server.closing = threading.Event()  # type: ignore[attr-defined]
        server.sent = 0  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.closing.set()  # type: ignore[attr-defined]
        server.shutdown()


@pytest.fixture
def fetch(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> Callable[..., Path]:
    def fetch(*names: str, seconds: float = 60) -> Path:
        urls = [f"http://127.0.0.1:{server.server_port}/{name}.zip" for name in names]
        target = tmp_path / "cache" / "SMSSpamCollection"
        return fetch_member(urls, target.name, sha256(CONTENT), target, max_bytes=1_000_000, seconds=seconds)

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
        ("endless", "sends more than 1000000 bytes"),
        ("announced", "sends more than 1000000 bytes"),
        ("dripping", "not finished within 1 s"),
        ("dripping-headers", "not finished within 1 s"),
        ("folder-only", "has no file SMSSpamCollection"),
    ],
)
def test_bad_place_is_told_and_leaves_nothing_behind(fetch: Callable, tmp_path: Path, name: str, reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=reason) as error:
        fetch(name, seconds=1 if "dripping" in name else 60)
    assert time.monotonic() - began < 5
    assert f"/{name}.zip" in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_mirror_serves_when_the_first_place_does_not(fetch: Callable) -> None:
    assert fetch("broken", "other-content", "good").read_bytes() == CONTENT


def test_a_place_without_end_leaves_time_for_the_next_one(fetch: Callable) -> None:
    assert fetch("dripping", "good", seconds=2).read_bytes() == CONTENT


def test_server_without_end_is_left_at_the_limit(fetch: Callable, server: http.server.ThreadingHTTPServer) -> None:
    with pytest.raises(UserError):
        fetch("endless")
    assert server.sent < 20_000_000  # type: ignore[attr-defined]  # the limit, and what sockets hold


def test_slow_server_that_goes_on_is_waited_for(fetch: Callable) -> None:
    assert fetch("slow", seconds=30).read_bytes() == CONTENT


def test_folder_of_the_files_name_is_not_taken_for_it(fetch: Callable) -> None:
    assert fetch("folder").read_bytes() == CONTENT


def test_what_a_killed_download_left_is_removed_by_the_next(
    server: http.server.ThreadingHTTPServer, fetch: Callable, tmp_path: Path
) -> None:
    url, target = f"http://127.0.0.1:{server.server_port}/dripping.zip", tmp_path / "cache" / "SMSSpamCollection"
    command = "import sys, pathlib; from gpt_classifier.data.download import fetch_member\n"
    command += "fetch_member([sys.argv[1]], 'SMSSpamCollection', '0', pathlib.Path(sys.argv[2]), 10**6)"
    process = subprocess.Popen([sys.executable, "-c", command, url, str(target)])
    while process.poll() is None and not list(tmp_path.glob("cache/*/archive.zip")):
        time.sleep(0.05)
    process.kill()
    process.wait()
    (tmp_path / "cache" / "notes").mkdir()
    (left,) = (path.parent for path in tmp_path.glob("cache/*/archive.zip"))
    with pytest.raises(UserError):
        fetch("missing")
    assert not left.exists()
    assert (tmp_path / "cache" / "notes").exists()


def test_terminal_shows_how_much_of_it_has_come(
    fetch: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fetch("good").unlink()
    assert "archive.zip" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch("slow")
    shown = capsys.readouterr().err
    assert "0%|" in shown
    assert f"/{len(ARCHIVE) / 1000:.2f}k" in shown


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
