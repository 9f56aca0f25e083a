"""fastcnn as a backend of the `onnx` package's own tests; which of them are left out and why; and docs/onnx.md, which
tells so.

    python tests/onnx_backend.py    # writes the page anew
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from fastcnn.compiler.general import compile_general
from fastcnn.compiler.native import RULES
from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_known import CONTROL as CONTROLS
from fastcnn.io._onnx_known import DEFINED
from fastcnn.io.onnx_import import OLDEST_OPSET, read_onnx, supported_operators
from fastcnn.ops.budget import KERNEL, LOADING_WORK, STEP_WORK
from fastcnn.ops.general.elementwise import DTYPES

PAGE = Path(__file__).parents[1] / "docs" / "onnx.md"
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
KINDS = ("simple", "pytorch-converted", "pytorch-operator")
BUDGET = 1 << 28

OPERATORS, TYPES, OPSET, TRAINING, CONTROL = (
    "an operator that is not imported",
    "a type that NumPy does not have, or no tensor",
    "an opset before 6",
    "dropout as in training",
    "a condition, or a number of iterations, that depends on values, or Scan of opset 8",
)


class Network(BackendRep):
    """A graph, compiled for each set of input shapes."""

    def __init__(self, content: bytes) -> None:
        self.graph = read_onnx(content, max_bytes=BUDGET).graph

    def run(self, inputs, **kwargs):
        arrays = [np.asarray(array) for array in inputs]
        shapes = {name: array.shape for name, array in zip(self.graph.inputs, arrays, strict=True)}
        compiled = compile_general(self.graph, shapes, max_bytes=BUDGET)
        return tuple(compiled.plan.run(arrays))


class FastcnnBackend(Backend):
    """What `onnx.backend.test` drives."""

    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        return Network(model.SerializeToString())

    @classmethod
    def supports_device(cls, device):
        return device == "CPU"


def why_not(model) -> str:
    """Why a test is left out, or ""."""
    nodes = list(model.graph.node)
    known = set(supported_operators())
    functions = {(function.domain, function.name) for function in model.functions}
    names = {node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}" for node in nodes}
    names -= {f"{domain}::{name}" for domain, name in functions}
    if not names <= known:
        return OPERATORS
    values = [*model.graph.input, *model.graph.output]
    types = {value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0 for value in values}
    types |= {tensor.data_type for tensor in model.graph.initializer}
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i:
                types.add(attribute.i)
            if attribute.type == onnx.AttributeProto.TENSOR:
                types.add(attribute.t.data_type)
    if not types <= set(DTYPES):
        return TYPES
    if any(entry.version < OLDEST_OPSET for entry in model.opset_import if entry.domain in ("", "ai.onnx")):
        return OPSET
    if (
        any(node.op_type == "Dropout" and len(node.input) > 2 for node in nodes)
        and model.graph.node[0].op_type == ("Dropout")
        and "training" in model.graph.name
        and "zero_ratio" not in model.graph.name
    ):
        return TRAINING
    return CONTROL if names & {*CONTROLS, *DEFINED} and not _is_known(model) else ""


def _is_known(model) -> bool:
    """Whether loops can be unrolled, and conditions decided."""
    try:
        read_onnx(model.SerializeToString())
    except ModelLoadError as error:
        return "on the values of inputs" not in str(error) and "before opset 9" not in str(error)
    return True


def node_cases():
    """(name, model, data sets, rtol, atol) of the single-node tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, where the package computes what it expects
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    for case in cases:
        yield case.name, case.model, case.data_sets, case.rtol, case.atol


def folder_cases(kind: str):
    """The same of those that lie in files."""
    for path in sorted((DATA / kind).glob("*/model.onnx")):
        sets = []
        for folder in sorted(path.parent.glob("test_data_set_*")):
            pair = []
            for what in ("input", "output"):
                count = len(list(folder.glob(f"{what}_*.pb")))
                pair.append([(folder / f"{what}_{i}.pb").read_bytes() for i in range(count)])
            sets.append(tuple(pair))
        yield path.parent.name, onnx.load_model_from_string(path.read_bytes()), sets, 1e-3, 1e-7


