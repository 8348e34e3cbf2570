"""Training from Python, by itself and in scikit-learn's procedures."""

import logging
import pickle
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gpt_classifier import TextClassifier
from gpt_classifier.errors import UserError
from gpt_classifier.models.pooling import Pooling

TINY = ["model.backbone.n_layer=2", "model.backbone.n_embd=24", "model.backbone.n_head=2"]
WORDS = {"ham": "see you at lunch today friend", "spam": "win a free cash prize claim now"}


FRESH = ["head_init=random", "bag_of_tokens=false"]
"""A head that has to learn: a probe knows such texts at once."""


def messages(number: int = 24, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of two kinds that a few steps can tell apart."""
    draw = random.Random(seed)
    labels = [("ham", "spam")[i % 2] for i in range(number)]
    texts = [f"{' '.join(draw.sample(WORDS[label].split(), 4))} {i}" for i, label in enumerate(labels)]
    return texts, labels


def tiny(**params: Any) -> TextClassifier:
    given = {"weights": "random", "precision": "32-true", "device": "cpu", "epochs": 3, "lr": 1e-2, "freeze": "none"}
    given |= {"pooling": "last_token", "batch_size": 8}
    return TextClassifier(**{**given, "overrides": TINY, "progress": False, **params})


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return tiny(epochs=6).fit(*messages(48))


def test_fit_learns_and_returns_itself(fitted: TextClassifier) -> None:
    texts, labels = messages(seed=1)
    assert fitted.score(texts, labels) > 0.9
    classifier = tiny(epochs=1)
    assert classifier.fit(texts, labels) is classifier
    assert classifier.classes_.tolist() == ["ham", "spam"]
    assert {"epoch", "step", "examples"} <= set(classifier.history_[-1])
    assert any("val/accuracy" in point for point in classifier.history_)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([10, 9, 10, 9] * 6, np.int64),
        (["b", "a", "b", "a"] * 6, np.str_),
        ([True, False] * 12, np.bool_),
    ],
)
def test_labels_come_back_as_they_went_in(labels: list, dtype: type) -> None:
    texts, _ = messages()
    for given in (labels, np.array(labels), pd.Series(labels, index=range(100, 124))):
        classifier = tiny(epochs=1).fit(texts, given)
        assert classifier.classes_.tolist() == sorted(set(labels))
        predicted = classifier.predict(texts)
        assert predicted.dtype.type is dtype
        assert set(predicted.tolist()) <= set(labels)


def test_texts_may_be_arrays_and_series(fitted: TextClassifier) -> None:
    texts, _ = messages()
    expected = fitted.predict_proba(texts)
    for given in (np.array(texts), np.array(texts, dtype=object), pd.Series(texts, index=range(7, 31)), tuple(texts)):
        np.testing.assert_array_equal(fitted.predict_proba(given), expected)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (pd.DataFrame({"text": ["a", "b"]}), r"a DataFrame\. Give one of its columns, such as frame\['text'\]"),
        (np.array([["a"], ["b"]]), r"a ndarray of 2 dimensions\. Give one of its columns"),
        ({"text": ["a", "b"]}, r"a dict\. Give one of its columns, such as frame\['text'\]"),
        ({"a", "b"}, r"a set\. Make it a list"),
        ((text for text in "ab"), r"a generator\. Make it a list"),
        ("ab", r"a str\. Put it into a list"),
        (b"ab", r"a bytes\. Put it into a list"),
        (None, r"None\."),
        (7, r"a int\."),
    ],
)
def test_what_is_no_list_of_texts_is_told(fitted: TextClassifier, given: Any, found: str) -> None:
    expected = rf"^texts: expected a list, a numpy array of one dimension or a pandas Series, but it is {found}"
    assert fitted._predictor is not None
    for asked in (fitted.predict, fitted.predict_proba, fitted.logits, fitted._predictor.predict_proba):
        with pytest.raises(UserError, match=expected):
            asked(given)
    with pytest.raises(UserError, match=expected):
        fitted.score(given, ["ham", "spam"])
    with pytest.raises(UserError, match=expected):
        tiny().fit(given, ["ham", "spam"])
    with pytest.raises(UserError, match=expected.replace("texts", "labels")):
        tiny().fit(["a", "b"], given)


@pytest.mark.parametrize(
    ("labels", "weights", "expected"),
    [
        ([" ham", "spam"] * 12, None, r"labels: expected strings without white space or NUL at their ends, .*' ham'"),
        (["ham", "spam\0"] * 12, None, r"labels: expected strings without white space or NUL .*'spam\\x00'"),
        (["x", "x\ud800"] * 12, None, r"labels: .* no characters"),
        ([["x"], ["y"]] * 12, None, r"labels: expected strings, or whole numbers"),
        (["ham", "spam"] * 12, ["much"] * 24, r"sample_weight: expected 24 finite numbers .*: could not convert"),
    ],
)
def test_labels_and_weights_that_can_not_be_trained_with_are_told(labels: list, weights: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        tiny().fit(messages()[0], labels, weights)


def test_same_seed_gives_the_same_and_the_callers_random_state_stays() -> None:
    texts, labels = messages()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    first = tiny(seed=1, epochs=1).fit(texts, labels).predict_proba(texts)
    drawn = (torch.rand(1).item(), np.random.rand(), random.random())
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    assert drawn == (torch.rand(1).item(), np.random.rand(), random.random())
    np.testing.assert_array_equal(tiny(seed=1, epochs=1).fit(texts, labels).predict_proba(texts), first)
    assert not np.allclose(tiny(seed=2, epochs=1).fit(texts, labels).predict_proba(texts), first)


def test_weights_of_texts_and_classes_move_the_answer() -> None:
    texts, labels = messages()
    ambiguous = ["see a prize"] * 20
    mixed, sides = texts + ambiguous, labels + ["ham", "spam"] * 10
    weight = [1.0] * len(texts) + [20.0, 0.01] * 10

    def spam(classifier: TextClassifier) -> float:
        return float(classifier.predict_proba(["see a prize"])[0, 1])

    plain = spam(tiny().fit(mixed, sides))
    assert spam(tiny().fit(mixed, sides, sample_weight=weight)) < plain - 0.1
    assert spam(tiny(class_weight={"spam": 20.0}).fit(mixed, sides)) > plain + 0.1


def test_balanced_classes_count_alike() -> None:
    texts, labels = messages(80)
    skewed = [i for i in range(80) if labels[i] == "ham" or i < 10]  # five spam among forty ham
    fresh = [text for text, label in zip(*messages(20, seed=3), strict=True) if label == "spam"]
    found = [
        tiny(class_weight=weight, validation=0, epochs=2)
        .fit([texts[i] for i in skewed], [labels[i] for i in skewed])
        .predict_proba(fresh)[:, 1]
        .mean()
        for weight in ("balanced", None)
    ]
    assert found[0] > found[1] + 0.1


def test_without_validation_the_last_weights_are_kept() -> None:
    texts, labels = messages(4)
    classifier = tiny(validation=0, epochs=2, batch_size=2).fit(texts, labels)
    assert not any("val/accuracy" in point for point in classifier.history_)
    assert classifier.history_[-1]["epoch"] == 2


def test_best_epoch_by_validation_is_what_predicts() -> None:
    texts, labels = messages()
    classifier = tiny(lr=2e-3, epochs=8, validation=0.3, overrides=[*TINY, "scheduler=none", *FRESH]).fit(texts, labels)
    measured = [point["val/accuracy"] for point in classifier.history_ if "val/accuracy" in point]
    assert len(set(measured)) > 1, "a run whose epochs are all alike shows nothing"
    assert classifier.best_score_ == max(measured)


def test_saved_classifier_opens_elsewhere_and_predicts_the_same(fitted: TextClassifier, tmp_path: Path) -> None:
    texts, labels = messages(seed=2)
    fitted.save(tmp_path / "spam")
    again = TextClassifier.load(tmp_path / "spam", device="cpu", precision="32-true")
    np.testing.assert_allclose(again.predict_proba(texts), fitted.predict_proba(texts), atol=1e-6)
    assert again.predict(texts).tolist() == fitted.predict(texts).tolist()
    assert (again.model, again.freeze, again.pooling) == (fitted.model, fitted.freeze, fitted.pooling)
    numbers = tiny(epochs=1).fit(texts, [int(label == "spam") for label in labels])
    numbers.save(tmp_path / "numbers")
    assert TextClassifier.load(tmp_path / "numbers").predict(texts).dtype == np.int64


def test_adapters_on_released_weights_are_saved_whole(tmp_path: Path) -> None:
    texts, labels = messages()
    classifier = TextClassifier(freeze="lora", epochs=1, progress=False, precision="32-true").fit(texts, labels)
    classifier.save(tmp_path / "lora")
    again = TextClassifier.load(tmp_path / "lora", precision="32-true")
    np.testing.assert_allclose(again.predict_proba(texts), classifier.predict_proba(texts), atol=1e-5)


def test_fitted_classifier_can_be_pickled(fitted: TextClassifier) -> None:
    texts, _ = messages()
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(texts), fitted.predict_proba(texts))


class Attentive(Pooling):
    """A learned query."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.query = torch.nn.Linear(width, 1, bias=False)

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        weights = self.query(hidden)[:, :, 0].masked_fill(~real, -torch.inf).softmax(dim=-1)
        return torch.einsum("bt,btd->bd", weights, torch.where(real[:, :, None], hidden, 0.0))

    def state(self) -> dict[str, object]:
        return {"width": self.width}


@pytest.mark.parametrize("freeze", ["head_only", "last_block", "none"])
def test_pooling_of_a_users_own_is_trained_cached_and_saved(freeze: str, tmp_path: Path) -> None:
    texts, labels = messages()
    kept, computed = (
        tiny(pooling=Attentive, freeze=freeze, cache=cache, validation=0).fit(texts, labels)
        for cache in ("memory", False)
    )
    np.testing.assert_allclose(kept.predict_proba(texts), computed.predict_proba(texts), atol=1e-4)
    kept.save(tmp_path / "own")
    again = TextClassifier.load(tmp_path / "own", device="cpu", precision="32-true")
    np.testing.assert_allclose(again.predict_proba(texts), kept.predict_proba(texts), atol=1e-6)
    untrained = tiny(pooling=Attentive, freeze=freeze, lr=0.0, validation=0).fit(texts, labels)
    weights = [clf._predictor.model.pooling.query.weight for clf in (kept, untrained)]  # type: ignore[union-attr]
    assert not torch.equal(*weights)


def test_nothing_is_written_and_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GPT_CLASSIFIER_CACHE", str(tmp_path / "cache"))
    texts, labels = messages()
    tiny(freeze="last_block", epochs=1).fit(texts, labels).predict(texts)
    assert list(tmp_path.rglob("*")) == []
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


def test_logging_of_others_is_left_alone() -> None:
    levels = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "gpt_classifier", "")}
    texts, labels = messages()
    tiny(epochs=1).fit(texts, labels)
    assert levels == {name: logging.getLogger(name).level for name in levels}


