"""Smaller .tflite files from a float one: float16, dynamic-range and static int8 (ai-edge-quantizer).

Only what lies between the first and the last operator with weights is quantized. What comes before (normalisation of
the pixels) and after (joining the heads, decoding, suppression) stays float32: one int8 tensor for boxes of 0..300 and
scores of 0..1, or class-offset boxes in eight bits, would find next to nothing. Inputs and outputs stay float32 as
well.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Iterable

import numpy as np

from kzoo.export.bias_correction import ChannelMeans, correct
from kzoo.export.flatbuffer import WEIGHTED, Operator, read_operators
from kzoo.messages import missing_package


def quantize(flatbuffer: bytes, kind: str, samples: Iterable[np.ndarray] = ()) -> bytes:
    """Quantizes a float .tflite model.

    Args:
        flatbuffer: the float32 model, one signature with one input.
        kind: "float16" (weights in half precision, half the size), "dynamic" (int8 weights, activations quantized while
            running) or "int8" (int8 weights and activations, calibrated).
        samples: for "int8", inputs of the model, each (1, H, W, 3) float32 as the network would get them; at least one.

    Raises:
        ImportError: without the package ai-edge-quantizer.
    """
    try:
        from ai_edge_quantizer import qtyping, quantizer, recipe_manager
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
    except ImportError as error:
        raise ImportError(missing_package("ai-edge-quantizer", "tensorflow", f"{kind} quantization")) from error

    recipe = recipe_manager.RecipeManager()
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    if kind == "float16":
        per_tensor = qtyping.QuantGranularity.TENSORWISE
        recipe.add_weight_only_config(".*", everything, 16, per_tensor, algorithm_key=AlgorithmName.FLOAT_CASTING)
    elif kind == "dynamic":
        recipe.add_dynamic_config(".*", everything, 8)
    else:
        recipe.add_static_config(".*", everything, 8, 8)
    for scope in float_scopes(read_operators(flatbuffer)):
        recipe.add_quantization_config(scope, everything, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        recipe.add_quantization_config(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)

    ranges, means = _calibrate(flatbuffer, recipe, samples) if kind == "int8" else (None, {})
    with _quiet():
        worker = quantizer.Quantizer(bytearray(flatbuffer), recipe.get_quantization_recipe())
        result = worker.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    quantized = bytes(result.quantized_model)
    return correct(quantized, flatbuffer, means) if kind == "int8" else quantized


def float_scopes(operators: list[Operator]) -> list[str]:
    """Regular expressions for the operators that must stay float32.

    Those are: what no operator with weights feeds (before the network), what feeds no operator with weights (after it),
    anything under a layer named `postprocess`, for models that suppress boxes halfway (region proposals), and layers
    whose names hold `unquantized`. The graph decides, since the converter does not keep the names of the last
    operators.
    """
    after_weights: set[int] = set()
    before: list[Operator] = []
    for operator in operators:
        if operator.name in WEIGHTED or after_weights.intersection(operator.inputs):
            after_weights.update(operator.outputs)
        else:
            before.append(operator)

    feeds_weights: set[int] = set()
    after: list[Operator] = []
    for operator in reversed(operators):
        if operator.name in WEIGHTED or feeds_weights.intersection(operator.outputs):
            feeds_weights.update(operator.inputs)
        else:
            after.append(operator)

    # A convolution may bear the name of an operation that the converter folded into it: it is quantized all the same.
    between = [op for op in operators if op.name not in WEIGHTED and "postprocess" in " ".join(op.output_names)]
    asked = [op for op in operators if "unquantized" in " ".join(op.output_names)]
    # ai-edge-quantizer names an operator by its output tensors, each with a semicolon behind it.
    scopes = {"".join(f"{name};" for name in operator.output_names) for operator in [*before, *between, *asked, *after]}
    return [f"^{re.escape(scope)}$" for scope in sorted(scopes)]


def _calibrate(flatbuffer: bytes, recipe, samples: Iterable[np.ndarray]) -> tuple[dict, dict]:
    """The smallest and largest value of each activation over all samples, and the means of their channels.

    The quantizer's default, a moving average of them, clips the rare large logits: those of the objects.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    ((signature, ends),) = Interpreter(model_content=flatbuffer).get_signature_list().items()
    means = ChannelMeans(flatbuffer)
    with _quiet():
        calibrator = Calibrator(memoryview(flatbuffer), num_threads=2, qsv_update_func=min_max_update)
        for sample in samples:  # one by one, since the calibrator would hold all images of a list in memory
            calibrator.calibrate({signature: [{ends["inputs"][0]: sample}]}, recipe)
            means.add(sample)
    return calibrator.get_model_qsvs(), means.result()


@contextlib.contextmanager
def _quiet():
    """Keeps the quantizer's progress bars and its note on memory out of the terminal."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # of biases that do not fit, which `correct` sets right
        yield
