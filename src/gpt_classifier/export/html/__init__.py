"""A classifier as one HTML file: weights, vocabulary and the JavaScript that runs it; no server, no network."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from torch import Tensor

from gpt_classifier import pages
from gpt_classifier.atomic import write_text
from gpt_classifier.errors import UserError
from gpt_classifier.export.alone import expect_alone
from gpt_classifier.export.html.packing import pack
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.pooling import IN_WINDOWS
from gpt_classifier.spec import Spec, pooling_text
from gpt_classifier.tokenizers.byte_level import ranks_from_text

FILE = "classifier.html"
SCRIPTS = ("weights.js", "tokenizer.js", "linear.js", "model.js", "open.js", "page.js")
MOST_PARAMETERS = 200_000_000  # about what a browser holds as one string: 2^29 characters
LONGEST_TITLE = 60  # characters of class names


def export(classifier: TextClassifier, folder: Path, examples: Sequence[str] = ()) -> None:
    """Write `classifier.html`: a page that classifies texts in the browser, and can connect to nothing.

    Its probabilities are within 1e-3 of those of `predict_proba` in float32.

    Args:
        classifier: fitted or opened; a GPT.
        folder: where to; it is made when needed, and a `classifier.html` that is there is replaced.
        examples: texts to click on. Whoever has the file can read them, so none is taken from the data.

    Raises:
        UserError: the page can't compute this classifier, or the file can't be written.
    """
    spec, model = classifier.whole()
    expect_alone(spec, "html")
    if reason := why_not(spec, model):
        raise UserError(f"html: {reason}")
    write_text(folder / FILE, _page(spec, model, list(map(str, classifier.classes_)), examples))


def why_not(spec: Spec, model: Classifier) -> str:
    """Why a page can't compute a classifier, and what to set instead; an empty string where it can."""
    backbone, tokenizer, task = spec.backbone, spec.tokenizer["kind"], spec.task["kind"]
    if backbone["family"] != "gpt2":
        return (
            f"expected a GPT, but the model is a {backbone['architecture']}, which the page has no code for. Export it "
            f"with --to onnx or --to hf, or train with model=gpt2-nano."
        )
    if tokenizer != "tiktoken":
        return (
            f"expected GPT-2's byte-level BPE, but the tokenizer is of the kind {tokenizer}. Export it with --to onnx, "
            f"or train with model.tokenizer=gpt2-nano."
        )
    if task != "single_label":
        return f"expected the task single_label, but it is {task}. Train with task=single_label."
    if model.pooling.per_window.name() not in IN_WINDOWS:
        return (
            f"expected one of the poolings {', '.join(IN_WINDOWS)} and windows, but it is {spec.pooling['name']}, "
            f"which the page has no code for. Train with pooling=max, or another one of these."
        )
    if backbone["n_embd"] // backbone["n_head"] % 4:
        return (
            f"expected attention heads of a multiple of 4 numbers, but the model has {backbone['n_head']} heads in a "
            f"width of {backbone['n_embd']}. Export it with --to onnx, or train with model=gpt2-nano."
        )
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    if parameters > MOST_PARAMETERS:
        return (
            f"expected at most {MOST_PARAMETERS:,} parameters, but the model has {parameters:,}: a browser can't hold "
            f"them as one page. Export it with --to onnx, or train with model=gpt2-nano or model=gpt2-small."
        )
    return ""


def _page(spec: Spec, model: Classifier, classes: list[str], examples: Sequence[str]) -> str:
    order = [spec.task["classes"].index(name) for name in classes]
    tensors = _tensors(model, order)
    table, weights = pack(tensors, (name for name, tensor in tensors.items() if tensor.dim() == 2 and name != HEAD))
    told = _told(spec, model, classes)
    page = pages.render(
        "classifier",
        title=f"Text classifier: {shortened(classes)}",
        headline=f"A fine-tuned GPT-2 that tells {len(classes)} classes apart",
        notes=[spec.note] if spec.note else [],
        policy=POLICY,
        examples=list(examples),
        trace=told["trace"],
        facts=_facts(spec, model, classes),
        spec=pages.as_json({**told, "tensors": table}),
        weights=Markup(weights),
        script=Markup("\n".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in SCRIPTS)),
    )
    return page.replace("script-src HASHES", f"script-src {pages.script_hashes(page)}", 1)


HEAD = "head.weight"  # small, and what all classes are read with
POLICY = (
    "default-src 'none'; script-src HASHES 'wasm-unsafe-eval'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""No connections, images, frames, workers or forms; and no script but those of the page, each by its hash."""


def _tensors(model: Classifier, order: list[int]) -> dict[str, Tensor]:
    """All weights by name, what belongs to classes in the order that the page shows them in."""
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in model.state_dict().items()}
    for name in (HEAD, "head.bias"):
        tensors[name] = tensors[name][order].contiguous()
    if model.words is not None:
        tensors["words.weight"] = tensors["words.weight"][:, order].contiguous()
    return tensors


def _told(spec: Spec, model: Classifier, classes: list[str]) -> dict[str, Any]:
    """What `model.js` needs to know beside the weights."""
    backbone: Any = model.backbone
    windows = model.pooling.windows
    ranks = ranks_from_text(spec.tokenizer["ranks"])
    return {
        "classes": classes,
        "temperature": spec.temperature,
        "max_length": spec.max_length,
        "truncate": spec.truncate,
        "pooling": model.pooling.per_window.name(),
        "window": windows.size if windows else None,
        "overlap": windows.overlap if windows else None,
        "bag_of_tokens": model.words is not None,
        "trace": backbone.causal and model.pooling.has_trace,
        "causal": backbone.causal,
        "width": backbone.width,
        "depth": backbone.depth,
        "heads": backbone.config.n_head,
        "vocabulary": " ".join(base64.b64encode(token).decode() for token in sorted(ranks, key=ranks.__getitem__)),
    }


def shortened(classes: Sequence[str]) -> str:
    names = ", ".join(classes)
    return names if len(names) <= LONGEST_TITLE else f"{names[:LONGEST_TITLE]} …"


def _facts(spec: Spec, model: Classifier, classes: Sequence[str]) -> list[tuple[str, str]]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kept = {"head": "its beginning", "tail": "its end", "head_tail": "its beginning and its end", "error": "none"}
    return [
        ("classes", ", ".join(classes)),
        ("model", f"GPT-2 of {model.backbone.depth} blocks, {parameters:,} parameters"),
        ("reads", f"at most {spec.max_length:,} tokens of a text; of a longer one {kept[spec.truncate]}"),
        ("pooling", pooling_text(spec.pooling)),
        ("bag of tokens", "a linear model of TF-IDF, beside the transformer" if model.words is not None else "none"),
        ("temperature", f"{spec.temperature:.3f}" if spec.temperature != 1 else "1: not calibrated"),
    ]
