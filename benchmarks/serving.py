"""A server under load: throughput beside predict_proba, latencies, memory, broken requests, a killed worker.

python benchmarks/serving.py outputs/…/checkpoints/best.ckpt texts.csv --parts speed,memory,fuzz,kill

Server and clients are processes of their own and share the machine; what both take of its processors is told with each
number. Clients keep their connections and ask again at once; one whose connection ends connects anew and asks again, as
libraries for HTTP do. Options of serve, such as --workers 2, come last, after --serve.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300  # seconds
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
KEY = "benchmark-key-of-32-characters-x"
DIRECT = """import json, sys, time
from pathlib import Path
from gpt_classifier.inference.opening import open_predictor
predictor, texts = open_predictor(Path(sys.argv[1])), json.loads(Path(sys.argv[2]).read_text())
predictor.predict_proba(texts)
began = time.perf_counter()
predictor.predict_proba(texts)
print(len(texts) / (time.perf_counter() - began))"""


class Server:
    """`gpt-classifier serve`, and where it is."""

    def __init__(self, process: subprocess.Popen, log: Path, workers: int) -> None:
        self.process = process
        self.log = log
        self.port = int(self.wait_for(r"http://127\.0\.0\.1:(\d+)/docs serves")[-1])
        self.wait_for('"message": "ready"', times=workers)

    def wait_for(self, pattern: str, times: int = 1) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            if len(found := re.findall(pattern, self.log.read_text())) >= times:
                return found
            time.sleep(0.1)
        raise RuntimeError(f"no {pattern} in:\n{self.log.read_text()[-5000:]}")

    def workers(self) -> list[int]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if '"message": "ready"' in line]
        return [line["process"] for line in lines if Path(f"/proc/{line['process']}").exists()]

    def cpu_seconds(self) -> float:
        """Of all workers so far."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.workers()]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> list[float]:
        """Resident memory of the supervisor and of each worker."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (self.process.pid, *self.workers())]
        return [round(number * os.sysconf("SC_PAGE_SIZE") / 1e6) for number in pages]


@contextmanager
def serving(checkpoint: Path, *options: str, key: str = "") -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, str(ROOT / "scripts" / "serve.py"), "--checkpoint", str(checkpoint), "--port", "0"]
        environment = {**os.environ, "GPT_CLASSIFIER_API_KEY": key}
        with log.open("w") as target:
            process = subprocess.Popen([*command, *options], stderr=target, env=environment)
            try:
                workers = int(options[len(options) - options[::-1].index("--workers")]) if "--workers" in options else 1
                yield Server(process, log, workers)
            finally:
                process.terminate()
                process.wait(PATIENCE)


class Client:
    """One connection that is kept, as plain as can be, so that the load costs little beside the server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, head: bytes, body: bytes, slowly: float = 0) -> tuple[int, bytes]:
        """Status and body of an answer; 0 where the connection ends without one."""
        try:
            if self.writer is None or self.writer.is_closing():
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            assert self.reader is not None
            self.writer.write(head)
            for start in range(0, len(body), 10 if slowly else max(1, len(body))):
                self.writer.write(body[start:] if not slowly else body[start : start + 10])
                await self.writer.drain()
                await asyncio.sleep(slowly)
            return await asyncio.wait_for(self._answer(), PATIENCE)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0, b""

    async def _answer(self) -> tuple[int, bytes]:
        assert self.reader is not None
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await self.reader.readexactly(int(length.group(1)) if length else 0)
        if b"connection: close" in head.lower():
            self.close()
        return int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.writer = None

    async def predict(self, asked: dict[str, Any], key: str = "") -> tuple[int, dict[str, Any]]:
        status, body = await self.send(*request(json.dumps(asked).encode(), key))
        return status, json.loads(body) if body else {}


