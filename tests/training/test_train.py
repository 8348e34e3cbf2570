"""`python train.py`: what it leaves, and that it means what it says."""

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, SMALL, Run, save_as_released
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpt_classifier.config import compose
from gpt_classifier.data.batching import Batch
from gpt_classifier.data.prepare import SPLITS
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer
from gpt_classifier.training.build import build_module, build_trainer, load_data
from gpt_classifier.training.callbacks import BestWeights
from gpt_classifier.training.context import RunContext
from gpt_classifier.training.module import ClassifierModule


def command(*overrides: str, folder: Path, check: bool = True) -> subprocess.CompletedProcess:
    """The same training in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    arguments = [sys.executable, str(ROOT / "train.py"), *SMALL, f"hydra.run.dir={folder}", *overrides]
    return subprocess.run(
        arguments, cwd=folder.parent, env=environment, check=check, capture_output=True, text=True, timeout=300
    )


@pytest.mark.pictures
def test_run_leaves_everything_that_the_readme_names(train: Callable[..., Run], capsys: pytest.CaptureFixture) -> None:
    run = train()
    files = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    expected = ["config.yaml", "metrics.json", "loss.png", "accuracy.png", "confusion_matrix.png", "csv/metrics.csv"]
    expected += [f"splits/{split}.csv" for split in ("train", "val", "test")]
    expected += ["checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    assert set(expected) <= files
    assert not [name for name in files if name.endswith((".part", ".tmp"))]

    metrics = run.metrics
    sizes = {split: len(pd.read_csv(run.folder / "splits" / f"{split}.csv")) for split in ("train", "val", "test")}
    for stage in ("start", "last", "best"):
        assert {split: metrics[stage][split]["messages"] for split in sizes} == sizes
    assert metrics["start"]["epoch"] == 0
    assert metrics["last"]["epoch"] == 2
    assert metrics["best"]["val"]["accuracy"] >= metrics["last"]["val"]["accuracy"]
    assert metrics["last"]["train"]["accuracy"] > metrics["start"]["train"]["accuracy"]
    assert set(metrics["best"]["test"]["recall"]) == {"ham", "spam"}
    assert np.sum(metrics["best"]["test"]["confusion_matrix"]) == sizes["test"]

    printed = capsys.readouterr().out
    assert "trained  " in printed
    assert "synthetic" in printed
    assert f"{metrics['best']['test']['accuracy']:.2%}".replace("%", " %") in printed
    assert str(run.folder) in printed


@pytest.mark.pictures
def test_tensorboard_shows_curves_hyperparameters_figures_and_mistakes(train: Callable[..., Run]) -> None:
    run = train("optimizer.lr=1e-5", "trainer.log_every_n_steps=2")
    board = EventAccumulator(str(run.folder / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    scalars = {"train/running_loss", "train/running_accuracy", "val/loss", "val/accuracy", "val/recall/spam"}
    scalars |= {"test/auroc", "lr-AdamW", "best/test/accuracy"}
    assert scalars <= set(tags["scalars"])
    assert {"test/confusion_matrix", "val/precision_recall"} <= set(tags["images"])
    table = board.Tensors("test/misclassified/text_summary")[0].tensor_proto.string_val[0].decode()
    mistakes = run.metrics["best"]["test"]["messages"] * (1 - run.metrics["best"]["test"]["accuracy"])
    assert table.startswith(f"{round(mistakes)} misclassified messages")
    assert any("hparams" in tag for tag in board.summary_metadata)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["freeze=lora", "freeze.layers=[query,value,head]", "optimizer.lr=1e-2"],
        ["model.causal=false", "pooling=first_token"],
        ["model.causal=false", "pooling=padded_mean", "data.pad_to=train", "cache.enabled=false"],
    ],
)
def test_best_checkpoint_predicts_what_the_report_says(train: Callable[..., Run], overrides: list[str]) -> None:
    run = train("optimizer.lr=1e-2", *overrides)
    classifier = TextClassifier.from_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    test = pd.read_csv(run.folder / "splits" / "test.csv")
    accuracy = np.mean(np.array(classifier.predict(test["text"].tolist())) == test["label"])
    assert accuracy == pytest.approx(run.metrics["best"]["test"]["accuracy"])


@pytest.mark.parametrize("layers", ["[query,value]", "[mlp_output,head]"])
def test_lora_with_a_frozen_head_predicts_and_resumes(train: Callable[..., Run], tmp_path: Path, layers: str) -> None:
    config = GPTConfig(vocab_size=8192, n_positions=1024, n_embd=48, n_layer=2, n_head=6)
    weights = save_as_released(GPT(config).initialise(), tmp_path / "weights")
    options = [f"model.weights={weights}", "freeze=lora", f"freeze.layers={layers}", "freeze.train_head=false"]
    run = train(*options, "scheduler=none")
    classifier = TextClassifier.from_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    accuracy = classifier.score(run.texts("test"), run.labels("test"))
    assert accuracy == pytest.approx(run.metrics["best"]["test"]["accuracy"])
    first = train(*options, "scheduler=none", "trainer.max_epochs=1", folder="first")
    last = first.folder / "checkpoints" / "last.ckpt"
    resumed = train(*options, "scheduler=none", f"ckpt_path={last}", folder="resumed")
    unbroken, found = (each.checkpoint("last")["state_dict"] for each in (run, resumed))
    assert "model.head.weight" in unbroken
    assert all(torch.equal(unbroken[name], found[name]) for name in unbroken)


def test_lora_on_a_file_of_weights_keeps_its_adapters_alone_and_resumes(
    train: Callable[..., Run], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    config = GPTConfig(vocab_size=8192, n_positions=1024, n_embd=48, n_layer=2, n_head=6)
    weights = save_as_released(GPT(config).initialise(), tmp_path / "weights")
    options = [f"model.weights={weights}", "freeze=lora", "freeze.dropout=0.1", "freeze.rank=2", "scheduler=none"]
    run = train(*options)
    names = set(run.checkpoint()["state_dict"])
    assert {"model.head.weight", "model.backbone.h.0.attn.c_attn.lora_a"} <= names
    assert all("lora_" in name or name.startswith("model.head.") for name in names)
    classifier = TextClassifier.from_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    predicted = np.array(classifier.predict(run.texts("test"))) == run.labels("test")
    assert predicted.mean() == pytest.approx(run.metrics["best"]["test"]["accuracy"])

    first = train(*options, "trainer.max_epochs=1", folder="first")
    last = first.folder / "checkpoints" / "last.ckpt"
    resumed = train(*options, f"ckpt_path={last}", folder="resumed")
    unbroken, found = (each.checkpoint("last")["state_dict"] for each in (run, resumed))
    assert all(torch.equal(unbroken[name], found[name]) for name in unbroken)
    with pytest.raises(SystemExit):
        train(*options, "freeze.rank=3", f"ckpt_path={last}", folder="other")
    capfd.readouterr()
    with pytest.raises(SystemExit):
        train(*options[:1], "freeze=none", f"ckpt_path={last}", folder="other")
    assert "was trained with freeze lora " in capfd.readouterr().err


def test_same_seed_gives_the_same_weights_and_another_seed_does_not(train: Callable[..., Run]) -> None:
    first, second, other = (
        train(*options, folder=name).checkpoint("last")["state_dict"]
        for name, options in {"a": (), "b": (), "c": ("seed=7",)}.items()
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.head.weight"], other["model.head.weight"])


def test_only_what_is_trained_changes(train: Callable[..., Run]) -> None:
    states = [train(f"trainer.max_epochs={n}", folder=str(n)).checkpoint("last")["state_dict"] for n in (1, 2)]
    changed = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert changed
    assert {name.split(".")[1] for name in changed} == {"backbone", "head"}
    assert all(name.startswith(("model.backbone.h.1.", "model.backbone.ln_f.", "model.head.")) for name in changed)


def test_checkpoints_hold_plain_values_and_what_prediction_needs(train: Callable[..., Run]) -> None:
    run = train("data.pad_to=train", "pooling=padded_last_token", "scheduler=cosine")
    best, last = run.checkpoint("best"), run.checkpoint("last")  # both load with weights_only=True
    assert "optimizer_states" not in best
    assert last["optimizer_states"]
    spec = best["classifier"]
    assert spec["task"] == {"kind": "single_label", "classes": ["ham", "spam"]}
    assert spec["pad_to"] == spec["max_length"] == run.metrics["data"]["longest"]["train"]
    assert spec["pooling"] == {"name": "padded_last_token", "options": {}}
    assert spec["tokenizer"] == load_tokenizer("gpt2-nano").state()


def test_killed_and_resumed_run_ends_like_an_unbroken_one(train: Callable[..., Run], tmp_path: Path) -> None:
    options = ["trainer.max_epochs=4", "model.dropout=0.1", "scheduler=cosine", "freeze=none"]
    kill = "+callbacks.kill={_target_: kill.Kill, epoch: 2, batch: 3}"
    killed = command(*options, kill, folder=tmp_path / "killed", check=False)
    assert killed.returncode == -9
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    whole, resumed = train(*options, folder="whole"), train(*options, f"ckpt_path={last}", folder="resumed")
    for name in ("last", "best"):
        expected, found = whole.checkpoint(name)["state_dict"], resumed.checkpoint(name)["state_dict"]
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    for stage in ("start", "last", "best"):
        assert whole.metrics[stage] == resumed.metrics[stage]
    histories = [run.checkpoint("last")["progress"]["history"] for run in (whole, resumed)]
    assert histories[0] == histories[1]
    assert len([row for row in histories[0] if "val/loss" in row]) == 5


def test_two_processes_measure_what_one_does(train: Callable[..., Run], tmp_path: Path) -> None:
    # 36 validation messages in batches of 8 are five batches: two processes can't share them evenly
    options = ["optimizer.lr=3e-4", "freeze=last_block", "head_init=linear_probe", "bag_of_tokens=true"]
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    train(*options, f"cache.dir={tmp_path / 'cache-one'}", folder="one")
    command(*options, *ddp, f"cache.dir={tmp_path / 'cache-two'}", folder=tmp_path / "two")
    one, two = Run(tmp_path / "one").metrics, Run(tmp_path / "two").metrics
    # each message went through the frozen blocks in one process, once
    shards = [load_file(path) for path in (tmp_path / "cache-two").rglob("*.safetensors")]
    rows = [row.numpy().tobytes() for shard in shards for row in shard["ids"].split(shard["lengths"].tolist())]
    distinct = {text for split in ("train", "val", "test") for text in Run(tmp_path / "two").texts(split)}
    assert len(shards) == 2
    assert len(rows) == len(set(rows)) == len(distinct)
    for stage in ("start", "last", "best"):
        assert one[stage]["step"] == two[stage]["step"]
        for split in ("train", "val", "test"):
            assert one[stage][split]["messages"] == two[stage][split]["messages"]
            assert one[stage][split]["loss"] == pytest.approx(two[stage][split]["loss"], abs=1e-4)
            assert one[stage][split]["confusion_matrix"] == two[stage][split]["confusion_matrix"]
    histories = [Run(tmp_path / name).checkpoint("last")["progress"]["history"] for name in ("one", "two")]
    running = [[row["train/running_loss"] for row in rows if "train/running_loss" in row] for rows in histories]
    assert running[0] == pytest.approx(running[1], abs=1e-4)


def test_process_that_is_lost_is_told_by_the_others(tmp_path: Path) -> None:
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "evaluate=val"]
    kill = "+callbacks.kill={_target_: kill.Kill, epoch: 1, batch: 2, rank: 1}"
    ended = command(*ddp, kill, folder=tmp_path / "run", check=False)
    assert ended.returncode == 1
    assert "Another process of this run ended, or can't be reached." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert Run(tmp_path / "run").checkpoint("last")["epoch"] == 0


@pytest.mark.parametrize("pooling", ["first_token", "mean", "padded_mean"])
@pytest.mark.parametrize("freeze", ["head_only", "last_two_blocks", "none"])
def test_every_pooling_trains_with_every_freezing(train: Callable[..., Run], pooling: str, freeze: str) -> None:
    run = train(f"pooling={pooling}", f"freeze={freeze}", "trainer.max_epochs=1", "data.train_size=16")
    assert run.metrics["settings"]["pooling"] == pooling
    trained, frozen = run.metrics["parameters"]["trained"], run.metrics["parameters"]["frozen"]
    assert {"head_only": trained == 98, "last_two_blocks": frozen > trained / 3, "none": frozen == 0}[freeze]


def test_table_of_any_classes_trains_and_carries_their_names(train: Callable[..., Run], tmp_path: Path) -> None:
    rows = [(f"{word} {i} thing", stars) for i in range(20) for word, stars in (("bad", 1), ("so so", 3), ("good", 10))]
    pd.DataFrame(rows, columns=["body", "stars"]).to_csv(tmp_path / "reviews.csv", index=False)
    run = train(
        "data=csv",
        f"data.path={tmp_path / 'reviews.csv'}",
        "data.text_column=body",
        "data.label_column=stars",
        "data.train_size=null",
    )
    assert run.checkpoint()["classifier"]["task"]["classes"] == ["1", "3", "10"]
    assert run.metrics["data"]["splits"]["test"] == {"1": 4, "3": 4, "10": 4}
    assert len(run.metrics["best"]["test"]["confusion_matrix"]) == 3


@pytest.mark.pictures
def test_figures_of_many_classes_are_in_tables_beside_metrics(train: Callable[..., Run], tmp_path: Path) -> None:
    rows = [(f"word{i % 7} thing{i} {k}", f"class {i:02d}") for i in range(60) for k in range(5)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "many.csv", index=False)
    run = train("data=csv", f"data.path={tmp_path / 'many.csv'}", "data.train_size=null", "trainer.max_epochs=1")
    for split in ("val", "test"):
        metrics = run.metrics["best"][split]
        assert {"macro_f1", "balanced_accuracy", "auroc", "mcc"} <= set(metrics)
        assert not {"confusion_matrix", "precision", "recall", "f1", "support"} & set(metrics)
        table = pd.read_csv(run.folder / f"classes_{split}.csv")
        assert sorted(table["class"]) == sorted({label for _, label in rows})
        assert table["f1"].is_monotonic_increasing
        assert table["f1"].mean() == pytest.approx(metrics["macro_f1"])
        assert table["recall"].mean() == pytest.approx(metrics["balanced_accuracy"])
        assert table["support"].sum() == metrics["messages"]
        pairs = pd.read_csv(run.folder / f"confusions_{split}.csv")
        assert pairs["messages"].is_monotonic_decreasing
        assert pairs["messages"].sum() == round(metrics["messages"] * (1 - metrics["accuracy"]))
        assert metrics["confusion_pairs"] == pairs.head(100).to_numpy().tolist()
    assert run.metrics["data"]["splits"]["test"] == {"messages": 60, "classes": 60}
    assert (run.folder / "confusion_matrix.png").exists()
    board = EventAccumulator(str(run.folder / "tensorboard"))
    board.Reload()
    assert "val/macro_f1" in board.Tags()["scalars"]
    assert not [tag for tag in board.Tags()["scalars"] if "class 00" in tag]
    assert "test/misclassified/text_summary" in board.Tags()["tensors"]
    assert (run.folder / "metrics.json").stat().st_size < 100_000


def test_overlap_is_reported_and_warned_about(
    train: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pd.DataFrame({"text": ["Win 1", "Win 2", "hi"] * 10, "label": [1, 1, 0] * 10}).to_csv(
        tmp_path / "repeated.csv", index=False
    )
    run = train("data=csv", f"data.path={tmp_path / 'repeated.csv'}", "data.train_size=null")
    assert run.metrics["data"]["overlap"]["test"]["near"] == run.metrics["best"]["test"]["messages"]
    assert "test messages also occur in the training set" in capsys.readouterr().out


def test_sweep_runs_every_job_although_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    from train import main

    sweep = [f"hydra.sweep.dir={tmp_path}", "optimizer.eps=-1,1e-8,1e-6"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *SMALL, *sweep, "trainer.max_epochs=1"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    printed = capfd.readouterr()
    assert "optimizer: Invalid epsilon value: -1" in printed.out + printed.err
    assert "Traceback" not in printed.out + printed.err
    finished = sorted(path.parent for path in tmp_path.glob("*/metrics.json"))
    assert [path.name[0] for path in finished] == ["1", "2"]
    assert not any(set("=,") & set(path.name) for path in finished)


def test_sweep_with_several_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    from train import main

    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *SMALL, *ddp, f"hydra.sweep.dir={tmp_path}", "seed=1,2"])
    with pytest.raises(SystemExit):
        main()
    assert "2 processes and -m do not go together" in capfd.readouterr().err


def test_run_starts_from_any_folder_and_its_own_has_a_plain_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from train import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, "trainer.max_epochs=1"])
    main()
    (folder,) = (path.parent for path in tmp_path.glob("outputs/runs/*/*/metrics.json"))
    assert folder.name.endswith("_gpt2-nano_last_block_sample_sms")
    assert not set("=,") & set(str(folder.relative_to(tmp_path)))


@pytest.mark.parametrize("name", ["fast_dev_run", "overfit", "profiler"])
def test_debug_settings_do_what_they_are_for(train: Callable[..., Run], name: str) -> None:
    small = ["data.train_size=8", "data.batch_size=4", "trainer.max_epochs=30"] if name == "overfit" else []
    run = train(f"debug={name}", *small)
    if name == "fast_dev_run":
        assert run.metrics["last"]["step"] == 1
    if name == "overfit":
        assert run.metrics["last"]["train"]["accuracy"] == 1.0
    if name == "profiler":
        assert "run_training_batch" in next(run.folder.glob("*profile*.txt")).read_text()


def test_epoch_without_validation_shows_none(train: Callable[..., Run], capsys: pytest.CaptureFixture) -> None:
    train("+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3")
    epochs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert ["validation" in line for line in epochs] == [False, True, False]


def test_interrupted_run_says_how_to_go_on(train: Callable[..., Run], capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        train("+callbacks.stop={_target_: kill.Interrupt, epoch: 1, batch: 2}")
    assert exit_.value.code == 1
    printed = capfd.readouterr()
    assert "last.ckpt goes on from the last whole epoch" in printed.out
    assert "Traceback" not in printed.err


def test_early_stopping_ends_a_run_that_gets_no_better(train: Callable[..., Run]) -> None:
    run = train(
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=1",
        "+callbacks.early_stopping.min_delta=9",
        "trainer.max_epochs=9",
    )
    assert run.metrics["last"]["epoch"] == 2


def test_accumulated_small_batches_are_one_large_one(train: Callable[..., Run]) -> None:
    large = train("data.batch_size=16", "data.bucket_batches=1", folder="large")
    small = train("data.batch_size=4", "data.bucket_batches=1", "trainer.accumulate_grad_batches=4", folder="small")
    assert large.metrics["last"]["step"] == small.metrics["last"]["step"]
    weights = [run.checkpoint("last")["state_dict"]["model.head.weight"] for run in (large, small)]
    torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["trainer.precision=64"], "trainer.precision: expected auto, 32-true, bf16-mixed or 16-mixed, but it is 64"),
        (["trainer=gpu"], "trainer: Lightning refuses these settings"),
        (["optimizer.lr=fast"], "optimizer.lr: expected a number of at least 0, but it is fast"),
        (["data.batch_size=0"], "data.batch_size: expected a whole number"),
        (["data.batch_size=65"], "data.batch_size: expected at most 64, the number of training messages, but it is 65"),
        (["data.pad_to=wide"], "data.pad_to: expected batch, train, context or a number"),
        (
            ["data.pad_to=2000"],
            "data.pad_to: expected a whole number from 1 to 1024, but it is 2000. The model reads at most 1024 tokens",
        ),
        (["data.max_length=0"], "data.max_length: expected a whole number of at least 1, but it is 0"),
        (["data.max_length=2000"], "data.max_length: expected a whole number from 1 to 1024, but it is 2000"),
        (["data.max_length=long"], "data.max_length: expected a whole number of at least 1, but it is long"),
        (["data.bucket_batches=0"], "data.bucket_batches: expected a whole number of at least 1"),
        (["data.train_size=some"], "data.train_size: expected a number of at least 0, but it is some"),
        (["data.val_fraction=some"], "data.val_fraction: expected a number from 0 to 1"),
        (["data.split_seed=-1"], "data.split_seed: expected a whole number from 0"),
        (["seed=-1"], "seed: expected a whole number from 0"),
        (["freeze=last_n_blocks", "freeze.n=two"], "freeze.n: expected 1 to 2"),
        (["trainer.max_epochs=abc"], "trainer.max_epochs: expected a whole number of at least 1"),
        (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches: expected a whole number"),
        (["optimizer.weight_decay=-1"], "optimizer.weight_decay: expected a number of at least 0"),
        (["optimizer.betas=[1,2]"], "optimizer: Invalid beta parameter"),
        (["trainer.max_epochs=null"], "trainer.max_epochs: expected a whole number of at least 1, but it is None"),
        (["model.weights=null"], "model.weights: expected text, but it is None"),
        (["scheduler.warmup=2"], "scheduler.warmup: expected a number from 0 to 1"),
        (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val: expected a number of at least 0"),
        (["model.dropout=2"], "model.dropout: expected a number from 0 to 1"),
        (["model.backbone.n_head=5"], "model.backbone.n_head: expected a divisor of n_embd"),
        (["+trainer.limit_test_batches=1"], "trainer.limit_test_batches can't be set"),
        (["+trainer.overfit_batches=1"], "trainer.overfit_batches can't be set"),
        (["+trainer.accelerators=cpu"], "unexpected keyword argument 'accelerators'"),
        (["data.truncate=middle"], "data.truncate: expected head, tail, head_tail or error"),
        (["freeze=last_n_blocks", "freeze.n=3"], "freeze.n: expected 1 to 2"),
        (["model.weights=nowhere.pth"], "nowhere.pth does not exist"),
        (["model.weights=pretrained", "model.hub=null"], "no released weights"),
        (
            ["model=gpt2-small", "model.weights=pretrained", "model.tokenizer=gpt2-nano"],
            "experiment=quickstart needs no network",
        ),
        (["model.tokenizer=cl100k"], "model.tokenizer: expected gpt2, gpt2-nano or the path"),
        (["data=csv"], "Set data.path=FILE"),
        (["data=sms_spam", "data.path=nowhere.zip"], "data.path: expected the SMS Spam Collection's zip"),
        (
            ["data=sms_spam", "data.source.urls=[http://127.0.0.1:9/x.zip]"],
            "Set data.path= to a copy of the archive or of the file inside it. The bundled sample messages need no",
        ),
        (["ckpt_path=nowhere.ckpt"], "ckpt_path: there is no file nowhere.ckpt"),
        (["trainer.epochs=3"], "trainer.epochs: there is no such option. Did you mean trainer.max_epochs?"),
        (["model=gpt3"], "model=gpt3: conf/model has no such file."),
    ],
)
def test_users_mistake_is_told_in_a_paragraph(
    train: Callable[..., Run], capfd: pytest.CaptureFixture, tmp_path: Path, overrides: list[str], expected: str
) -> None:
    sizes = ["model.backbone.n_layer=2", "model.backbone.n_embd=48"]
    with pytest.raises(SystemExit) as exit_:
        train(*overrides, *([] if "model=gpt2-small" in overrides else sizes))
    assert exit_.value.code == 1
    printed = capfd.readouterr().err
    assert expected in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.rglob("checkpoints"))


def test_resuming_with_something_else_is_refused(train: Callable[..., Run], capfd: pytest.CaptureFixture) -> None:
    run = train("trainer.max_epochs=1")
    within = train("+trainer.max_steps=3", folder="within").folder / "checkpoints" / "last.ckpt"
    checkpoints = run.folder / "checkpoints"
    older = run.checkpoint("last")
    older["classifier"]["format"] = 2
    torch.save(older, checkpoints / "older.ckpt")
    (checkpoints / "cut.ckpt").write_bytes((checkpoints / "last.ckpt").read_bytes()[:9000])
    cases = {
        ("best.ckpt",): "holds weights only",
        ("cut.ckpt",): "is not a whole checkpoint",
        ("last.ckpt", "pooling=mean"): "was trained with pooling last_token, but this run has mean",
        ("last.ckpt", "freeze=none"): "was trained with freeze last_block n=1, but this run has none",
        ("last.ckpt", "data.split_seed=1"): "was trained with messages and their split",
        ("last.ckpt", "optimizer.lr=1e-5"): "lr=0.001",
        ("last.ckpt", "optimizer._target_=torch.optim.Adam"): "was trained with optimizer",
        ("older.ckpt",): "it was written by another version",
        ("last.ckpt", "scheduler=none"): "was trained with scheduler",
        ("last.ckpt", "seed=1"): "was trained with seed 123, but this run has 1",
        (str(within),): "was written in the middle of an epoch",
    }
    for (name, *overrides), expected in cases.items():
        with pytest.raises(SystemExit):
            train(f"ckpt_path={checkpoints / name}", *overrides, folder="resumed")
        assert expected in capfd.readouterr().err
    assert not (run.folder.parent / "resumed" / "splits").exists()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_missing_extra_is_named(train: Callable[..., Run], capfd: pytest.CaptureFixture, name: str) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(SystemExit):
        train(f"logger={name}")
    assert f'pip install -e ".[{name}]"' in capfd.readouterr().err


@pytest.mark.pictures
def test_run_that_diverges_still_reports(train: Callable[..., Run]) -> None:
    run = train("optimizer.lr=1e3", "trainer.max_epochs=3", "freeze=none", "optimizer.weight_decay=1e4")
    assert run.metrics["last"]["test"]["loss"] is None
    assert (run.folder / "loss.png").exists()


@pytest.mark.parametrize("how", ["+trainer.limit_val_batches=0", "+trainer.max_steps=2"])
def test_last_weights_are_the_best_where_nothing_was_validated(train: Callable[..., Run], how: str) -> None:
    run = train(how)
    assert run.metrics["best"] == run.metrics["last"]
    assert run.checkpoint("best")["state_dict"]


def test_final_metrics_and_hyperparameters_reach_the_csv_logger(train: Callable[..., Run]) -> None:
    run = train("freeze=last_n_blocks", "freeze.n=2")
    rows = pd.read_csv(run.folder / "csv" / "metrics.csv")
    assert rows["best/test/accuracy"].dropna().tolist() == [pytest.approx(run.metrics["best"]["test"]["accuracy"])]
    assert rows["test/loss"].dropna().iloc[-1] == pytest.approx(run.metrics["last"]["test"]["loss"], rel=1e-4)
    assert len(rows["train/epoch_loss"].dropna()) == 2
    settings = run.metrics["settings"]
    assert (settings["freeze.n"], settings["data.batch_size"], settings["optimizer.lr"]) == (2, 8, 1e-3)


def test_experiment_file_can_set_any_key(train: Callable[..., Run]) -> None:
    assert train("debug=overfit", "trainer.max_epochs=1").metrics["settings"]["data.train_size"] == 64  # given above
    assert compose(["debug=overfit"]).data.train_size == 16


def test_clipped_gradients_and_warm_up_hold_the_weights_back(train: Callable[..., Run]) -> None:
    def moved(*overrides: str) -> float:
        run = train("optimizer.eps=1", "optimizer.lr=0.1", "optimizer.weight_decay=0", *overrides)
        return (run.checkpoint("last")["state_dict"]["model.head.weight"] - still).norm().item()

    still = train("optimizer.lr=0").checkpoint("last")["state_dict"]["model.head.weight"]
    free = moved("scheduler=none")
    assert moved("trainer.gradient_clip_val=1e-4") < 0.01 * free
    assert moved("trainer.gradient_clip_val=1e-4", "trainer.precision=bf16-mixed") < 0.01 * free
    assert moved("scheduler.warmup=1.0", "scheduler.final=0") < 0.9 * free


def test_best_is_the_highest_accuracy_and_among_equals_the_lowest_loss(tmp_path: Path) -> None:
    saved = []
    module = SimpleNamespace(task=SingleLabel(["a", "b"]), predictions={"val": None}, measured=True)
    trainer = SimpleNamespace(
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        strategy=SimpleNamespace(broadcast=lambda value: value),
        fast_dev_run=False,
        save_checkpoint=lambda path, weights_only: saved.append((trainer.current_epoch + 1, path, weights_only)),
    )
    callback = BestWeights(str(tmp_path / "best.ckpt"))
    measured = [(math.nan, math.nan), (0.8, 0.5), (0.9, 0.6), (0.9, 0.4), (0.9, 0.4), (0.8, 0.1)]
    for epoch, (accuracy, loss) in enumerate(measured):
        trainer.current_epoch, trainer.global_step = epoch, 10 * (epoch + 1)
        module.evaluation = {"val": {"accuracy": accuracy, "loss": loss}}
        callback.on_validation_end(trainer, module)  # type: ignore[arg-type]
    assert saved == [(epoch, tmp_path / "best.ckpt", True) for epoch in (1, 2, 3, 4)]
    assert callback.best == {"epoch": 4, "step": 40, "metrics": {"accuracy": 0.9, "loss": 0.4}}


@pytest.mark.parametrize(
    ("evaluate", "start", "last", "best"),
    [
        ("all", SPLITS, SPLITS, SPLITS),
        ("final", (), ("val",), ("val", "test")),
        ("auto", (), ("val",), ("val", "test")),
        ("val", (), ("val",), ("val",)),
        ("never", (), (), ()),
    ],
)
def test_what_is_measured_is_what_was_asked(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, evaluate: str, start: tuple, last: tuple, best: tuple
) -> None:
    run = train(f"evaluate={evaluate}", "optimizer.lr=1e-2", "trainer.max_epochs=3")
    stages = {"start": start, "last": last, "best": best}
    for stage, splits in stages.items():
        assert set(SPLITS) & set(run.metrics.get(stage, {})) == set(splits)
    assert run.checkpoint("best")["state_dict"]
    drawn = set(pd.read_csv(run.folder / "csv" / "metrics.csv").columns)
    assert ("test/loss" in drawn) == ("test" in best)
    assert ("val/loss" in drawn) == ("val" in last)
    printed = capsys.readouterr().out
    assert ("before training" in printed) == bool(start)
    expected = [line for line in printed.splitlines() if line.startswith("best (epoch")]
    assert bool(expected) == bool(best)
    for split in best:
        assert f"{100 * run.metrics['best'][split]['accuracy']:.2f} %" in expected[0]


def test_each_split_is_passed_as_often_as_is_asked(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []
    predict = ClassifierModule._predict

    def counted(self: ClassifierModule, batch: Batch) -> None:
        passed.extend([batch.split] * len(batch.indices))
        predict(self, batch)

    monkeypatch.setattr(ClassifierModule, "_predict", counted)
    run = train("evaluate=final", "trainer.max_epochs=3")
    sizes = {split: len(run.texts(split)) for split in SPLITS}
    assert passed.count("val") == 3 * sizes["val"]
    assert passed.count("test") == sizes["test"]
    assert "train" not in passed


def test_a_sweep_shows_no_test_figures_unless_asked(train: Callable[..., Run], tmp_path: Path) -> None:
    for name, asked in (("quiet", ["evaluate=auto"]), ("asked", ["evaluate=final"])):
        sweep = [f"hydra.sweep.dir={tmp_path / name}", "hydra.sweep.subdir=one"]
        train("seed=1", *asked, *sweep, base=["-m", *SMALL])
        drawn = (tmp_path / name / "one" / "csv" / "metrics.csv").read_text()
        assert ("test/" in drawn) == (name == "asked")


@pytest.mark.parametrize("freeze", ["last_block", "head_only"])
def test_validation_alone_and_before_training_reads_the_validation_split(
    train: Callable[..., Run], freeze: str
) -> None:
    run = train(f"freeze={freeze}", "trainer.max_epochs=1")
    checked = train(f"freeze={freeze}", "trainer.max_epochs=1", "trainer.num_sanity_val_steps=2", folder="checked")
    assert checked.metrics["best"] == run.metrics["best"]
    config = compose([*SMALL, f"freeze={freeze}", f"run_dir={run.folder}"])
    context = RunContext(folder=run.folder)
    trainer, data = build_trainer(config, context), load_data(config)
    module = build_module(config, trainer, data)
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    trainer.validate(module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    found, expected = module.evaluation["val"], run.metrics["best"]["val"]
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    assert found["confusion_matrix"] == expected["confusion_matrix"]


def test_resuming_compares_what_would_make_it_another_run(
    train: Callable[..., Run], capfd: pytest.CaptureFixture
) -> None:
    run = train("trainer.max_epochs=1")
    last = run.folder / "checkpoints" / "last.ckpt"
    for override, expected in {
        "trainer.max_epochs=2": "was trained with trainer.max_epochs 1, but this run has 2",
        "trainer.precision=bf16-mixed": "was trained with trainer.precision 32-true, but this run has bf16-mixed",
        "cache.dtype=int8": "was trained with cache.dtype auto, but this run has int8",
        "trainer.gradient_clip_val=1.0": "was trained with trainer.gradient_clip_val None, but this run has 1.0",
        "data.truncate=tail": "was trained with data.truncate head, but this run has tail",
        "data.pad_to=200": "was trained with data.pad_to batch, but this run has 200",
    }.items():
        with pytest.raises(SystemExit):
            train("trainer.max_epochs=1", f"ckpt_path={last}", override, folder="resumed")
        assert expected in capfd.readouterr().err


def test_a_run_without_a_schedule_may_go_on_for_longer(train: Callable[..., Run]) -> None:
    run = train("scheduler=none", "trainer.max_epochs=1")
    last = run.folder / "checkpoints" / "last.ckpt"
    longer = train("scheduler=none", "trainer.max_epochs=2", f"ckpt_path={last}", folder="longer")
    assert longer.metrics["last"]["epoch"] == 2


def test_cosine_warms_up_and_comes_down(train: Callable[..., Run]) -> None:
    run = train("optimizer.lr=0.1", "scheduler.warmup=0.25", "scheduler.final=0.1", "trainer.log_every_n_steps=1")
    rates = pd.read_csv(run.folder / "csv" / "metrics.csv")["lr-AdamW"].dropna().tolist()
    steps = len(rates)
    expected = [(step + 1) / (steps / 4) for step in range(steps // 4)]
    for step in range(steps - steps // 4):
        expected.append(0.1 + 0.9 * (1 + math.cos(math.pi * step / (steps - steps // 4))) / 2)
    assert rates == pytest.approx([0.1 * factor for factor in expected])
