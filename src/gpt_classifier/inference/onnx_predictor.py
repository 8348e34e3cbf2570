"""A classifier that `gpt_classifier.export.onnx` wrote, through onnxruntime: without torch.

The folder has `classifier.json`, the `Spec` of a bundle with what the graph is like under `onnx`, and `model.onnx`.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt_classifier.errors import UserError, first_line
from gpt_classifier.inference.text_predictor import TextPredictor
from gpt_classifier.spec import ONNX_FILE, Spec, read_spec, write_spec
from gpt_classifier.tokenizers.cutting import Windows

KEY = "onnx"  # of the spec
BATCH_TOKENS = 4096  # padding included: as with torch on a CPU


@dataclass(frozen=True)
class Graph:
    """What a `model.onnx` is like. It maps `ids` and `lengths`, `(B,)` int64, to `logits`, `(B, C)` float32.

    Args:
        opset: of ONNX.
        int8: whether matrices are of 8-bit integers.
        window: tokens of a window and their overlap; `ids` are then `(B, n, S)`, n windows of the same size for each
            row; `None`: they are `(B, T)`. They are int64, and right-padded.
        reads_padding: whether logits depend on how far a row was padded.
    """

    opset: int
    int8: bool
    window: tuple[int, int] | None
    reads_padding: bool


def is_onnx(path: Path) -> bool:
    """Whether a path is a folder that was exported to ONNX."""
    return (path / ONNX_FILE).is_file()


class OnnxPredictor(TextPredictor):
    """A fine-tuned classifier on the CPU, through onnxruntime. `OMP_NUM_THREADS` sets the number of threads.

    Args:
        session: of the graph.
        spec: what prediction needs beside weights.
        graph: what the graph is like.
    """

    def __init__(self, session: Any, spec: Spec, graph: Graph) -> None:
        windows = None if graph.window is None else Windows(*graph.window)
        super().__init__(spec, windows, graph.reads_padding, BATCH_TOKENS)
        self.precision = "int8" if graph.int8 else "32-true"
        self._session = session

    @classmethod
    def open(cls, path: Path) -> "OnnxPredictor":
        """Open a folder that was exported to ONNX.

        Raises:
            UserError: onnxruntime is not installed, or it is not a whole export.
        """
        runtime = _runtime()
        try:
            values, _ = read_spec(path, weight_files(path))
            graph = Graph(**values.pop(KEY))
            spec = Spec.from_plain(values)
            session = runtime.InferenceSession(path / ONNX_FILE, _options(runtime), ["CPUExecutionProvider"])
            return cls(session, spec, graph)
        except UserError:
            raise
        except Exception as error:  # onnxruntime raises kinds of its own for a damaged file
            raise UserError(
                f"checkpoint: {path} is not a whole export to ONNX ({first_line(error)}). Export it again "
                f"(gpt-classifier export --to onnx)."
            ) from error

    def batch_logits(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        rows = ids if self._windows is None else in_windows(ids, self._windows.size)
        return self._session.run(["logits"], {"ids": rows.astype(np.int64), "lengths": lengths})[0]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        scaled = logits / np.float32(self.temperature)
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def in_windows(ids: np.ndarray, size: int) -> np.ndarray:
    """Rows of windows one after another, `(B, T)`, as `(B, n, S)` of the same size each.

    What the last one lacks is a valid id: what stands beyond a row's length has no effect.
    """
    B, T = ids.shape
    S = min(size, T)
    return np.pad(ids, ((0, 0), (0, -T % S))).reshape(B, -1, S)


def weight_files(folder: Path) -> list[Path]:
    """The graph, and what lies beside it as a file of protobuf holds 2 GB at most."""
    return sorted(folder.glob(f"{ONNX_FILE}*"))


def write_onnx_spec(folder: Path, spec: Spec, graph: Graph) -> None:
    """Write the spec of an export beside its `model.onnx`.

    Raises:
        UserError: it can't be written.
    """
    write_spec(folder, {**spec.plain(), KEY: asdict(graph)}, weight_files(folder))


def expect_onnx(path: Path, device: str | None, precision: str) -> None:
    """Refuse what an export can't do.

    Raises:
        UserError: it is to compute elsewhere than on the CPU, or in bfloat16.
    """
    for option, given, possible in (("device", device, (None, "cpu")), ("precision", precision, ("auto", "32-true"))):
        if given not in possible:
            raise UserError(
                f"{option}: expected {possible[-1]}, but it is {given}: {path} is an export to ONNX. Leave it out, or "
                f"open the checkpoint."
            )


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            'checkpoint: an export to ONNX needs the extra onnx: pip install -e ".[onnx]"; or, without torch, '
            "pip install onnxruntime tiktoken numpy."
        ) from error
    return onnxruntime


def _options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal():
        options.intra_op_num_threads = int(threads)
    options.enable_mem_pattern = False  # planned anew for each shape, and texts bring ever new ones
    return options
