"""The page computes what Python computes, shows it, and connects to nothing."""

import csv
import io
import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import CHROMIUM, Page

from gpt_classifier import TextClassifier
from gpt_classifier.artifact import Spec, pooling_state, save_bundle
from gpt_classifier.assets import ASSETS
from gpt_classifier.errors import UserError
from gpt_classifier.export import html
from gpt_classifier.export.html import FILE, SCRIPTS, export, why_not
from gpt_classifier.export.html.packing import pack
from gpt_classifier.inference import inside
from gpt_classifier.inference.writing import CONFIDENCE, LABEL, PROBABILITY, REASON
from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.letters import letters_of
from gpt_classifier.models.pooling import POOLINGS, Windowed
from gpt_classifier.models.weights import load_backbone
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

TEXTS = [
    "WINNER!! Call now to claim your £1000 prize",
    "See you  at the station\tat five,   it's <b>late</b> 😀",
    "a",
    "naïve café\u0085\ufeff\u200b 漢字かな ١٢٣ \x00 … I'll we've",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen",
]
CLASSES = ["no", "maybe </script><img src=x onerror=document.title=1>", "yes"]


def made(
    folder: Path,
    pooling: Any = None,
    causal: bool = True,
    words: bool = True,
    classes: Sequence[str] = CLASSES,
    **options: Any,
) -> TextClassifier:
    """A small classifier with weights so large that its texts differ, opened from a bundle."""
    config = GPTConfig(vocab_size=8192, n_positions=64, n_embd=16, n_layer=2, n_head=2, causal=causal)
    model = Classifier(GPT(config).initialise(), pooling or POOLINGS["max"](), len(classes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.dim() == 1 else 0.1))
            if name.startswith("backbone.h.0"):
                parameter.copy_(parameter.bfloat16())  # others do not fit it
    tokenizer = load_tokenizer("gpt2-nano")
    if words:
        model.words = BagOfTokens(8192, len(classes))
        model.words.idf.copy_(
            letters_of(tokenizer, len(model.words.idf)).weigh(tokenizer.encode(TEXTS[:3], 64, "head")[0])[0]
        )
        model.words.weight.normal_()
    spec = Spec(
        backbone=model.backbone.state(),
        pooling=pooling_state(model.pooling),
        tokenizer=tokenizer.state(),
        task=SingleLabel(classes).state(),
        max_length=64,
        pad_to="batch",
        truncate="head_tail",
        temperature=1.7,
    )
    save_bundle(folder / "saved", replace(spec, **options), model)
    return TextClassifier.load(folder / "saved", device="cpu", precision="32-true")


def in_node(code: str, *inputs: Any) -> Any:
    """What a script returns that has the page's code before it, but for what shows it; it is given `inputs`."""
    shown = ("open.js", "page.js")
    source = "\n".join((Path(html.__file__).parent / name).read_text("utf-8") for name in SCRIPTS if name not in shown)
    script = f"""{source}
    const inputs = JSON.parse(require("fs").readFileSync(0, "utf-8"));
    (async () => {{ {code} }})().then(found => process.stdout.write(JSON.stringify(found)));"""
    given = json.dumps(inputs).encode()
    return json.loads(subprocess.run([str(NODE), "-e", script], input=given, check=True, capture_output=True).stdout)


CLASSIFY = """
    const [page, texts, trace] = inputs;
    const part = id => page.match(new RegExp(`<script type="[^"]*" id="${id}">(.*?)</script>`, "s"))[1];
    const spec = JSON.parse(part("spec"));
    const classifier = new Classifier(spec, unpack(spec.tensors, await inflate(decodeBase85(part("weights")))));
    const found = [];
    const failed = error => ({error: error.message});
    for (const text of texts) found.push(await classifier.classify(text, {trace}).catch(failed));
    return found;"""


def classified(classifier: TextClassifier, folder: Path, texts: Sequence[str], trace: bool = False) -> list[dict]:
    """What the page's code says of texts, in node."""
    export(classifier, folder / "out")
    return in_node(CLASSIFY, (folder / "out" / FILE).read_text(encoding="utf-8"), texts, trace)


