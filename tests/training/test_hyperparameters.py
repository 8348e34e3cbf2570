"""What TensorBoard's page HParams has of a sweep, asked as its own server asks."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import SMALL
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from gpt_classifier.commands.train import main
from gpt_classifier.config import compose
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.hyperparameters import USUAL, Trial, describe_settings


def asked_of_tensorboard(folder: Path) -> tuple[api_pb2.Experiment, Any]:
    """The columns of the page, and its trials by name."""
    events = EventMultiplexer().AddRunsFromDirectory(str(folder))
    events.Reload()
    tensorboard: Any = SimpleNamespace(data_provider=MultiplexerDataProvider(events, str(folder)))
    context, asking = backend_context.Context(tensorboard), RequestContext()
    columns = get_experiment.Handler(asking, context, "", api_pb2.GetExperimentRequest(hparams_limit=100)).run()
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=[api_pb2.STATUS_SUCCESS], include_metrics=True
    )
    request.col_params.extend(api_pb2.ColParams(hparam=info.name) for info in columns.hparam_infos)
    request.col_params.extend(api_pb2.ColParams(metric=info.name) for info in columns.metric_infos)
    trials = list_session_groups.Handler(asking, context, "", request).run().session_groups
    return columns, {trial.name: trial for trial in trials}


def test_a_sweep_shows_what_it_varies_first_and_trials_by_the_names_of_their_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    varied = ["data.truncate=head,tail", "optimizer.lr=1e-3,1e-2"]
    swept = [f"hydra.sweep.dir={tmp_path / 'swept'}", "trainer.max_epochs=1", "evaluate=final", *varied]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *SMALL, *swept])
    main()
    columns, trials = asked_of_tensorboard(tmp_path / "swept")
    names = [info.name for info in columns.hparam_infos]
    assert set(names[:2]) == {"optimizer.lr", "data.truncate"}
    assert [info.differs for info in columns.hparam_infos] == [True] * 2 + [False] * (len(names) - 2)
    assert sorted(names) == sorted({*USUAL, "data.truncate"})
    measured = {f"best/{split}/{name}" for split in ("val", "test") for name in ("accuracy", "macro_f1", "loss")}
    assert {info.name.tag for info in columns.metric_infos} == measured
    assert sorted(trials) == [
        f"{number}_optimizer.lr-{rate}+data.truncate-{end} of swept"
        for number, (rate, end) in enumerate((rate, end) for rate in (0.001, 0.01) for end in ("head", "tail"))
    ]
    (trial,) = (trial for name, trial in trials.items() if name.startswith("3_"))
    assert trial.hparams["data.truncate"].string_value == "tail"
    assert trial.hparams["optimizer.lr"].number_value == 0.01
    assert {value.name.tag for value in trial.metric_values} == measured


def test_what_is_varied_is_shown_with_the_value_that_the_run_had() -> None:
    settings = {
        "model": "gpt2-nano",
        "optimizer.lr": 0.003,
        "data.drop_incomplete": True,
        "scheduler": "none",
        "seed": 1,
    }
    varied = {"data.drop_incomplete": "true", "optimizer.lr": "auto", "data.path": "a.csv"}
    trial = Trial.of(settings, RunContext(Path("sweeps/0_x"), sweep=True, varied=varied))
    assert trial.varied == {"data.drop_incomplete": "true", "optimizer.lr": 0.003, "data.path": "a.csv"}
    assert trial.usual == {"model": "gpt2-nano", "seed": 1}
    assert Trial.of(settings, RunContext(Path("runs/one"))).name == "one"


def test_settings_tell_how_the_head_began() -> None:
    began = {
        data: describe_settings(compose([f"data={data}"]), RunContext(None)) for data in ("sample_sms", "sms_spam")
    }
    assert {data: settings["head_init"] for data, settings in began.items()} == {
        "sample_sms": "linear_probe",
        "sms_spam": "random",
    }
