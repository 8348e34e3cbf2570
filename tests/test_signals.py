"""A run that is asked to end ends in order, and never with status 0."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run

from gpt_classifier import signals
from gpt_classifier.commands.exit import readable_exit


def signal_once(written: Path, number: int) -> threading.Thread:
    """Sends this process a signal as soon as there is a file."""

    def wait_and_send() -> None:
        for _ in range(600):
            time.sleep(0.1)
            if written.exists():
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    return thread


@pytest.mark.parametrize(("number", "slurm"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGUSR1, True)])
def test_signal_in_training_ends_with_143_and_says_how_to_go_on(
    train: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    number: int,
    slurm: bool,
) -> None:
    if slurm:
        for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "spam"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SLURM_NODELIST", "localhost")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    handler = signal.getsignal(signal.SIGTERM)
    sender = signal_once(last, number)
    with pytest.raises(SystemExit) as stopped:
        train("trainer.max_epochs=1000", "evaluate=val", "data.train_size=8", "cache.dir=null")
    sender.join()
    assert stopped.value.code == 143
    told = capfd.readouterr()
    assert f"ckpt_path={last} goes on from the last whole epoch" in told.out + told.err
    assert "Traceback" not in told.err
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not list(tmp_path.rglob("*.part")) + list(Path().glob("hpc_ckpt_*"))


def test_command_that_is_asked_to_end_cleans_up(capsys: pytest.CaptureFixture) -> None:
    cleaned = []

    def command() -> None:
        with readable_exit():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            finally:
                cleaned.append(True)

    with pytest.raises(SystemExit) as stopped:
        command()
    assert stopped.value.code == 143
    assert cleaned
    assert capsys.readouterr().err == "Ended by a signal.\n"


def test_a_programs_own_handler_stays() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with signals.ended_in_order():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