WINDOWS = {inner: Windowed(inner, 7, 2) for inner in ("last_token", "first_token", "max", "mean")}


@needs_node
@pytest.mark.parametrize("truncate", ["head", "tail", "head_tail"])
def test_probabilities_of_cut_texts_are_those_of_python(tmp_path: Path, truncate: str) -> None:
    classifier = made(tmp_path, truncate=truncate, max_length=10)
    found = classified(classifier, tmp_path, TEXTS)
    probabilities = [one["probabilities"] for one in found]
    np.testing.assert_allclose(probabilities, classifier.predict_proba(TEXTS), atol=1e-4)
    assert found[-1]["tokens"] > found[-1]["kept"] == 10


@needs_node
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "pooling", [*(POOLINGS[name]() for name in ("last_token", "first_token", "mean", "max")), *WINDOWS.values()]
)
def test_every_pooling_reads_what_it_reads_in_python(tmp_path: Path, pooling: Any, causal: bool) -> None:
    classifier = made(tmp_path, pooling, causal)
    probabilities = [one["probabilities"] for one in classified(classifier, tmp_path, TEXTS)]
    np.testing.assert_allclose(probabilities, classifier.predict_proba(TEXTS), atol=1e-4)
    assert np.ptp(probabilities, axis=0).max() > 0.05  # the texts differ


@needs_node
@pytest.mark.parametrize("pooling", [POOLINGS["max"](), POOLINGS["mean"](), WINDOWS["last_token"], WINDOWS["max"]])
def test_probability_after_each_token_is_that_of_python(tmp_path: Path, pooling: Any) -> None:
    classifier = made(tmp_path, pooling)
    for text, one in zip(TEXTS, classified(classifier, tmp_path, TEXTS, trace=True), strict=True):
        traced = inside.trace(classifier._fitted(), text)
        assert [piece["text"] for piece in one["pieces"]] == traced.tokens
        np.testing.assert_allclose([piece["probabilities"] for piece in one["pieces"]], traced.probabilities, atol=1e-4)


@needs_node
def test_classes_are_in_the_order_of_predict_proba(tmp_path: Path) -> None:
    classifier = made(tmp_path, classes=["10", "9", "100"], whole_numbers=True, words=False)
    assert classifier.classes_.tolist() == [9, 10, 100]
    probabilities = [one["probabilities"] for one in classified(classifier, tmp_path, TEXTS)]
    np.testing.assert_allclose(probabilities, classifier.predict_proba(TEXTS), atol=1e-4)


@needs_node
def test_text_that_is_not_to_be_cut_is_refused(tmp_path: Path) -> None:
    found = classified(made(tmp_path, truncate="error", max_length=5), tmp_path, ["a", TEXTS[0]])
    assert len(found[0]["probabilities"]) == 3
    assert re.fullmatch(r"too long: \d+ tokens, where 5 are read at most", found[1]["error"])


@needs_node
def test_tokens_are_those_of_tiktoken() -> None:
    tokenizer = load_tokenizer("gpt2-nano")
    encoding: Any = tokenizer.encoding  # type: ignore[attr-defined]
    vocabulary = [encoding.decode_single_token_bytes(i).decode("latin-1") for i in range(encoding.n_vocab - 1)]
    letters = (
        "aaeinrst ABÉß'’0123456789.,!? \n\r\t\x0b\x1c\x85\xa0\u2003\u2028\u3000\ufeff\u200b😀👍🏽漢字١२éक्षि￼\x00<|>"
    )
    draw = random.Random(0)
    texts = ["".join(draw.choices(letters, k=draw.randrange(1, 60))) for _ in range(2000)]
    texts += [*TEXTS, "a" * 3000, " " * 3000 + "x", "ab" * 2000, "<|endoftext|>", "don't I'LL we'll 'seven"]
    code = """
        const [vocabulary, texts] = inputs;
        const tokenizer = new Tokenizer(vocabulary.map(btoa).join(" "));
        return texts.map(text => [tokenizer.encode(text), tokenizer.pieces(tokenizer.encode(text))]);"""
    rows = tokenizer.encode(texts, 10**6, "head")[0]
    for text, row, (ids, pieces) in zip(texts, rows, in_node(code, vocabulary, texts), strict=True):
        assert ids == row.tolist(), repr(text)
        assert pieces == tokenizer.pieces(row), repr(text)


