"""Cross-fitting: what may be in which fold, one cache for all, and what is left of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gpt_classifier
from gpt_classifier import TextClassifier, crossfit
from gpt_classifier.activations.frozen_prefix import FrozenPrefix
from gpt_classifier.activations.memory_cache import clear_memory_cache
from gpt_classifier.commands import main
from gpt_classifier.crossfitting import run
from gpt_classifier.crossfitting.folds import inseparable
from gpt_classifier.crossfitting.out_of_fold import OutOfFold
from gpt_classifier.data.prepare import fold
from gpt_classifier.errors import UserError

SMALL = ["model.backbone.n_layer=2", "model.backbone.n_embd=24", "model.backbone.n_head=2"]
WORDS = {"ham": ("lunch", "dinner", "bus"), "spam": ("prize", "cash", "winner")}
TEXTS = [f"{WORDS[label][i % 3]} {'abcdefghij'[i % 10]} {'klmnopq'[i % 7]}" for i in range(70) for label in WORDS]
LABELS = list(WORDS) * 70


def tiny(**params: Any) -> TextClassifier:
    given = {"weights": "random", "precision": "32-true", "device": "cpu", "epochs": 1, "batch_size": 8}
    return TextClassifier(**{**given, "overrides": SMALL, "progress": False, **params})


@pytest.fixture
def prepared_data(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The prepared messages of each fold's run."""
    found: list[Any] = []
    train = run.train

    def spy(*arguments: Any) -> Any:
        result = train(*arguments)
        found.append(result.data)
        return result

    spy.__module__, spy.__name__ = train.__module__, train.__name__
    monkeypatch.setattr(run, "train", spy)
    return found


def test_near_duplicates_and_groups_are_joined_by_what_they_share() -> None:
    frame = pd.DataFrame({"text": ["Win 100!", "win 7", "lunch", "dinner", "Dinner!", "bus"]})
    assert len(set(inseparable(frame))) == 4
    assert inseparable(frame)[0] == inseparable(frame)[1]
    grouped = inseparable(frame.assign(group=["a", "b", "b", "c", "d", "e"]))
    assert grouped[0] == grouped[1] == grouped[2]  # b and a by "win", lunch is b's
    assert grouped[3] == grouped[4]
    assert len(set(grouped)) == 3


def test_no_model_is_trained_on_what_it_predicts_or_on_something_like_it(prepared_data: list[Any]) -> None:
    texts = [*TEXTS, *(text.upper() + "!" for text in TEXTS[:40])]
    labels = [*LABELS, *LABELS[:40]]
    groups = [i // 2 for i in range(140)] + list(range(1000, 1040))
    found = crossfit(texts, labels, folds=3, groups=groups, classifier=tiny())
    tested: list[str] = []
    for data in prepared_data:
        seen = pd.concat([data.split_frame("train"), data.split_frame("val")])
        test = data.split_frame("test")
        assert not set(test["text"].map(fold)) & set(seen["text"].map(fold))
        assert not {groups[row] for row in test["row"]} & {groups[row] for row in seen["row"]}
        assert 0.35 < (test["label"] == "ham").mean() < 0.65
        tested += test["text"].tolist()
    assert sorted(tested) == sorted(texts)
    assert [
        data.split_frame("test")["row"].isin(np.flatnonzero(found.fold == i)).all()
        for i, data in enumerate(prepared_data)
    ] == [True] * 3


def test_activations_are_computed_once_for_all_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_memory_cache()
    computed: list[int] = []
    compute = FrozenPrefix._compute_shard

    def count(self: FrozenPrefix, rows: list[np.ndarray], *rest: Any) -> Any:
        computed.append(len(rows))
        return compute(self, rows, *rest)

    monkeypatch.setattr(FrozenPrefix, "_compute_shard", count)
    crossfit(TEXTS, LABELS, folds=4, classifier=tiny())
    assert sum(computed) == len(set(TEXTS))


def test_labels_come_back_as_they_went_in_and_rows_are_those_of_the_texts() -> None:
    numbers = [{"ham": 9, "spam": 10}[label] for label in LABELS]
    found = crossfit(TEXTS, numbers, folds=2, classifier=tiny(epochs=6), baselines=["words", "naive_bayes"])
    assert found.classes.tolist() == [9, 10]
    assert found.probabilities.shape == (140, 2)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert found.predicted.tolist() == found.classes[found.probabilities.argmax(axis=1)].tolist()
    assert (found.predicted == numbers).mean() > 0.9
    assert found.accuracy.mean == pytest.approx(
        np.mean([(found.predicted == numbers)[found.fold == i].mean() for i in range(2)])
    )
    for baseline in found.baselines.values():
        assert (baseline.fold == found.fold).all()
        assert baseline.spread("accuracy").mean > 0.9
        np.testing.assert_allclose(baseline.probabilities.sum(axis=1), 1, atol=1e-5)
    assert isinstance(gpt_classifier.crossfit, type(crossfit))


def test_a_class_that_a_fold_leaves_nothing_of_is_improbable_there() -> None:
    texts = [*TEXTS, *(f"zebra zebra {'a' * i}!" for i in range(4))]
    labels = [*LABELS, *["rare"] * 4]
    found = crossfit(texts, labels, folds=2, groups=[*range(140), *["one"] * 4], classifier=tiny(), baselines=["words"])
    words = found.baselines["words"]
    assert words.class_names == ["ham", "rare", "spam"]
    assert words.probabilities[-4:, 1].max() < 0.01


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"id": [f"m{i}" for i in range(140)], "row": 7, "body": TEXTS, "topic": LABELS})
    table.loc[3, "topic"] = None
    table.to_csv("messages.csv", index=False)
    return Path("messages.csv")


