"""The real command: workers that are killed, replaced and asked to reload, over real HTTP."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from conftest import ROOT
from exported import opened_gpt

from gpt_classifier.errors import UserError
from gpt_classifier.serving.places import SPREADS, Spread, place_of

PATIENCE = 240  # seconds, for machines that are busy


class Server:
    """`gpt-classifier serve` in a process of its own, and what a client asks it."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self.log = log
        self.port = int(self.wait_for(r"http://127\.0\.0\.1:(\d+)/docs serves").group(1))

    def wait_for(self, pattern: str, times: int = 1) -> re.Match:
        """The last of so many matches in the log."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            found = list(re.finditer(pattern, self.log.read_text()))
            if len(found) >= times:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"no {pattern} in:\n{self.log.read_text()}")

    def workers(self) -> list[int]:
        """Processes that have become ready, the last one last."""
        ready = [json.loads(line) for line in self.log.read_text().splitlines() if '"message": "ready"' in line]
        return [line["process"] for line in ready]

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)


def ask(connection: HTTPConnection, text: str = "hello") -> dict:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/predict", json.dumps({"text": text}), headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert answer.status == 200, body
    return body


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[Server]:
    log = bundle.parent / "log"
    command = [sys.executable, str(ROOT / "scripts" / "serve.py"), "--checkpoint", str(bundle), "--port", "0", *options]
    with log.open("w") as target:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stderr=target, env=environment)
        try:
            yield Server(process, log)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_worker_that_is_killed_is_replaced_a_new_checkpoint_loses_nothing_and_the_end_is_in_order(
    tmp_path: Path,
) -> None:
    bundle = tmp_path / "spam"
    expected = opened_gpt(bundle).predict_proba(["hello"])[0].max()
    with serving(bundle, "--workers", "2", "--precision", "32-true") as server:
        server.wait_for('"message": "ready"', times=2)
        first = ask(server.connect())
        assert first["prediction"]["confidence"] == expected

        os.kill(server.workers()[0], signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        answered = False
        while not answered and time.monotonic() < deadline:  # what the killed one had taken is lost, nothing else
            try:
                answered = bool(ask(server.connect()))
            except (HTTPException, OSError):
                time.sleep(0.05)
        assert answered
        server.wait_for('"message": "ready"', times=3)

        opened_gpt(bundle, temperature=3.0)
        versions, failed, done = set(), [], threading.Event()

        def client() -> None:
            connection = server.connect()
            while not done.wait(0.005):  # workers that start need the processors, too
                try:
                    versions.add(ask(connection)["model_version"])
                except Exception as error:
                    failed.append(error)
                    connection = server.connect()

        clients = [threading.Thread(target=client) for _ in range(4)]
        for one in clients:
            one.start()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for('"message": "reloaded"', times=2)
        done.set()
        for one in clients:
            one.join()
        assert not failed
        assert ask(server.connect())["model_version"] in versions - {first["model_version"]}

        large = server.connect()
        large.request("POST", "/predict", b" " * 20_000_000)  # sent before the answer is read
        assert large.getresponse().status == 413

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0


def test_checkpoint_that_no_worker_can_open_ends_the_command(tmp_path: Path) -> None:
    opened_gpt(tmp_path / "spam")
    (tmp_path / "spam" / "model.safetensors").unlink()
    (tmp_path / "spam" / "model.safetensors").write_bytes(b"half")
    command = [
        sys.executable,
        str(ROOT / "scripts" / "serve.py"),
        "--checkpoint",
        str(tmp_path / "spam"),
        "--port",
        "0",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    assert ended.returncode == 1
    assert "is damaged, or was changed by hand" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_are_sent_at_once(workers: int) -> None:
    with closing(place_of("127.0.0.1", 0, workers)) as place, place.open() as listener:
        listener.listen()
        with socket.create_connection(("127.0.0.1", place.port)):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(not SPREADS, reason="the system does not spread connections")
def test_connections_are_spread_over_workers_that_are_ready() -> None:
    with closing(Spread("127.0.0.1", 0)) as place:
        workers = [place.open() for _ in range(3)]
        for ready in workers[:2]:
            ready.listen(64)
            ready.setblocking(False)
        clients = [socket.create_connection(("127.0.0.1", place.port)) for _ in range(64)]
        taken = []
        for ready in workers[:2]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    taken.append((ready, ready.accept()[0]))
        place.handed_over()
        assert all(worker.fileno() == -1 for worker in workers)  # or a worker's would outlive it
        for client in (*clients, *(accepted for _, accepted in taken)):
            client.close()
    counts = [sum(ready is worker for ready, _ in taken) for worker in workers]
    assert sum(counts) == 64
    assert min(counts[:2]) > 8


def test_port_in_use_is_told_though_sockets_could_share_it() -> None:
    for first, second in ((1, 2), (2, 1), (2, 2)):
        with closing(place_of("127.0.0.1", 0, first)) as place, pytest.raises(UserError, match="Set another --port"):
            place_of("127.0.0.1", place.port, second)