def test_ctrl_c_leaves_a_usable_classifier_and_a_working_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpt_classifier.training.module import ClassifierModule

    texts, labels = messages()
    handler = signal.getsignal(signal.SIGINT)

    def press(epoch: int) -> None:
        begin = ClassifierModule.on_train_batch_start

        def interrupted(self: ClassifierModule, batch: Any, batch_idx: int) -> None:
            if self.current_epoch == epoch:
                raise KeyboardInterrupt
            begin(self, batch, batch_idx)

        monkeypatch.setattr(ClassifierModule, "on_train_batch_start", interrupted)

    press(epoch=2)
    classifier = tiny(epochs=9)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(texts, labels)
    assert classifier.predict(texts).shape == (24,)
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.undo()
    press(epoch=0)
    early = tiny()
    with pytest.raises(KeyboardInterrupt):
        early.fit(texts, labels)
    with pytest.raises(Exception, match="not fitted yet"):
        early.predict(texts)


@pytest.mark.parametrize(
    ("texts", "labels", "params", "message"),
    [
        ("one text", ["a"], {}, "texts: expected a list"),
        (pd.DataFrame({"text": ["a"]}), ["a"], {}, "texts: expected a list"),
        ((text for text in "ab"), ["a", "b"], {}, "texts: expected a list"),
        (["a", "b"], ["x"], {}, "labels: expected one for each of 2 texts"),
        (["a", " ", "c", "d"], list("xyxy"), {}, r"texts: expected str that are not empty, but it is ' ' in place 1"),
        (["a", None, "c", "d"], list("xyxy"), {}, "texts: expected str that are not empty, but it is None in place 1"),
        (["a", "b", "c", "d"], [1.5, 2.5] * 2, {}, "labels: expected strings, or whole numbers"),
        (["a", "b", "c", "d"], ["x"] * 4, {}, "at least two classes"),
        (*messages(), {"epochs": 0}, "^epochs: expected a whole number of at least 1"),
        (*messages(), {"lr": -1}, "^lr: expected a number of at least 0"),
        (*messages(), {"validation": 1.5}, "^validation: expected a number"),
        (*messages(), {"model": "gpt9"}, "model=gpt9: conf/model has no such file"),
        (*messages(), {"device": "abacus"}, "^device: expected cpu, cuda, mps or None"),
        (*messages(), {"precision": "8"}, "^precision: expected"),
        (*messages(), {"class_weight": "heavy"}, "^class_weight: expected"),
        (*messages(), {"class_weight": {"eggs": 1.0}}, "^class_weight: expected classes among ham, spam"),
    ],
)
def test_what_can_not_be_trained_on_is_told(texts: Any, labels: Any, params: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**params).fit(texts, labels)


