"""Classifiers as ONNX: the same probabilities at any length, opened without torch."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoders import ENCODERS, config_of, write_bert

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from gpt_classifier import TextClassifier
from gpt_classifier.artifact import pooling_state, save_bundle
from gpt_classifier.errors import UserError
from gpt_classifier.export.onnx import export, graph
from gpt_classifier.families import FAMILIES
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.models.backbone import Backbone
from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.lora import LoRA, add_adapters
from gpt_classifier.models.pooling import Max, Pooling, find_pooling
from gpt_classifier.spec import Spec
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer

VOCABULARY = 8192
SPEC = Spec(
    backbone={},
    pooling={},
    tokenizer=load_tokenizer("gpt2-nano").state(),
    task=SingleLabel(["10", "9", "8"]).state(),
    max_length=40,
    pad_to="batch",
    truncate="head_tail",
    temperature=1.7,
    note="Made up.",
    whole_numbers=True,
)
WITHOUT_TORCH = """
import json, sys
sys.modules["torch"] = sys.modules["lightning"] = sys.modules["pandas"] = sys.modules["transformers"] = None
from gpt_classifier import TextClassifier
folder, texts = sys.argv[1], json.loads(sys.argv[2])
classifier = TextClassifier.load(folder)
found = {"probabilities": classifier.predict_proba(texts).tolist(), "labels": classifier.predict(texts).tolist()}
for name, act in {
    "fit": lambda: classifier.fit(texts, texts),
    "save": lambda: classifier.save(folder + "2"),
    "checkpoint": lambda: TextClassifier.load(sys.argv[3]),
}.items():
    try:
        act()
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


class Largest(Pooling):
    """What a user might write."""

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return Max()(hidden, lengths).abs()


def gpt(causal: bool = True, n_positions: int = 40, n_layer: int = 2) -> GPT:
    return GPT(GPTConfig(VOCABULARY, n_positions, 16, n_layer, 2, causal=causal)).initialise()


def classifier_of(
    folder: Path, backbone: Backbone, pooling: Pooling, words: bool = False, lora: bool = False, **options: Any
) -> TextClassifier:
    """An opened classifier with random weights of such a size that its probabilities differ between texts."""
    model = Classifier(backbone, pooling, 3)
    if words:
        model.words = BagOfTokens(backbone.vocab_size, 3)
        model.words.count([np.arange(0, backbone.vocab_size, 2), np.arange(0, backbone.vocab_size, 3)])
        model.words.weight.normal_()
    if lora:
        add_adapters(model, LoRA(2, 4.0, "alpha", "rank", 0.1, ["query", "mlp_output", "head"]))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    spec = replace(SPEC, backbone=backbone.state(), pooling=pooling_state(pooling), lora=model.lora, **options)
    save_bundle(folder, spec, model)
    return TextClassifier.load(folder, precision="32-true", device="cpu")


def random_rows(vocab_size: int, longest: int, number: int = 64) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    lengths = [1, 2, longest, longest - 1, *draw.integers(1, longest + 1, number - 4)]
    # half of the tokens are of a few, so that some occur several times
    return [draw.integers(0, draw.choice([5, vocab_size]), n).astype(np.int32) for n in lengths]


def random_texts(number: int) -> list[str]:
    draw = random.Random(0)
    alphabets = [
        "ab c",
        "etaoin shrdlu",
        "0123456789 £$€",
        "\t\n  \u3000x",
        "äöüß éñ",
        "мир 你好 世界",
        "🙂🚀 👩‍👩‍👧‍👧",
        "<|endoftext|>[MASK]\x00\x07",
    ]
    texts = []
    while len(texts) < number:
        alphabet = "".join(draw.sample(alphabets, draw.randint(1, 3)))
        text = "".join(draw.choices(alphabet, k=int(draw.paretovariate(0.7)) % 400 + 1))
        texts += [text] if text.strip() else []
    return texts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TextClassifier:
    torch.manual_seed(0)
    return classifier_of(tmp_path_factory.mktemp("trained") / "bundle", gpt(), Max(), words=True)


@pytest.fixture(scope="module")
def exported(trained: TextClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export(trained, folder)
    return folder


@pytest.mark.parametrize(
    ("pooling", "options", "made"),
    [
        ("last_token", {}, {"causal": True}),
        ("last_token", {}, {"causal": False}),
        ("mean", {}, {"causal": False, "lora": True}),
        ("padded_last_token", {}, {}),
        ("padded_mean", {}, {"causal": False, "pad_to": 45}),
        ("windows", {"inner": "max", "size": 8, "overlap": 3}, {"words": True}),
        ("windows", {"inner": "mean", "size": 8, "overlap": 0}, {"causal": False}),
        ("windows", {"inner": "last_token", "size": 8, "overlap": 3}, {"pad_to": 50}),
        ("own", {}, {}),
    ],
    ids=str,
)
def test_logits_are_those_of_torch(pooling: str, options: dict[str, Any], made: dict[str, Any], tmp_path: Path) -> None:
    backbone = gpt(made.pop("causal", True), n_positions=50, n_layer=1)
    module = Largest() if pooling == "own" else find_pooling(pooling)(**options)
    classifier = classifier_of(tmp_path / "bundle", backbone, module, **made)
    export(classifier, tmp_path / "onnx")
    found, expected = TextClassifier.load(tmp_path / "onnx")._fitted(), classifier._fitted()
    rows = random_rows(VOCABULARY, 45)
    assert_same(found.logits(rows), expected.logits(rows))


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.ptp(expected, axis=0).min() > 1e-3  # texts differ
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lengths_up_to_the_context_of_gpt2(tmp_path: Path) -> None:
    classifier = classifier_of(
        tmp_path / "bundle", gpt(n_positions=1024, n_layer=1), Max(), words=True, max_length=1024
    )
    export(classifier, tmp_path / "onnx")
    rows = random_rows(VOCABULARY, 1024, number=12)
    assert_same(TextClassifier.load(tmp_path / "onnx")._fitted().logits(rows), classifier._fitted().logits(rows))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name: str, tmp_path: Path) -> None:
    layers = "n_layers" if name == "distilbert" else "num_hidden_layers"
    config = config_of(name, **{layers: 2 if name == "modernbert" else 1})  # whose second block sees a window alone
    backbone, _ = FAMILIES["encoder"].load(config, None)
    tokenizer = load_tokenizer(str(write_bert(tmp_path / "bert", ["a few words of a text"] * 3))).state()
    pooling = find_pooling("first_token")()
    longest = 36
    classifier = classifier_of(tmp_path / "bundle", backbone, pooling, tokenizer=tokenizer, max_length=longest)
    export(classifier, tmp_path / "onnx")
    rows = random_rows(backbone.vocab_size, longest)
    assert_same(TextClassifier.load(tmp_path / "onnx")._fitted().logits(rows), classifier._fitted().logits(rows))


