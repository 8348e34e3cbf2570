"""The process that holds the socket, starts workers, replaces those that end, and passes on what it is asked."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.supervisors.multiprocess import Multiprocess

from gpt_classifier.checkpoints import find_checkpoint
from gpt_classifier.errors import UserError
from gpt_classifier.serving.logs import CONFIG
from gpt_classifier.serving.places import Shared, Spread, place_of
from gpt_classifier.serving.settings import Settings

if TYPE_CHECKING:
    from gpt_classifier.serving.gate import Gate

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
UNRESPONSIVE = 60  # seconds without a sign of life, as imports may take


def application(settings: Settings) -> "Gate":
    """What a worker runs; its imports take seconds, and the supervisor does without them."""
    if settings.workers > 1:  # read when torch or onnxruntime is imported
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // settings.workers)))
    from gpt_classifier.serving.application import worker

    return worker(settings)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_profile(settings: Settings) -> None:
    """Keep a profile of the validation messages beside the checkpoint, unless there is one."""
    from gpt_classifier.evaluation.profile import Profile
    from gpt_classifier.inference.opening import open_predictor
    from gpt_classifier.spec import sha256_of

    path = settings.path
    if path.is_dir() or Profile.read(path, sha256 := sha256_of(path)) is not None:
        return  # a folder was given its profile when it was written
    try:
        settings.prepare()
        predictor = open_predictor(path, settings.weights, precision=settings.precision)
        profile = Profile.measure(predictor, path, sha256)
        if profile is not None:
            profile.write(path)
            print(f"validation: {profile.messages} messages measured, for drift in /metrics", file=sys.stderr)
    except UserError as error:  # if the checkpoint can't be opened, the workers say so
        print(f"validation: not measured. {error}", file=sys.stderr)


class Supervisor(Multiprocess):
    """uvicorn's, which replaces workers that end; SIGHUP makes each of them reload, without ending any.

    Args:
        settings: of the server.
        place: where workers listen.
    """

    def __init__(self, settings: Settings, place: Shared | Spread) -> None:
        self.settings = settings
        self.place = place
        self._measuring: SpawnProcess | None = None
        super().__init__(self._config(), [])

    @property
    def sockets(self) -> list[socket.socket]:
        """What the next worker listens at."""
        return [self.place.open()]

    @sockets.setter
    def sockets(self, given: list[socket.socket]) -> None:
        pass  # of uvicorn's, which has the same for all workers

    def _config(self) -> Config:
        return Config(
            partial(application, self.settings),
            factory=True,
            workers=self.settings.workers,
            log_config=CONFIG,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            timeout_worker_healthcheck=UNRESPONSIVE,
            timeout_graceful_shutdown=int(self.settings.limits.timeout) + 1,
        )

    def handle_hup(self) -> None:
        try:
            path = find_checkpoint(self.settings.checkpoint, self.settings.outputs)
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
            return
        self.settings = replace(self.settings, path=path)
        self.config = self._config()  # of workers that are started from now on
        self._measuring = started(measure_profile, self.settings)

    def _reload(self) -> None:
        """Ask all workers to reload; one that is starting is waited for, as the signal would end it."""
        for process in self.processes:
            if process.wait_until_ready(UNRESPONSIVE, self.should_exit) and process.pid:
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        self.place.handed_over()
        if self._measuring is not None and not self._measuring.is_alive():
            self._measuring = None
            self._reload()
        if all(process.process.is_alive() for process in self.processes):
            return  # uvicorn would ask each for a sign of life, and wait long for one that is killed meanwhile
        from prometheus_client.multiprocess import mark_process_dead

        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid)


def started(work: Callable[[Settings], None], settings: Settings) -> SpawnProcess:
    """A process that runs a function of this module, so that the memory it takes is given back."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=(settings,), daemon=True)
    process.start()
    return process


def serve(settings: Settings, host: str, port: int) -> bool:
    """Serve until the process is asked to end.

    Args:
        settings: of the server.
        host: address to listen at.
        port: to listen at; 0 for one that is free.

    Returns:
        Whether it ended because it was asked to.

    Raises:
        UserError: the address can't be had.
    """
    with (
        closing(place_of(host, port, settings.workers)) as place,
        tempfile.TemporaryDirectory(prefix="gpt-classifier-") as folder,
    ):
        os.environ[METRICS_FOLDER] = folder
        address = f"[{host}]" if ":" in host else host
        started(measure_profile, settings).join()
        print(f"http://{address}:{place.port}/docs serves {settings.path}", file=sys.stderr, flush=True)
        supervisor = Supervisor(replace(settings, supervised=True), place)
        supervisor.run()
        return all(process.exitcode in (0, -signal.SIGTERM) for process in supervisor.processes)
