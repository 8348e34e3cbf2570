"""Learning from texts without labels, by the real commands."""

import json
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import SMALL, Run, save_as_released
from safetensors.torch import load_file

from gpt_classifier import TextClassifier
from gpt_classifier.artifact import open_artifact
from gpt_classifier.commands import main as command
from gpt_classifier.commands.adapt import main
from gpt_classifier.config import compose
from gpt_classifier.data.prepare import fold
from gpt_classifier.errors import OptionError
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.pretraining import adaptation, learning
from gpt_classifier.pretraining.adaptation import TRANSDUCTIVE, hold_out, texts_of
from gpt_classifier.pretraining.learning import AdaptationModule
from gpt_classifier.training.build import load_data

SIZES = GPTConfig(vocab_size=8192, n_positions=64, n_embd=24, n_layer=2, n_head=2)
QUICK = ["adaptation.passes=2", "adaptation.lr=1e-2", "adaptation.batch_tokens=256"]


@pytest.fixture
def base(tmp_path: Path) -> list[str]:
    """Overrides of a tiny model with weights in a folder."""
    torch.manual_seed(1)
    folder = save_as_released(GPT(SIZES).initialise(), tmp_path / "base")
    sizes = [f"model.backbone.{name}={getattr(SIZES, name)}" for name in ("n_positions", "n_embd", "n_layer", "n_head")]
    return ["model=gpt2-nano", *sizes, f"model.weights={folder}"]


