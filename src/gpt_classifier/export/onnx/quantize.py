"""The weights of a graph as 8-bit integers."""

from pathlib import Path
from typing import Any

import numpy as np


def quantize(path: Path) -> None:
    """Replace a graph by one of 8-bit integers.

    Matrices have a scale for each column, and what they are multiplied with is rounded to 8 bits as it comes ("dynamic"
    in onnxruntime's words). They use 7 bits: products of 8 overflow on CPUs without instructions for them (VNNI).
    Embeddings have a scale for each token, as some tokens' are many times larger than others'. The head stays as it is.

    Args:
        path: of the graph, with all weights in this file or beside it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    tables = _tables(model.graph)
    for node in [node for node in model.graph.node if _is_embedding(node) and node.input[0] in tables]:
        _quantize_embedding(model.graph, node, tables[node.input[0]])
    matrices = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in tables]
    large = len(list(path.parent.glob(f"{path.name}*"))) > 1
    del model.graph.value_info[:]  # shapes that quantize_dynamic changes without changing them here
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    quantize_dynamic(
        model,
        path,
        nodes_to_quantize=matrices,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=large,
    )


def _tables(graph: Any) -> dict[str, Any]:
    """Constant matrices of floats by name."""
    from onnx import TensorProto

    return {
        tensor.name: tensor
        for tensor in graph.initializer
        if len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT
    }


def _is_embedding(node: Any) -> bool:
    """Whether a node looks rows of something up."""
    return node.op_type == "Gather" and all(attribute.i == 0 for attribute in node.attribute)  # its axis


def _quantize_embedding(graph: Any, node: Any, table: Any) -> None:
    """Look integers and their scales up, and multiply them."""
    from onnx import TensorProto, helper, numpy_helper

    values = numpy_helper.to_array(table)
    scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127  # (V, 1)
    name, (output,) = node.name, node.output
    if not any(tensor.name == f"{table.name}.int8" for tensor in graph.initializer):
        small = np.rint(values / scales).astype(np.int8)
        graph.initializer.append(numpy_helper.from_array(small, f"{table.name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), f"{table.name}.scale"))
    parts = [
        helper.make_node("Gather", [f"{table.name}.int8", node.input[1]], [f"{name}.int8"], f"{name}.int8", axis=0),
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.float"], f"{name}.float", to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{table.name}.scale", node.input[1]], [f"{name}.scale"], f"{name}.scale", axis=0),
        helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [output], name),
    ]
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, part in enumerate(parts):
        graph.node.insert(place + offset, part)
    if not any(table.name in other.input for other in graph.node):
        graph.initializer.remove(table)
