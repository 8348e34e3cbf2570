"""Whatever predicts, as commands open it."""

from pathlib import Path

from gpt_classifier.inference.onnx_predictor import OnnxPredictor, expect_onnx, is_onnx
from gpt_classifier.inference.text_predictor import TextPredictor


def open_predictor(
    path: Path, weights: Path | None = None, verify: bool = False, precision: str = "auto"
) -> TextPredictor:
    """Open a checkpoint, a bundle or an export to ONNX, in a process that is the command's alone: it may be changed.

    Args:
        path: of the file or folder.
        weights: the pretrained weights that were fine-tuned, if they are no longer where training found them.
        verify: read all pretrained weights to check them.
        precision: as `Predictor`; an export has one of its own.

    Raises:
        UserError: it can't be opened.
    """
    if is_onnx(path):
        expect_onnx(path, None, precision)
        return OnnxPredictor.open(path)
    from gpt_classifier.device import prepare_process  # with torch
    from gpt_classifier.inference.predictor import Predictor

    prepare_process()
    return Predictor.open(path, weights=weights, precision=precision, verify=verify)