def request(body: bytes, key: str = "", path: str = "/predict", length: int | None = None) -> tuple[bytes, bytes]:
    """Head and body of a POST; another length than the body's may be claimed."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), body


class Asking(asyncio.Protocol):
    """A connection that is kept: it asks for one text after another, as plainly as can be, as it shares the machine.

    Args:
        load: what is asked, and what came of it.
    """

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.asked: int | None = None
        self.began = 0.0
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        assert self.transport is not None
        self.asked = self.load.next()
        if self.asked is None:
            self.transport.close()
            return
        self.began = time.perf_counter()
        self.transport.write(self.load.requests[self.asked % len(self.load.requests)])

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or len(body) < int(LENGTH.search(head)[1]):  # type: ignore[index]
            return
        self.load.answered(self.received, time.perf_counter() - self.began)
        self.received = b""
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.load.ended(self.asked)


class Load:
    """So many requests of one text each, by so many connections at the same time.

    Args:
        port: of the server.
        texts: which are asked in turn.
        clients: connections.
        number: of requests.
    """

    def __init__(self, port: int, texts: list[str], clients: int, number: int) -> None:
        self.requests = [b"".join(request(json.dumps({"text": text}).encode())) for text in texts]
        self.port, self.clients, self.number = port, clients, number
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self._todo = iter(range(number))
        self._again: list[int] = []
        self._open = clients
        self._tasks: set[asyncio.Task] = set()
        self._done = asyncio.Event()

    def next(self) -> int | None:
        return self._again.pop() if self._again else next(self._todo, None)

    def answered(self, answer: bytes, seconds: float) -> None:
        self.seconds.append(seconds)
        status = answer[9:12].decode()
        self.statuses[status if status != "200" or b'"prediction"' in answer else "200, no prediction"] += 1

    def ended(self, asked: int | None) -> None:
        """A connection ended: where it was waiting for an answer, another one asks again."""
        if asked is None:
            self._open -= 1
            if not self._open:
                self._done.set()
            return
        self.statuses["lost, asked again"] += 1
        self._again.append(asked)
        self._connect()

    def _connect(self) -> None:
        task = asyncio.create_task(self._connected())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: Asking(self), "127.0.0.1", self.port)
                return
            except OSError:
                await asyncio.sleep(0.05)

    async def run(self) -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(self.clients):
            self._connect()
        await asyncio.wait_for(self._done.wait(), PATIENCE * 10)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        quantiles = np.quantile(np.array(self.seconds) * 1000, [0.5, 0.95, 0.99])
        return {
            "clients": self.clients,
            "seconds": round(wall, 1),
            "texts_per_second": round(self.number / wall, 1),
            **dict(zip(("p50_ms", "p95_ms", "p99_ms"), quantiles.round(1).tolist(), strict=True)),
            "longest_ms": round(max(self.seconds) * 1000),
            "client_cpu_ms": round(cpu / self.number * 1000, 3),
            "statuses": dict(self.statuses),
        }


async def load(port: int, texts: list[str], clients: int, requests: int) -> dict[str, Any]:
    return await Load(port, texts, clients, requests).run()


def direct(checkpoint: Path, texts: list[str], threads: int) -> float:
    """Texts a second of predict_proba, which is given all of them at once, in a process of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        command = [sys.executable, "-c", DIRECT, str(checkpoint), file.name]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(told.stdout.splitlines()[-1])


def speed(options: argparse.Namespace, texts: list[str]) -> Iterator[dict[str, Any]]:
    cores = len(os.sched_getaffinity(0))
    given = [texts[i % len(texts)] for i in range(options.requests)]
    rates = {threads: direct(options.checkpoint, given, threads) for threads in sorted({1, cores})}
    for threads, rate in rates.items():
        yield {"clients": "predict_proba", "threads": threads, "texts_per_second": round(rate, 1)}
    with serving(options.checkpoint, *options.serve) as server:
        asyncio.run(load(server.port, texts, 32, 1000))  # kernels are chosen
        for clients in (1, 8, 32):
            requests, cpu = options.requests // (1 if clients > 1 else 4), server.cpu_seconds()
            row = asyncio.run(load(server.port, texts, clients, requests))
            row["server_cpu_ms"] = round((server.cpu_seconds() - cpu) / requests * 1000, 3)
            row["of_predict_proba"] = {n: round(row["texts_per_second"] / rate, 2) for n, rate in rates.items()}
            yield row