@needs_node
def test_weights_are_stored_exactly_where_bfloat16_holds_them_and_else_within_a_4000th_of_the_row() -> None:
    exact = torch.randn(7, 5).bfloat16().float() * torch.logspace(-30, 30, 7, base=2)[:, None]
    exact[0, :2] = torch.tensor([0.0, -0.0])
    other, single = torch.randn(6, 9) * torch.logspace(-3, 3, 6)[:, None], torch.randn(11)
    other[2] = 0
    table, text = pack({"exact": exact, "single": single, "other": other}, ["exact", "other"])
    assert [tensor["kind"] for tensor in table] == ["bfloat16", "float32", "int13"]
    assert not set(text) & set("<&>\"'\\")
    code = """
        const weights = unpack(inputs[0], await inflate(decodeBase85(inputs[1])));
        return Object.fromEntries(Object.entries(weights).map(([name, values]) => [name, [...values]]));"""
    found = {name: np.array(values, dtype=np.float32) for name, values in in_node(code, table, text).items()}
    np.testing.assert_array_equal(found["exact"], exact.numpy().ravel())
    np.testing.assert_array_equal(found["single"], single.numpy())
    error = np.abs(found["other"].reshape(6, 9) - other.numpy()).max(axis=1)
    assert (error <= other.abs().amax(dim=1).numpy() / 8000).all()


