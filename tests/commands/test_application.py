"""Commands as Hydra applications: folders of runs, errors, and what a job leaves behind in the process."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gpt_classifier.commands import train
from gpt_classifier.commands.application import run_hydra
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import UserError


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpt-classifier", "train"])
    for name in ("GPT_CLASSIFIER_DEBUG", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)


def output_dir(cfg: DictConfig) -> str:
    return HydraConfig.get().runtime.output_dir


@pytest.mark.parametrize("name", ["config", "pretrain"])
def test_runs_that_start_in_the_same_second_have_folders_of_their_own(name: str) -> None:
    folders: list[str] = []
    for arguments in ([], [], ["-m", "seed=1"], ["-m", "seed=1"]):
        run_hydra(lambda cfg: folders.append(output_dir(cfg)), name, arguments)
    assert len(set(folders)) == 4


def failing(error: Exception) -> Callable[[DictConfig], None]:
    def task(cfg: DictConfig) -> None:
        raise error

    return task


def test_an_error_that_may_be_a_fault_is_told_with_the_place_of_its_traceback(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_hydra(failing(PermissionError(13, "Permission denied", "/there")), "config", [])
    assert stopped.value.code == 1
    (log,) = Path("outputs").rglob("error.log")
    told = capsys.readouterr().err
    assert (
        f"/there: Permission denied. Set another place, or make this one fit. The traceback is in {log.resolve()}"
        in told
    )
    assert "Traceback" not in told
    assert "in task\n    raise error" in log.read_text()


def test_a_users_mistake_is_one_paragraph(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run_hydra(failing(UserError("data.path: there is no such file.")), "config", [])
    told = capsys.readouterr().err
    assert "\ndata.path: there is no such file.\n" in told
    assert "raceback" not in told


def test_a_fault_is_raised_with_its_traceback() -> None:
    with pytest.raises(KeyError, match="n_layer"):
        run_hydra(failing(KeyError("n_layer")), "config", [])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model=0", "model=0: expected the name of a file of conf/model, but it is a number."),
        ("model=gpt2-nan", "conf/model has no such file. Did you mean gpt2-nano? There are: bert-base, bert-large"),
        ("data=cvs", "Did you mean csv? There are: csv, hf, imdb, sample_sms, sms_spam."),
        (
            "optimizer.lrr=1",
            "optimizer.lrr: there is no such option. Did you mean optimizer.lr? +optimizer.lrr=… adds one.",
        ),
        ("optimiser.lr=1", "Did you mean optimizer.lr?"),
        ("--model=gpt2-nano", "--model: options of this command have no dashes. Write model=gpt2-nano."),
        ("--max-epochs=3", "Write max_epochs=3."),
        ("optimizer.lr=[", "no viable alternative"),
        ("hydra.run.dir=/dev/null/run", "/dev/null/run: Not a directory"),
    ],
)
def test_options_that_can_not_be_composed_are_told_in_a_paragraph(
    capsys: pytest.CaptureFixture, override: str, told: str
) -> None:
    ran: list[Any] = []
    with pytest.raises(SystemExit) as stopped:
        run_hydra(ran.append, "config", [override])
    printed = capsys.readouterr().err
    assert stopped.value.code == 1
    assert told in printed
    assert "Traceback" not in printed
    assert not ran


@pytest.mark.parametrize("variable", ["GPT_CLASSIFIER_DEBUG", "HYDRA_FULL_ERROR"])
def test_tracebacks_are_shown_on_request(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    error = PermissionError(13, "Permission denied", "/there")
    with pytest.raises(SystemExit, match=r"/there: Permission denied.* GPT_CLASSIFIER_DEBUG=1 shows the traceback"):
        fail_in_a_command(error)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv(variable, "1")
    with pytest.raises(PermissionError):
        fail_in_a_command(error)
    with pytest.raises(PermissionError):
        run_hydra(failing(error), "config", [])


def fail_in_a_command(error: Exception) -> None:
    with readable_exit():
        raise error


def test_options_are_checked_before_a_command_computes(capsys: pytest.CaptureFixture) -> None:
    ran: list[Any] = []
    with pytest.raises(SystemExit):
        run_hydra(ran.append, "config", ["cache.enabled=no"])
    assert not ran
    assert (
        "cache.enabled: expected true or false, but it is the word no. Write cache.enabled=false."
        in capsys.readouterr().err
    )


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What of wandb matters here: `init` goes on with the run that is open, as Lightning's logger does."""
    module: Any = ModuleType("wandb")
    module.run, module.finished = None, []

    def init() -> SimpleNamespace:
        module.run = module.run or SimpleNamespace(logged=[])
        return module.run

    def finish(exit_code: int) -> None:
        module.finished.append((module.run.logged, exit_code))
        module.run = None

    module.init, module.finish = init, finish
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_each_job_of_a_sweep_has_a_wandb_run_of_its_own(wandb: Any) -> None:
    run_hydra(lambda cfg: wandb.init().logged.append(cfg.seed), "config", ["-m", "seed=1,2"])
    assert wandb.finished == [([1], 0), ([2], 0)]


def test_a_job_that_fails_ends_its_wandb_run_as_failed(wandb: Any) -> None:
    def task(cfg: DictConfig) -> None:
        wandb.init().logged.append(cfg.seed)
        raise UserError("no.")

    with pytest.raises(SystemExit):
        run_hydra(task, "config", [])
    assert wandb.finished == [([123], 1)]


def test_a_run_tells_its_folder_before_seconds_of_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def slow(training: bool) -> None:
        raise UserError("importing takes seconds")

    monkeypatch.setattr("gpt_classifier.device.prepare_process", slow)
    with pytest.raises(SystemExit):
        train.main(["experiment=quickstart", f"hydra.run.dir={tmp_path}/run"])
    assert f"folder   {tmp_path}/run" in capfd.readouterr().out
