"""A look into a .tflite file: which operators it holds, and how they feed each other. Needs ai-edge-litert only."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

CUSTOM_PREFIX = "custom:"
FLEX_PREFIX = "Flex"


class Operator(NamedTuple):
    """One operator: its name (`CONV_2D`; `custom:FlexErf` for one that is not built in) and its tensors."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_names: tuple[str, ...]


def read_operators(flatbuffer: bytes, subgraph: int = 0) -> list[Operator]:
    """The operators of one subgraph in the order of execution."""
    model = _model(flatbuffer)
    names = _code_names(model)
    graph = model.Subgraphs(subgraph)
    operators = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        outputs = tuple(operator.Outputs(j) for j in range(operator.OutputsLength()))
        operators.append(
            Operator(
                name=names[operator.OpcodeIndex()],
                inputs=tuple(k for j in range(operator.InputsLength()) if (k := operator.Inputs(j)) >= 0),
                outputs=outputs,
                output_names=tuple(graph.Tensors(k).Name().decode("utf-8", "replace") for k in outputs),
            )
        )
    return operators


class Weighted(NamedTuple):
    """An operator with constant weights and bias; its arrays are views into the file.

    Attributes:
        kind: CONV_2D or FULLY_CONNECTED, of weights (channels, ..., inputs), or DEPTHWISE_CONV_2D, (1, h, w, channels).
        output_name: of the tensor that it makes.
        source: the tensor that goes in.
        weights, bias: as they stand in the file.
        scales, bias_scales: (channels,) float32, of quantized weights and biases; empty for others.
    """

    kind: str
    output_name: str
    source: int
    weights: np.ndarray
    bias: np.ndarray
    scales: np.ndarray
    bias_scales: np.ndarray


def read_weighted(flatbuffer: bytes | bytearray) -> Iterator[Weighted]:
    """The convolutions and connected layers of the first subgraph; of a bytearray what is written to them is kept."""
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}
    model = _model(flatbuffer)
    names = _code_names(model)
    graph = model.Subgraphs(0)

    def content(tensor) -> np.ndarray | None:
        buffer, dtype = model.Buffers(tensor.Buffer()), dtypes.get(tensor.Type())
        if dtype is None or (buffer.DataLength() == 0 and buffer.Offset() <= 1):
            return None  # of another type, or made by the graph
        # Large contents stand behind the tables of the file.
        raw = (
            buffer.DataAsNumpy()
            if buffer.DataLength()
            else np.frombuffer(flatbuffer, np.uint8, buffer.Size(), buffer.Offset())
        )
        return raw.view(dtype).reshape(tensor.ShapeAsNumpy())

    def scales(tensor) -> np.ndarray:
        quantization = tensor.Quantization()
        count = 0 if quantization is None else quantization.ScaleLength()
        return quantization.ScaleAsNumpy() if count else np.zeros(0, np.float32)

    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        kind = names[operator.OpcodeIndex()]
        if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") or operator.InputsLength() < 3:
            continue
        source, *constants = (operator.Inputs(j) for j in range(3))
        if min(constants) < 0:
            continue
        weights, bias = (graph.Tensors(k) for k in constants)
        output_name = graph.Tensors(operator.Outputs(0)).Name().decode("utf-8", "replace")
        arrays = content(weights), content(bias)
        if all(array is not None for array in arrays):
            yield Weighted(kind, output_name, source, *arrays, scales(weights), scales(bias))


def operators(file: str | Path | bytes) -> dict[str, int]:
    """Counts the operators of a .tflite file by name: `{"CONV_2D": 12, "NON_MAX_SUPPRESSION_V4": 1, ...}`.

    An operator that is not built in is named `custom:NAME`.
    """
    flatbuffer = file if isinstance(file, bytes) else Path(file).read_bytes()
    subgraphs = range(_model(flatbuffer).SubgraphsLength())
    return dict(Counter(op.name for s in subgraphs for op in read_operators(flatbuffer, s)))


def require_builtin(flatbuffer: bytes, path: str | Path) -> None:
    """Refuses a model with an operator that the plain runtime of a phone or a browser lacks.

    Raises:
        ValueError: naming the operators. In a browser such a file would return zeros without a word.
    """
    foreign = sorted(
        name.removeprefix(CUSTOM_PREFIX).removeprefix(FLEX_PREFIX)
        for name in operators(flatbuffer)
        if name.startswith(CUSTOM_PREFIX)
    )
    if foreign:
        raise ValueError(
            f"{path}: not written, the model needs operators that LiteRT's runtime lacks: {', '.join(foreign)}. "
            "Express them with built-in ones, or export a SavedModel."
        )


def _model(flatbuffer: bytes):
    from ai_edge_litert import schema_py_generated as schema

    return schema.Model.GetRootAs(flatbuffer, 0)


def _code_names(model) -> list[str]:
    from ai_edge_litert import schema_py_generated as schema

    builtin = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    names = []
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        # The schema moved the code to a wider field; old codes stand in both, new ones in the wide one only.
        name = builtin[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        names.append(CUSTOM_PREFIX + (code.CustomCode() or b"?").decode() if name == "CUSTOM" else name)
    return names