def memory(options: argparse.Namespace, texts: list[str]) -> Iterator[dict[str, Any]]:
    with serving(options.checkpoint, *options.serve) as server:
        yield {"requests": 0, "megabytes": server.megabytes()}
        for requests in [options.memory // 5] * 5:
            row = asyncio.run(load(server.port, texts, 32, requests))
            yield {**row, "megabytes": server.megabytes()}


def broken(chance: random.Random) -> tuple[bytes, bytes, str]:
    """Head and body of a request that is hardly ever right, and what is wrong with its length."""
    values = (None, True, -1, 10**400, "", " ", "a", "\ud800", "\x00", [], ["a"], [["a"]], {}, {"text": "a"})
    names = ("text", "texts", "top", "Text", "", "\ud800")
    said = json.dumps({chance.choice(names): chance.choice(values) for _ in range(chance.randrange(4))}).encode()
    body = chance.choice(
        (
            said,
            said[: chance.randrange(len(said) + 1)],
            chance.randbytes(chance.randrange(300)),
            chance.choice((b"[", b'{"text":')) * chance.choice((10, 1000, 100_000)),
            b'{"text": "' + b"a" * chance.choice((10, 10_000, 5_000_000)) + b'"}',
        )
    )
    length = chance.choice((None,) * 8 + (len(body) + 10, 10**9, 10**30))
    key = chance.choice((KEY,) * 8 + ("", "wrong", KEY + "x"))
    wrong = {len(body) + 10: "more than comes", 10**30: "no length"}.get(length or 0, "")
    return *request(body, key, length=length), wrong


async def attack(port: int, number: int) -> dict[str, int]:
    """Broken requests by eight clients, slow ones among them, while two others ask properly."""
    chance, statuses, done = random.Random(0), Counter(), asyncio.Event()
    todo = iter(range(number))

    async def break_it() -> None:
        for _ in todo:
            client = Client(port)
            head, body, wrong = broken(chance)
            waits = wrong == "more than comes"
            slowly = 0.01 if len(body) < 300 and chance.random() < 0.02 else 0
            try:
                async with asyncio.timeout(0.5 if waits else PATIENCE):
                    status, _ = await client.send(head, body, slowly)
                statuses[str(status or f"ended without an answer{wrong and f', {wrong}'}")] += 1
            except TimeoutError:
                statuses["given up by the client, as the body did not come" if waits else "no answer"] += 1
            client.close()

    async def ask() -> None:
        client = Client(port)
        while not done.is_set():
            status, said = await client.predict({"text": "a proper one"}, KEY)
            statuses["proper" if status == 200 and said.get("prediction") else f"lost, {status}"] += 1
            await asyncio.sleep(0.02)
        client.close()

    proper = [asyncio.create_task(ask()) for _ in range(2)]
    await asyncio.gather(*(break_it() for _ in range(8)))
    done.set()
    await asyncio.gather(*proper)
    return dict(sorted(statuses.items()))


def fuzz(options: argparse.Namespace, texts: list[str]) -> Iterator[dict[str, Any]]:
    with serving(options.checkpoint, *options.serve, key=KEY) as server:
        found = asyncio.run(attack(server.port, options.fuzz))
        log = server.log.read_text()
    errors = log.count('"message": "unforeseen"')
    yield {**found, "unforeseen errors": errors, "workers that ended": log.count(" died")}


def kill(options: argparse.Namespace, texts: list[str]) -> Iterator[dict[str, Any]]:
    """A worker is killed while 32 clients ask: the only one, and one of two."""
    for workers in (1, 2):
        with serving(options.checkpoint, *options.serve, "--workers", str(workers)) as server:

            async def end(server: Server) -> None:
                await asyncio.sleep(1)
                os.kill(server.workers()[0], signal.SIGKILL)

            async def both(server: Server) -> dict[str, Any]:
                found, _ = await asyncio.gather(load(server.port, texts, 32, options.requests), end(server))
                return found

            row = asyncio.run(both(server))
            server.wait_for('"message": "ready"', times=workers + 1)
            yield {"workers": workers, **row, "workers afterwards": len(server.workers())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("texts", type=Path, help="a CSV with a column text")
    parser.add_argument("--parts", default="speed,memory,fuzz,kill")
    parser.add_argument("--requests", type=int, default=4_000, help="of speed and kill")
    parser.add_argument("--memory", type=int, default=100_000, help="requests of memory")
    parser.add_argument("--fuzz", type=int, default=10_000, help="broken requests")
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="options of serve, last")
    options = parser.parse_args()
    texts = [text for text in pd.read_csv(options.texts, keep_default_na=False)["text"].astype(str) if text.strip()]
    parts = {"speed": speed, "memory": memory, "fuzz": fuzz, "kill": kill}
    for name in options.parts.split(","):
        for row in parts[name](options, texts):
            print(name, json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