def as_array(value):
    """An array from whatever the tests hold."""
    if isinstance(value, bytes):
        value = onnx.load_tensor_from_string(value)
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def page(skipped: dict[str, list[str]], passed: int) -> str:
    """The text of docs/onnx.md."""
    native = {name for name in RULES if name in supported_operators()}
    rows = []
    for name in supported_operators():
        how = "kernel" if name in native else "NumPy"
        if name in ("Constant", "Shape", "Size", "ConstantOfShape", "Range"):
            how = "folded away"
        elif name in CONTROLS:
            how = "the nodes of its bodies"
        elif name == "Upsample" or "::" in name or name in (*DEFINED, "SimplifiedLayerNormalization"):
            how = "other operators"
        rows.append(f"| {name} | {how} |")
    reasons = []
    for reason, names in sorted(skipped.items()):
        reasons.append(f"- {len(names)} tests need {reason}.")
        if reason != OPERATORS:
            reasons.append("\n  " + ", ".join(f"`{name}`" for name in sorted(names)))
    return PAGE_TEXT.format(
        oldest=OLDEST_OPSET,
        newest=onnx.defs.onnx_opset_version(),
        version=onnx.__version__,
        rows="\n".join(rows),
        passed=passed,
        reasons="\n".join(reasons),
        count=len(supported_operators()),
        loading=LOADING_WORK,
        step=STEP_WORK,
        kernel=KERNEL,
    )


PAGE_TEXT = """# ONNX

`fastcnn.load("model.onnx")` reads opsets {oldest} to {newest}; `model.export_onnx("model.onnx")` writes opset 17. This
page is generated by `python tests/onnx_backend.py`, and checked by a test, with onnx {version}.

## Operators

These {count} operators are imported. Those with a kernel run in fastcnn's own code for float32, constant weights and
up to four dimensions; everything else, and the others, run in NumPy between the kernels, on one thread but for matrix
products. `model.summary()` shows which steps do. Shape arithmetic and constant subgraphs are computed once, for each
input shape. Files with other operators are refused with a list of all of them. ONNX Runtime's own operators
(`com.microsoft`), which its optimizer and its quantization write, become standard ones that compute the same.
Integers between QuantizeLinear and DequantizeLinear are computed in 8 bits. What dynamic quantisation writes
(DynamicQuantizeLinear before ConvInteger or MatMulInteger) has kernels, too: values are rounded to their levels, and
multiplied in float32.

| operator | runs as |
|---|---|
{rows}

## Conformance

{passed} of the `onnx` package's own tests (single nodes, simple, pytorch-converted and pytorch-operator) pass. The
others are left out, for these reasons:

{reasons}

## Limits

- Networks of one input, the batch first, and one output (`load_onnx(output=)` chooses one of several).
- float32 for kernels; other types that NumPy has run in NumPy.
- Functions of the file's own are inlined. If takes one branch, Loop and Scan are unrolled: a condition or a number of
  iterations must be a constant, or follow from the shape of images. Others are refused, with the node.
- bfloat16 is computed as float32. No sequences, no sparse tensors, no strings.
- External data lie below the model's folder, in regular files with one name, behind no symbolic link.
- `max_bytes` bounds the file, its arrays, the values of a prediction for one input, and what is computed on the way:
  every operator tells an upper bound from the shapes before it runs. Larger batches may take as much for each input.
- It bounds the work, too, in elementary operations: {loading} for each byte of it until the file is loaded, and {step}
  for each byte in the NumPy steps of a prediction for one input, an operation of a kernel counting 1/{kernel}. What
  asks for more is refused with the node, what it needs and what is allowed; a larger `max_bytes` allows more.
"""


def run_all():
    """(number that passed, names left out by reason, messages of failures)."""
    passed, skipped, failures = 0, {}, []
    for cases in (node_cases(), *(folder_cases(kind) for kind in KINDS)):
        for name, model, sets, rtol, atol in cases:
            reason = why_not(model)
            if reason:
                skipped.setdefault(reason, []).append(name)
                continue
            try:
                check(model, sets, rtol, atol)
                passed += 1
            except Exception as error:  # whatever it is, it belongs into the list
                failures.append(f"{name}: {type(error).__name__}: {str(error)[:500]}")
    return passed, skipped, failures


def check(model, sets, rtol, atol):
    """Run a test; AssertionError where it fails."""
    network = FastcnnBackend.prepare(model)
    for inputs, outputs in sets:
        results = network.run([as_array(value) for value in inputs])
        expected = [as_array(value) for value in outputs]
        assert len(results) == len(expected)
        for got, wanted in zip(results, expected, strict=True):
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


if __name__ == "__main__":
    count, left_out, failed = run_all()
    print(*failed, sep="\n")
    PAGE.write_text(page(left_out, count), encoding="utf-8")
    print(f"{count} passed, {sum(map(len, left_out.values()))} left out, {len(failed)} failed")