@pytest.fixture
def adapt(tmp_path: Path, base: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def run(*overrides: str, folder: str = "adapted") -> Path:
        place = tmp_path / folder
        given = ["trainer.accelerator=cpu", *base, *QUICK, f"hydra.run.dir={place}", *overrides]
        monkeypatch.setattr(sys, "argv", ["scripts/adapt.py", *given])
        main()
        return place

    return run


@pytest.fixture
def run(train: Callable[..., Run], base: list[str]) -> Callable[..., Run]:
    """Runs `train.py` on the tiny model, adapted first."""
    usual = [one for one in SMALL if not one.startswith(("model.", "evaluate", "trainer.max_epochs"))]
    usual += ["evaluate=final", "trainer.max_epochs=1", "logger.tensorboard=null"]
    return lambda *overrides, folder="run": train(*base, *QUICK, *overrides, folder=folder, base=usual)


def texts(number: int = 60) -> list[str]:
    draw = random.Random(0)
    words = ["see", "you", "at", "the", "lunch", "table", "when", "rain", "stops", "falling", "today"]
    return [f"{' '.join(draw.sample(words, 6))} {i}" for i in range(number)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines))
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_held_out_texts_get_likelier_and_train_takes_the_folder(
    adapt: Callable[..., Path], run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = adapt(f"data.path={write(tmp_path / 'texts.txt', texts())}") / "model"
    told = capsys.readouterr().out
    assert "54 texts" in told
    assert "held out 6 texts; at most 2 passes" in told
    assert "pass 1: held-out loss" in told
    card = (folder / "README.md").read_text()
    before, after = (float(line.split("|")[2].split()[0]) for line in card.splitlines() if "held-out loss" in line)
    assert after < before - 0.5
    assert json.loads((folder / "config.json").read_text())["n_embd"] == 24
    tuned = run(f"model.weights={folder}")
    assert TextClassifier.from_checkpoint(tuned.folder).predict(["hello"])[0] in ("ham", "spam")
    again = adapt(f"data.path={tmp_path / 'texts.txt'}", f"model.weights={folder}", folder="again")
    assert (again / "model" / "model.safetensors").is_file()


def test_texts_are_the_same_whatever_file_they_are_in_and_whatever_their_order(
    adapt: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first = adapt(f"data.path={write(tmp_path / 'texts.txt', texts())}")
    pd.DataFrame({"body": [*reversed(texts()), texts()[0]]}).to_csv(tmp_path / "texts.csv", index=False)
    assert "kept in" not in capsys.readouterr().out
    second = adapt(f"data.path={tmp_path / 'texts.csv'}", "data.text_column=body", folder="second")
    assert "kept in" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "cache")
    third = adapt(f"data.path={tmp_path / 'texts.txt'}", folder="third")  # computed anew
    assert "kept in" not in capsys.readouterr().out
    for folder in (second, third):
        for name, tensor in weights(first / "model").items():
            assert torch.equal(tensor, weights(folder / "model")[name]), name
    adapt(f"data.path={tmp_path / 'texts.txt'}", "adaptation.seed=5", folder="other")
    assert "kept in" not in capsys.readouterr().out


def test_weights_stay_as_they_were_where_no_pass_helps(
    adapt: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = write(tmp_path / "texts.txt", texts())
    folder = adapt(f"data.path={path}", "adaptation.lr=0", "adaptation.passes=9", "adaptation.patience=3")
    told = capsys.readouterr().out
    assert "no pass made held-out texts likelier" in told
    assert "pass 3" in told
    assert "pass 4" not in told
    for name, tensor in weights(tmp_path / "base").items():
        assert torch.equal(weights(folder / "model")[name], tensor), name


def test_patience_counts_passes_though_many_texts_are_measured_within_one(
    adapt: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "MOST_STEPS", 1)
    path = write(tmp_path / "texts.txt", texts())
    adapt(f"data.path={path}", "adaptation.lr=0", "adaptation.passes=9", "adaptation.patience=1")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("adapt    pass")]
    assert len(told) > 1
    assert told[-1].startswith("adapt    pass 1:")


def test_an_interruption_leaves_no_weights(
    adapt: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(module: AdaptationModule) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AdaptationModule, "_measured", interrupt)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        adapt(f"data.path={write(tmp_path / 'texts.txt', texts())}")
    assert not list((tmp_path / "adapted").rglob("*.safetensors*"))
    assert not list((tmp_path / "cache").rglob("*.safetensors*"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.weights=random"], "model: expected pretrained weights, but model.weights is random"),
        (["model.causal=false"], "model.causal: adapting predicts from earlier tokens alone"),
        (["data.path=few.txt"], "data.path: expected at least 10 different texts to learn from, but it is 2"),
        (["data.path=none.txt"], "data.path: .* there is no file none.txt"),
        (["adaptation.passes=0"], "adaptation.passes: expected a whole number of at least 1"),
        (["adaptation.val_fraction=1"], "adaptation.val_fraction: expected a number from 0.001 to 0.5"),
        (["trainer.precision=half"], "trainer.precision: expected"),
        (["data.path=texts.csv", "data.text_column=body"], r"data.text_column: expected a column of texts.csv"),
    ],
)
def test_what_cannot_be_adapted_is_told(
    adapt: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    overrides: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "few.txt", ["one", "two", "two"])
    write(tmp_path / "texts.csv", ["text", *texts()])
    texts_file = write(tmp_path / "texts.txt", texts())
    with pytest.raises(SystemExit) as caught:
        adapt(f"data.path={texts_file}", *overrides)
    assert caught.value.code == 1
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(expected, told), told
    assert not (tmp_path / "adapted" / "model").exists()


# as one step of a run


def test_a_run_learns_from_its_training_texts_first_and_its_checkpoint_needs_no_cache(
    run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    plain = run(folder="plain")
    assert "adaptation" not in plain.metrics
    adapted = run("data.adapt=train")
    facts = adapted.metrics["adaptation"]
    assert facts["of"] == "train"
    assert facts["after"] < facts["before"]
    assert facts["texts"] + facts["held_out"] <= len(set(adapted.texts("train")))
    assert adapted.metrics["best"]["test"]["loss"] != plain.metrics["best"]["test"]["loss"]
    assert adapted.metrics["settings"]["data.adapt"] == "train"
    expected = TextClassifier.from_checkpoint(adapted.folder).predict_proba(["hello you"])

    capsys.readouterr()
    seed = run("data.adapt=train", "seed=7", folder="seed")
    assert "kept in" in capsys.readouterr().out
    assert seed.metrics["adaptation"] == facts
    shutil.rmtree(tmp_path / "cache")
    moved = adapted.folder.rename(tmp_path / "moved")
    found = TextClassifier.from_checkpoint(moved).predict_proba(["hello you"])
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_was_found_in_the_cache_trains_as_what_was_computed(run: Callable[..., Run]) -> None:
    first, second = (run("data.adapt=train", "model.dropout=0.1", folder=name) for name in ("first", "second"))
    assert first.metrics["last"] == second.metrics["last"]


def test_a_run_is_resumed_with_the_weights_that_it_adapted(run: Callable[..., Run], tmp_path: Path) -> None:
    whole = run("data.adapt=train", "scheduler=none", "trainer.max_epochs=2", folder="whole")
    half = run("data.adapt=train", "scheduler=none", folder="half")
    shutil.rmtree(tmp_path / "cache")
    last = half.folder / "checkpoints" / "last.ckpt"
    resumed = run("data.adapt=train", "scheduler=none", "trainer.max_epochs=2", f"ckpt_path={last}", folder="resumed")
    assert resumed.metrics["best"] == whole.metrics["best"]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A table of which some rows have no label, and some are near-duplicates of others."""
    lines = [f"{text},{'ham' if i % 4 else 'spam'}" for i, text in enumerate(texts(80))]
    lines += [f"{text.upper()}!," for text in texts(40)]  # each the near-duplicate of a labelled one
    lines += [f"nobody labelled {'x' * (i + 1)}," for i in range(7)]
    return write(tmp_path / "labelled.csv", ["text,label", *lines])


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ([], 0),
        (["data.balance=undersample"], 28),
        (["data.balance=undersample_all"], 40),
        (["data.train_size=20"], 36),
        (["data.folds=4", "data.fold=1"], 0),
    ],
)
def test_what_is_left_out_is_learned_from_but_nothing_of_validation_or_test(
    labelled: Path, options: list[str], left: int
) -> None:
    given = ["model=gpt2-nano", "data=csv", f"data.path={labelled}", "data.drop_incomplete=true"]
    data = load_data(compose([*given, "data.batch_size=1", *options]))
    assert data.frame is not None
    train = data.frame.loc[data.frame["split"] == "train", "text"]
    tested = {fold(text) for text in data.frame.loc[data.frame["split"] != "train", "text"]}
    assert set(texts_of(data, "train", transductive=False)) == {text for text in train if fold(text) not in tested}

    chosen = set(texts_of(data, "all_unlabelled", transductive=False))
    assert not tested & {fold(text) for text in chosen}
    assert chosen >= {f"nobody labelled {'x' * (i + 1)}" for i in range(7)}
    lower = {text for text in chosen if text in texts(80)}
    assert len(lower - set(train)) == len({text for text in texts(80) if fold(text) not in tested} - set(train))
    assert left == 0 or len(lower - set(train)) > 0
    everything = set(texts_of(data, "all_unlabelled", transductive=True))
    assert everything >= set(data.frame["text"]) | chosen


def test_groups_and_times_of_validation_and_test_stay_out(tmp_path: Path) -> None:
    rows = [(text, "ham" if i % 4 else "spam", i // 8) for i, text in enumerate(texts(80))]
    pd.DataFrame(rows, columns=["text", "label", "place"]).to_csv(tmp_path / "rows.csv", index=False)
    given = ["model=gpt2-nano", "data=csv", f"data.path={tmp_path / 'rows.csv'}", "data.balance=undersample"]
    place = {text: place for text, _, place in rows}
    for how, column in (("grouped", "group"), ("time", "time")):
        data = load_data(compose([*given, f"data.split={how}", f"data.{column}_column=place", "data.batch_size=1"]))
        assert data.frame is not None
        tested = {place[text] for text in data.frame.loc[data.frame["split"] != "train", "text"]}
        chosen = {place[text] for text in texts_of(data, "all_unlabelled", transductive=False)}
        assert not tested & chosen
        assert how != "time" or max(chosen) < min(tested)


def test_near_duplicates_are_held_out_together() -> None:
    doubled = [*texts(40), *(text.upper() for text in texts(40))]
    out = hold_out(doubled, 0.1, seed=3)
    assert sum(out) >= 8
    assert out[:40] == out[40:]


def test_transductive_is_said_in_every_report(
    run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("data.adapt=train", "data.transductive=true")
    summary = capsys.readouterr().out
    assert summary.rindex(TRANSDUCTIVE) > summary.index("macro F1")
    assert TRANSDUCTIVE in result.metrics["data"]["note"]
    assert result.metrics["adaptation"]["transductive"]
    assert TRANSDUCTIVE in open_artifact(result.folder / "checkpoints" / "best.ckpt").spec.note
    command(["evaluate", "--checkpoint", str(result.folder)])
    page = (result.folder / "evaluation" / "report.html").read_text()
    assert "learned from the texts of validation and test too" in page


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.adapt=all"], "data.adapt: expected train or all_unlabelled, but it is all"),
        (["data.transductive=true"], "data.transductive: expected false where data.adapt says nothing"),
        (["data.adapt=train", "model.weights=random"], "data.adapt: expected pretrained weights"),
        (["data.adapt=train", "procedure=chapter"], "data.adapt: only procedure=usual adapts the model"),
        (["data.adapt=train", "data.train_size=9"], "data.adapt: expected at least 10 different texts"),
        (["data.adapt=train", "adaptation.rates=5"], "adaptation.rates: expected options"),
    ],
)
def test_what_a_run_cannot_adapt_is_told(
    run: Callable[..., Run], capsys: pytest.CaptureFixture, overrides: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit):
        run(*overrides)
    assert expected in capsys.readouterr().err


def test_an_encoder_is_refused_by_name(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        train("model=bert-base", "data=sample_sms", "data.adapt=train", base=[])
    assert "data.adapt: expected a GPT" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="model: expected a GPT"):
        main(["model=bert-base", f"data.path={tmp_path}/a.txt", f"hydra.run.dir={tmp_path / 'adapted'}"])


def test_fit_learns_from_its_texts_first_and_what_it_saves_needs_no_cache(
    base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [*base[1:-1], *QUICK, "data.adapt=train"]
    labels = ["ham", "spam"] * 30
    params = {"weights": tmp_path / "base", "device": "cpu", "epochs": 1, "progress": False, "precision": "32-true"}
    classifier = TextClassifier(overrides=given, **params).fit(texts(), labels)
    plain = TextClassifier(overrides=base[1:-1], **params).fit(texts(), labels)
    expected = classifier.predict_proba(["see you"])
    assert abs(expected - plain.predict_proba(["see you"])).max() > 1e-6
    shutil.rmtree(tmp_path / "cache")
    classifier.save(tmp_path / "saved")
    loaded = TextClassifier.load(tmp_path / "saved", precision="32-true")
    assert loaded.predict_proba(["see you"]) == pytest.approx(expected, abs=1e-5)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AdaptationModule, "_measured", interrupt)
    with pytest.raises(KeyboardInterrupt):  # not a SystemExit, which would end a notebook
        TextClassifier(overrides=[*given, "adaptation.seed=9"], **params).fit(texts(), labels)


def test_fit_learns_from_unlabelled_texts_too(base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[str] = []

    def watched(given: list[str], *arguments: Any) -> list[bool]:
        learned.extend(given)
        return hold_out(given, *arguments)

    monkeypatch.setattr(adaptation, "hold_out", watched)
    labels = ["ham", "spam"] * 30
    params = {"weights": tmp_path / "base", "device": "cpu", "epochs": 1, "validation": 0}
    classifier = TextClassifier(overrides=[*base[1:-1], *QUICK], **params)
    more = [f"nobody labelled {'x' * (i + 1)}" for i in range(9)]
    classifier.fit(texts(), labels, unlabelled=pd.Series(more, index=range(5, 14)))
    assert sorted(learned) == sorted([*texts(), *more])
    with pytest.raises(OptionError, match=r"unlabelled: expected str that are not empty, but it is '' in place 1"):
        classifier.fit(texts(), labels, unlabelled=["a", ""])
    classifier.set_params(overrides=[*base[1:-1], *QUICK, "data.adapt=train"])
    with pytest.raises(OptionError, match=r"data\.adapt: expected all_unlabelled where unlabelled is given"):
        classifier.fit(texts(), labels, unlabelled=more)


def test_weights_of_other_texts_make_room(
    adapt: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_classifier.pretraining.adapted.LIMIT", 600_000)
    for name, number in (("a", 40), ("b", 50)):
        adapt(f"data.path={write(tmp_path / f'{name}.txt', texts(number))}", folder=name)
    assert len(list((tmp_path / "cache" / "adapted").rglob("*.safetensors"))) == 1
    assert all((tmp_path / name / "model" / "model.safetensors").is_file() for name in ("a", "b"))


def test_damaged_weights_of_the_cache_are_computed_again(adapt: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path / "texts.txt", texts())
    first = weights(adapt(f"data.path={path}") / "model")
    kept = next((tmp_path / "cache" / "adapted").rglob("*.safetensors"))
    whole = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(whole[:-100])
    again = weights(adapt(f"data.path={path}", folder="again") / "model")
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


def test_bidirectional_classifiers_are_adapted_as_they_were_pretrained(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    learn = adaptation.learn
    monkeypatch.setattr(
        adaptation, "learn", lambda model, *rest: seen.append(model.config.causal) or learn(model, *rest)
    )
    result = run("data.adapt=train", "model.causal=false")
    assert seen == [True]
    assert result.metrics["adaptation"]["after"] < result.metrics["adaptation"]["before"]
