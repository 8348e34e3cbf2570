"""A classifier as a folder for onnxruntime: `TextClassifier.load` opens it, without torch."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np

from gpt_classifier.atomic import replacing_folder
from gpt_classifier.errors import UserError
from gpt_classifier.evaluation.profile import keep_profile
from gpt_classifier.export.alone import expect_alone
from gpt_classifier.export.onnx.graph import OPSET, write_graph
from gpt_classifier.export.onnx.quantize import quantize
from gpt_classifier.inference.onnx_predictor import Graph, OnnxPredictor, write_onnx_spec
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.spec import ONNX_FILE, Spec

TOLERANCE = 1e-4  # of probabilities
"""Further apart than rounding in float32 explains: something was translated wrongly."""


def export(classifier: TextClassifier, folder: Path, int8: bool = False) -> None:
    """Write `model.onnx` and `classifier.json`, and what the validation messages were like, if that is known.

    Probabilities of the graph are compared with those of torch before anything appears.

    Args:
        classifier: fitted or opened.
        folder: to write; what is there is replaced.
        int8: whether matrices and embeddings are of 8-bit integers: a quarter of the size, and probabilities that
            differ by 0.001 on average for messages of 27 tokens, by 0.03 for film reviews (docs/shipping.md).

    Raises:
        UserError: the classifier can't be expressed, the libraries are not installed, or the folder can't be written.
    """
    spec, model = classifier.whole()
    expect_alone(spec, "onnx")
    if spec.task["kind"] != "single_label":
        raise UserError(
            f"onnx: expected the task single_label, but it is {spec.task['kind']}, which prediction without torch does "
            f"not know. Export it with --to bundle."
        )
    _expect_libraries()
    model = model.float().eval()
    windows = model.pooling.windows
    window = None if windows is None else (windows.size, windows.overlap)
    with replacing_folder(folder) as part:
        with _quietly():
            write_graph(model, part / ONNX_FILE)
        description = Graph(OPSET, False, window, model.pooling.reads_padding)
        write_onnx_spec(part, spec, description)
        _expect_same(part, spec, model)
        if int8:
            with _quietly():
                quantize(part / ONNX_FILE)
            write_onnx_spec(part, spec, replace(description, int8=True))
        keep_profile(OnnxPredictor.open, classifier.path, part)


def _expect_libraries() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f'onnx: {error.name} is not installed. Install the extra: pip install -e ".[onnx]"') from error


def _expect_same(folder: Path, spec: Spec, model: Classifier) -> None:
    """Compare the graph with the model, on rows of 1 to `max_length` tokens.

    Raises:
        UserError: probabilities differ by more than `TOLERANCE`.
    """
    random = np.random.default_rng(0)
    exported, original = OnnxPredictor.open(folder), Predictor(model, spec, "32-true")
    lengths = [n for n in (1, 2, 3, 8, 21, 55, 144, spec.max_length) if n <= spec.max_length]
    rows = [random.integers(0, original.tokenizer.vocab_size, n).astype(np.int32) for n in lengths]
    found, expected = (predictor.probabilities(predictor.model_logits(rows)) for predictor in (exported, original))
    apart = np.abs(found - expected).max(axis=1)
    if not (apart <= TOLERANCE).all():
        raise UserError(
            f"onnx: probabilities of the graph were expected within {TOLERANCE:g} of torch's, but are "
            f"{apart.max():.2g} apart for a text of {lengths[int(apart.argmax())]} tokens. Nothing was written. Export "
            f"it with --to bundle."
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Inside, the exporter's progress and advice for its developers are not shown."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