def test_what_the_page_cannot_compute_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pooling.*padded_mean.*Train with pooling=max"):
        export(made(tmp_path, POOLINGS["padded_mean"]()), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    spec, model = made(tmp_path).whole()
    assert not why_not(spec, model)
    bert = {"family": "encoder", "architecture": "bert"}  # what more there is, nobody asks
    assert "the model is a bert" in why_not(replace(spec, backbone=bert), model)
    assert "tokenizer is of the kind tokenizers" in why_not(replace(spec, tokenizer={"kind": "tokenizers"}), model)
    odd = Classifier(GPT(GPTConfig(8192, 8, 12, 1, 2)), POOLINGS["max"](), 2)
    assert "2 heads in a width of 12" in why_not(replace(spec, backbone=odd.backbone.state()), odd)


def test_what_classes_and_examples_are_called_cannot_be_read_as_html(tmp_path: Path) -> None:
    export(made(tmp_path), tmp_path, examples=["</script><script>alert(1)</script> & <b>"])
    page = (tmp_path / FILE).read_text(encoding="utf-8")
    assert not [written for written in ("<img", "<script>alert", "<b>") if written in page]
    assert page.count("</script>") == page.count("<script") == 4  # two with data, the page's own, and that of tables


def test_bundled_model_is_a_page_of_less_than_8_megabytes(tmp_path: Path) -> None:
    model = Classifier(load_backbone(GPTConfig(8192, 1024, 192, 6, 6), ASSETS / "gpt2-nano")[0], POOLINGS["max"](), 2)
    model.words = BagOfTokens(8192, 2)
    model.words.weight.normal_()
    torch.nn.init.normal_(model.backbone.h[5].mlp.c_fc.weight)  # as where the last block was trained
    spec = made(tmp_path).whole()[0]
    task = {"kind": "single_label", "classes": ["ham", "spam"]}
    save_bundle(tmp_path / "nano", replace(spec, backbone=model.backbone.state(), task=task), model)
    export(TextClassifier.load(tmp_path / "nano"), tmp_path)
    assert (tmp_path / FILE).stat().st_size < 8e6


def waited(page: Page, condition: str) -> None:
    end = time.monotonic() + 30
    while not page.run(condition):
        assert time.monotonic() < end, f"{condition} never came true"
        time.sleep(0.02)


@needs_chromium
def test_page_on_a_phone_classifies_and_connects_to_nothing(tmp_path: Path) -> None:
    classifier = made(tmp_path)
    expected = classifier.predict_proba([TEXTS[1]])[0]
    export(classifier, tmp_path, examples=TEXTS[:2])
    with Page(tmp_path / FILE, tmp_path / "profile", width=390) as page:
        page.run("ready.then(() => true)")
        page.run("document.querySelectorAll('#examples button')[1].click()")
        waited(page, "!$('found').hidden")
        likely = int(expected.argmax())
        assert page.run("$('answer').textContent") == f"{classifier.classes_[likely]} {100 * expected[likely]:.1f} %"
        assert page.run("$('coloured').textContent") == TEXTS[1]
        assert page.run("$('bars').rows.length") == 3
        many = "\n".join([*TEXTS, "", "=1+1"])
        page.run(f"$('lines').value = {json.dumps(many)}; $('classify').click()")
        waited(page, "!$('download').hidden")
        assert page.run("$('rows').rows.length") == 6
        assert page.run("document.documentElement.scrollWidth") == 390
        unlabelled = "[...document.querySelectorAll('textarea, input')].filter(field => !field.labels.length).length"
        assert page.run(unlabelled) == 0
        assert page.run("document.title").startswith("Text classifier: maybe </script><img")  # as text
        assert page.complaints() == []
        assert page.requests() == [(tmp_path / FILE).as_uri()]
        page.run("refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.effectiveDirective))")
        page.run("new Image().src = 'https://example.com/a.png'; fetch('https://example.com').catch(() => 0)")
        page.run("one = document.createElement('script'); one.textContent = 'ran = true'; document.body.append(one)")
        waited(page, "refused.length === 3")
        assert sorted(page.run("refused")) == ["connect-src", "img-src", "script-src-elem"]
        assert page.run("typeof ran") == "undefined"


@needs_chromium
def test_csv_is_what_predict_writes_and_no_cell_is_a_formula(tmp_path: Path) -> None:
    classifier = made(tmp_path, truncate="error", max_length=40)
    texts = ['"quoted", and more', "=1+1", "plain", "word " * 50]
    export(classifier, tmp_path)
    with Page(tmp_path / FILE, tmp_path / "profile") as page:
        call = f"classifyMany(classifier, {json.dumps(texts)}, new AbortController().signal, () => 0)"
        written = page.run(f"ready.then(async classifier => csv(classifier.spec.classes, await {call}))")
    rows = list(csv.DictReader(io.StringIO(written)))
    assert [row["text"] for row in rows] == [texts[0], "'=1+1", *texts[2:]]
    assert list(rows[0]) == ["text", LABEL, CONFIDENCE, *(PROBABILITY + name for name in classifier.classes_), REASON]
    expected = classifier.predict_proba(texts[:3])
    for row, probabilities in zip(rows, expected, strict=False):
        assert row[LABEL] == classifier.classes_[probabilities.argmax()]
        np.testing.assert_allclose(
            [float(row[PROBABILITY + name]) for name in classifier.classes_], probabilities, atol=1e-4
        )
    assert rows[3][LABEL] == rows[3][CONFIDENCE] == ""
    assert rows[3][REASON].startswith("too long: ")


@needs_chromium
def test_page_of_a_classifier_that_sees_the_whole_text_colours_nothing(tmp_path: Path) -> None:
    export(made(tmp_path, causal=False), tmp_path)
    with Page(tmp_path / FILE, tmp_path / "profile", dark=True) as page:
        page.run("$('text').value = 'one two'; $('text').dispatchEvent(new Event('input'))")
        waited(page, "!$('found').hidden")
        assert page.run("$('traced').hidden") is True
        assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(23, 24, 27)"