COMMAND = [
    *("crossfit", "model=gpt2-nano", "model.weights=random", *SMALL, "trainer=cpu", "trainer.precision=32-true"),
    *("data=csv", "data.path=messages.csv", "data.text_column=body", "data.label_column=topic"),
    *("data.drop_incomplete=true", "data.folds=2", "trainer.max_epochs=1", "hydra.run.dir=found"),
]


def test_the_command_leaves_probabilities_with_row_numbers_and_other_columns(messages: Path) -> None:
    main(COMMAND)
    table = pd.read_csv("found/out_of_fold.csv")
    assert table["row"].tolist() == [0, 1, 2, *range(4, 140)]
    assert table["id"].tolist() == [f"m{i}" for i in table["row"]]
    assert (table["extra.row"] == 7).all()
    assert table["text"].tolist() == [TEXTS[i] for i in table["row"]]
    assert (table[["probability_ham", "probability_spam"]].sum(axis=1) - 1).abs().max() < 1e-5
    assert (pd.read_csv("found/baseline_words.csv")["fold"] == table["fold"]).all()
    numbers = json.loads(Path("found/crossfit.json").read_text())
    folds = numbers["model"]["folds"]
    assert [one["messages"] for one in folds] == table.groupby("fold").size().tolist()
    assert numbers["model"]["accuracy"]["mean"] == pytest.approx(np.mean([one["accuracy"] for one in folds]))
    assert 0 <= numbers["model"]["calibration_error"] <= 1
    assert numbers["baselines"]["words"]["chosen"][0]
    assert Path("found/calibration.png").stat().st_size
    told = Path("found/crossfit.log").read_text()
    assert "fold 2/2" in told
    assert "means of 2 folds" in told
    read = OutOfFold.read(Path("found/out_of_fold.csv"))
    np.testing.assert_allclose(read.probabilities, table[["probability_ham", "probability_spam"]], atol=1e-5)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("data.test_path=messages.csv", "expected messages that can all be cut into folds"),
        ("data.balance=undersample_all", "data.balance: expected a way that leaves every message in its fold"),
        ("data.split=stratified", "data.split: expected grouped, as near-duplicates have to be in one fold"),
        ("data.folds=1", "data.folds: expected a whole number from 2 to 139, but it is 1"),
        ("data.folds=null", "data.folds: expected a whole number of at least 2, but it is None"),
        ("data.val_fraction=0", "data.val_fraction: expected above 0, as validation chooses baselines"),
        ("baselines=words", "baselines: expected a list"),
        ("baselines=[wrods]", "baselines.family: expected linear, majority"),
        ("trainer.devices=2", "trainer.devices: expected 1, as folds are trained in one process"),
        ("procedure=baseline", "procedure: expected usual"),
    ],
)
def test_what_can_not_be_cross_fitted_is_refused(
    option: str, told: str, messages: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*COMMAND, option])
    assert stopped.value.code == 1
    assert told in " ".join(capsys.readouterr().err.split())
    assert not Path("found/out_of_fold.csv").exists()


def test_an_interrupted_fold_ends_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    train, runs = run.train, []

    def interrupted(*arguments: Any) -> Any:
        runs.append(1)
        return replace(train(*arguments), interrupted=True)

    interrupted.__module__, interrupted.__name__ = train.__module__, train.__name__
    monkeypatch.setattr(run, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        crossfit(TEXTS, LABELS, folds=2, classifier=tiny())
    assert len(runs) == 1


def test_python_names_its_own_parameters() -> None:
    with pytest.raises(UserError, match=r"^folds: expected a whole number of at least 2, but it is 1"):
        crossfit(TEXTS, LABELS, folds=1)
    with pytest.raises(UserError, match=r"^folds: expected a whole number from 2 to 140, but it is 500"):
        crossfit(TEXTS, LABELS, folds=500, classifier=tiny())
    with pytest.raises(UserError, match=r"^groups: expected as many as there are texts"):
        crossfit(TEXTS, LABELS, groups=[1, 2])
    with pytest.raises(UserError, match=r"^labels: expected one for each"):
        crossfit(TEXTS, LABELS[:3])
