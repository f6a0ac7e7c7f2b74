"""A look into a .tflite file: which operators it holds, and how they feed each other. Needs ai-edge-litert only."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

CUSTOM_PREFIX = "custom:"
FLEX_PREFIX = "Flex"
# Where an operator with weights has its input, its weights and its bias.
WEIGHTED = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}


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
        kind: a key of `WEIGHTED`; weights are (channels, h, w, inputs), of FULLY_CONNECTED (channels, inputs), of
            DEPTHWISE_CONV_2D (1, h, w, channels).
        output_name: of the tensor that it makes.
        source: the tensor that goes in.
        spread: positions that go in over positions that come out.
        weights, bias: as they stand in the file.
        scales, bias_scales: (channels,) float32, of quantized weights and biases; empty for others.
    """

    kind: str
    output_name: str
    source: int
    spread: float
    weights: np.ndarray
    bias: np.ndarray
    scales: np.ndarray
    bias_scales: np.ndarray


def read_weighted(flatbuffer: bytes | bytearray) -> Iterator[Weighted]:
    """The convolutions and connected layers of the first subgraph; of a bytearray what is written to them is kept."""
    model = _model(flatbuffer)
    names = _code_names(model)
    graph = model.Subgraphs(0)
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        kind = names[operator.OpcodeIndex()]
        places = WEIGHTED.get(kind)
        if places is None or operator.InputsLength() <= max(places) or operator.Inputs(max(places)) < 0:
            continue  # no weights, or no bias
        source, weights, bias = (graph.Tensors(operator.Inputs(place)) for place in places)
        output = graph.Tensors(operator.Outputs(0))
        arrays = [_content(flatbuffer, model, tensor) for tensor in (weights, bias)]
        if any(array is None for array in arrays):
            continue
        positions = [np.prod(tensor.ShapeAsNumpy()[:-1]) for tensor in (source, output)]
        yield Weighted(
            kind,
            output.Name().decode("utf-8", "replace"),
            operator.Inputs(places[0]),
            float(positions[0] / positions[1]),
            *arrays,
            _scales(weights),
            _scales(bias),
        )


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


def _content(flatbuffer: bytes | bytearray, model, tensor) -> np.ndarray | None:
    """What a constant tensor of float32, int8 or int32 holds; None for other tensors."""
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}
    buffer, dtype = model.Buffers(tensor.Buffer()), dtypes.get(tensor.Type())
    if dtype is None:
        return None
    if buffer.DataLength():
        content = buffer.DataAsNumpy()
    elif buffer.Offset() > 1:  # large ones stand behind the tables of the file
        content = np.frombuffer(flatbuffer, np.uint8, buffer.Size(), buffer.Offset())
    else:
        return None
    return content.view(dtype).reshape(tensor.ShapeAsNumpy())


def _scales(tensor) -> np.ndarray:
    quantization = tensor.Quantization()
    known = quantization is not None and quantization.ScaleLength()
    return quantization.ScaleAsNumpy() if known else np.zeros(0, np.float32)