def test_texts_are_read_as_torch_reads_them(trained: TextClassifier, exported: Path) -> None:
    texts = random_texts(2000)
    opened = TextClassifier.load(exported)
    expected = trained.predict_proba(texts)
    np.testing.assert_allclose(opened.predict_proba(texts), expected, atol=1e-5)
    assert (opened.predict(texts) == trained.predict(texts)).all()
    assert opened.classes_.tolist() == trained.classes_.tolist() == [8, 9, 10]
    assert opened.temperature == 1.7
    assert opened.note == "Made up."
    assert opened.predict_proba([]).shape == (0, 3)
    with pytest.raises(UserError, match="text 2 of 2 is empty"):
        opened.predict(["a", " "])


def test_real_messages(trained: TextClassifier, exported: Path, sms_file: Path) -> None:
    texts = [line.partition("\t")[2] for line in sms_file.read_text(encoding="utf-8").splitlines()[:500]]
    expected = trained.predict_proba(texts)
    np.testing.assert_allclose(TextClassifier.load(exported).predict_proba(texts), expected, atol=1e-5)


def test_it_opens_without_torch(trained: TextClassifier, exported: Path, tmp_path: Path) -> None:
    trained.save(tmp_path / "bundle")
    texts = ["see you at five", "WINNER!! " * 50]
    arguments = [str(exported), json.dumps(texts), str(tmp_path / "bundle")]
    ran = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    np.testing.assert_allclose(found["probabilities"], trained.predict_proba(texts), atol=1e-5)
    assert found["labels"] == trained.predict(texts).tolist()
    assert "UserError: fit needs" in found["fit"]
    assert "pip install" in found["fit"]
    assert "UserError: This TextClassifier was opened from an export to ONNX" in found["save"]
    assert "UserError: opening a checkpoint needs" in found["checkpoint"]


def test_int8_is_smaller_and_near(trained: TextClassifier, exported: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "int8", int8=True)
    sizes = [(folder / "model.onnx").stat().st_size for folder in (tmp_path / "int8", exported)]
    assert sizes[0] < 0.6 * sizes[1]  # the bag of tokens stays as it is
    texts = random_texts(200)
    apart = np.abs(TextClassifier.load(tmp_path / "int8").predict_proba(texts) - trained.predict_proba(texts))
    assert 0 < apart.max() < 0.05


def test_predict_takes_the_folder(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from gpt_classifier.commands.predict import main

    main(["--checkpoint", str(exported), "--json", "see you at five"])
    told = json.loads(capsys.readouterr().out)
    expected = TextClassifier.load(exported).predict_proba(["see you at five"])[0]
    assert [told["probabilities"][name] for name in ("8", "9", "10")] == pytest.approx(expected.tolist())


def test_what_needs_the_model_says_so(exported: Path) -> None:
    with pytest.raises(UserError, match="an export to ONNX, which only predict, serve and"):
        Predictor.open(exported)
    with pytest.raises(UserError, match="device: expected cpu, but it is cuda"):
        TextClassifier.load(exported, device="cuda")
    with pytest.raises(UserError, match="precision: expected 32-true, but it is bf16-mixed"):
        TextClassifier.load(exported, precision="bf16-mixed")


@pytest.mark.parametrize("name", ["model.onnx", "classifier.json"])
def test_damage_is_noticed(name: str, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in exported.iterdir():
        content = bytearray(file.read_bytes())
        if file.name == name:
            content[len(content) // 2] ^= 1
        (folder / file.name).write_bytes(content)
    with pytest.raises(UserError, match="not a whole export to ONNX"):
        TextClassifier.load(folder)


def test_a_graph_that_differs_is_not_written(
    trained: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_words", lambda words, ids, lengths: torch.zeros(len(lengths), 3))
    with pytest.raises(UserError, match=r"expected within 0.0001 of torch's, but are .* apart"):
        export(trained, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_another_task_is_refused(trained: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, model = trained.whole()
    other = replace(spec, task={**spec.task, "kind": "several_labels"})
    monkeypatch.setattr(trained, "whole", lambda: (other, model))
    with pytest.raises(UserError, match="expected the task single_label, but it is several_labels"):
        export(trained, tmp_path / "onnx")