# scikit-learn


def test_scikit_learns_checks_that_apply_pass() -> None:
    pytest.importorskip("sklearn")
    from sklearn.utils import estimator_checks as checks

    for check in (
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_do_not_raise_errors_in_init_or_set_params,
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_estimator_tags_renamed,
        checks.check_valid_tag_types,
    ):
        check("TextClassifier", TextClassifier())


def test_clone_has_the_parameters_and_nothing_learned(fitted: TextClassifier) -> None:
    sklearn = pytest.importorskip("sklearn")
    copied = sklearn.clone(fitted)
    assert copied.get_params() == fitted.get_params()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        copied.predict(["a"])
    assert "freeze='none'" in repr(copied)
    with pytest.raises(ValueError, match="Invalid parameter 'rate'"):
        copied.set_params(rate=1)


def test_procedures_of_scikit_learn_take_it() -> None:
    pytest.importorskip("sklearn")
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import StackingClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    texts, labels = messages()
    array = np.array(texts, dtype=object)
    assert cross_val_score(tiny(), texts, labels, cv=2).mean() > 0.7
    search = GridSearchCV(tiny(epochs=2, overrides=[*TINY, *FRESH]), {"lr": [0.0, 1e-2]}, cv=2).fit(texts, labels)
    assert search.best_params_ == {"lr": 1e-2}
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    assert make_pipeline(lower, tiny()).fit(texts, labels).score(texts, labels) > 0.7
    calibrated = CalibratedClassifierCV(tiny(), cv=2).fit(array, labels)
    assert calibrated.predict_proba(array).shape == (24, 2)
    words = make_pipeline(CountVectorizer(), LogisticRegression())
    stacked = StackingClassifier([("gpt", tiny()), ("words", words)], cv=2).fit(array, labels)
    assert stacked.score(array, labels) > 0.7


def test_refits_on_the_same_texts_start_from_cached_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpt_classifier.models.classifier import Classifier

    computed = []
    prefix = Classifier.prefix

    def counted(self: Classifier, ids: torch.Tensor, lengths: torch.Tensor, depth: int) -> torch.Tensor:
        computed.append(len(ids))
        return prefix(self, ids, lengths, depth)

    monkeypatch.setattr(Classifier, "prefix", counted)
    texts, labels = messages(26, seed=9)
    TextClassifier(epochs=1, progress=False).fit(texts, labels)
    assert sum(computed) == 26
    TextClassifier(epochs=1, progress=False, lr=1e-4, seed=7).fit(texts[::-1], labels[::-1])
    assert sum(computed) == 26
