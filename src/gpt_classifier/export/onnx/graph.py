"""A classifier as an ONNX graph, of any batch size and any length."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_classifier.errors import UserError, first_line
from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.classifier import Classifier

OPSET = 20  # the first with GELU; onnxruntime 1.17 reads it. 23 has attention, but that refuses a mask of one query


class WholeTexts(nn.Module):
    """What `Classifier.forward` computes, in operators that ONNX has."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, C)` of rows `(B, T)` with `(B,)` real tokens each."""
        features = self.model.features(self.model.prefix(ids, lengths, depth=0), lengths, depth=0)
        return _logits(self.model, features, ids, lengths)


class TextsInWindows(nn.Module):
    """The same for texts that are read in windows, with windows of padding alone computed as if they had a token.

    `gpt_classifier.models.windows` leaves these out, so that their number depends on values, not on shapes.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, C)` of rows `(B, n, S)`, n windows of each, with `(B,)` real tokens each over all windows."""
        backbone, pooling = self.model.backbone, self.model.pooling.per_window
        n, S = ids.shape[1:]
        left = lengths[:, None] - torch.arange(n, device=ids.device) * S  # (B, n), from each window's first token on
        seen = torch.minimum(left.clamp(min=1), torch.full_like(left, S)).flatten()  # (B n,)
        rows = ids.flatten(0, 1)
        positions = pooling.positions(seen, S)
        hidden = backbone.blocks(backbone.embed(rows, seen), seen, 0, backbone.depth, positions)
        hidden = backbone.norm(hidden).unflatten(0, (ids.shape[0], n))  # (B, n, S or 1, D)
        if positions is None:
            features = pooling(hidden.flatten(1, 2), lengths)
        else:
            real = (left > 0).float()[:, :, None]  # (B, n, 1)
            features = (hidden[:, :, 0] * real).sum(dim=1) / real.sum(dim=1)
        return _logits(self.model, features, ids.flatten(1, 2), lengths)


def _logits(model: Classifier, features: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
    logits = model.head(features)
    return logits if model.words is None else logits + _words(model.words, ids, lengths)


def _words(words: BagOfTokens, ids: Tensor, lengths: Tensor) -> Tensor:
    """`BagOfTokens.forward` without scattering: of equal tokens, side by side once sorted, the first one counts."""
    real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    order = ids.masked_fill(~real, -1).sort(dim=1).values
    before = F.pad(order[:, :-1], (1, 0), value=-1)
    tokens = order.clamp(min=0)
    values = F.normalize(words.idf[tokens] * (order != before), dim=1)  # (B, T), 0 at padding
    return (values[:, None] @ words.weight[tokens])[:, 0]


def write_graph(model: Classifier, path: Path) -> None:
    """Write a graph with inputs `ids` and `lengths`, and the output `logits`.

    Args:
        model: in float32, without adapters.
        path: of the file; beside it weights that are too much for one.

    Raises:
        UserError: ONNX can't express the model.
    """
    batch, length, count = (torch.export.Dim.DYNAMIC for _ in range(3))
    windowed = model.pooling.windows is not None
    graph: nn.Module = TextsInWindows(model) if windowed else WholeTexts(model)
    shape = (2, 3, 5) if windowed else (2, 5)  # the numbers have no meaning
    lengths = torch.tensor([shape[-1], 1])
    rows = {0: batch, 1: count, 2: length} if windowed else {0: batch, 1: length}
    try:
        program = torch.onnx.export(
            graph.requires_grad_(False).eval(),
            (torch.zeros(shape, dtype=torch.int64), lengths),
            dynamo=True,
            input_names=["ids", "lengths"],
            output_names=["logits"],
            dynamic_shapes=(rows, {0: batch}),
            opset_version=OPSET,
            verbose=False,
        )
    except Exception as error:  # whatever an architecture asks for that the exporter has no translation of
        state = model.backbone.state()
        raise UserError(
            f"onnx: torch can't express this {state.get('architecture') or state['family']} with pooling "
            f"{model.pooling.name()} as a graph of ONNX ({first_line(error)}). Export it with --to bundle, or train "
            f"with pooling=max."
        ) from error
    assert program is not None
    program.save(path)
