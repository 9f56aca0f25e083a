"""Conditions, loops and functions of ONNX files: what they become, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, parser
from onnx.reference import ReferenceEvaluator

from fastcnn.compiler.network import is_resolved
from fastcnn.errors import ModelLoadError
from fastcnn.onnx_model import load_onnx

X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def model(text, opset=17, functions=""):
    """A file from ONNX's text: its graph is g, and reads x."""
    imports = f'["" : {opset}, "own" : 1]'
    return parser.parse_model(f"<ir_version: 9, opset_import: {imports}> g {text} {functions}")


def function(text, opset=17):
    return f'<domain: "own", opset_import: ["" : {opset}, "own" : 1]> {text}'


def check(proto, *shape):
    """Our result for a batch of random images, which has to be the onnx package's."""
    x = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    loaded = load_onnx(proto.SerializeToString())
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-5, atol=1e-6)
    return loaded


def refused(proto, message, **more):
    with pytest.raises(ModelLoadError, match=message):
        load_onnx(proto.SerializeToString(), **more)


# -- conditions ---------------------------------------------------------------------------------------

CHOICE = """(float[N,3,1,4] x) => (float[N,a,b,c] y) <bool c = {{{value}}}, float two = {{2.0}}> {{
  {before}
  y = If (c{which}) <
    then_branch = t () => (float[N,a,b,c] z) <float three = {{3.0}}> {{ u = Mul(x, three) z = Mul(u, two) }},
    else_branch = e () => (float[N,a,b,c] z) {{ z = Relu(x) }} > }}"""


@pytest.mark.parametrize("value", [0, 1])
def test_a_constant_condition_takes_one_branch(value):
    loaded = check(model(CHOICE.format(value=value, before="", which="")), 2, 3, 1, 4)
    assert [node.op for node in loaded.graph().nodes][:2] == (["Mul", "Mul"] if value else ["Relu", "Identity"])


def test_a_condition_may_depend_on_the_shape_of_images():
    """So does PyTorch export `x.squeeze(dim)`: it asks whether the size is 1."""
    text = """(float[N,3,1,4] x) => (float[N,a,b] y) <int64 place = {2}, int64 one = {1}> {
      s = Shape(x) d = Gather(s, place) c = Equal(d, one)
      y = If (c) < then_branch = t () => (float[N,a,b] z) <int64[1] axes = {2}> { z = Squeeze(x, axes) },
                   else_branch = e () => (float[N,a,b,q] z) { z = Identity(x) } > }"""
    assert is_resolved(check(model(text), 2, 3, 1, 4).graph())


def test_a_condition_that_depends_on_inputs_is_refused():
    told = r"node 'y' \(If, opset 17\): its condition depends on the values of inputs or on sizes that are free"
    before = "h = ReduceMax(x) cs = Greater(h, two) c1 = Squeeze(cs)"
    refused(model(CHOICE.format(value=1, before=before, which="1")), told)
    before = "n = Shape<start = 0, end = 1>(x) s = Size(n) m = ReduceSum(n) c1 = Equal(m, s)"
    refused(model(CHOICE.format(value=1, before=before, which="1")), told)
    two = "b = Not(c) c1 = Concat<axis = 0>(d, d)"
    text = CHOICE.format(value=1, before=f"one = Constant<value_ints = [0]>() d = Unsqueeze(c, one) {two}", which="1")
    refused(model(text), "its condition has 2 elements, expected one")


def test_operators_are_asked_of_the_branch_that_is_taken():
    text = """(float[N,3] x) => (float[N,3] y) <bool c = {{{value}}}> {{
      y = If (c) < then_branch = t () => (float[N,3] z) {{ z = Fancy(x) }},
                   else_branch = e () => (float[N,3] z) {{ z = Relu(x) }} > }}"""
    load_onnx(model(text.format(value=0)).SerializeToString())
    refused(model(text.format(value=1)), r"1 operators are not supported\s+Fancy \(opset 17\): nodes 'z'")


# -- loops --------------------------------------------------------------------------------------------

LOOP = """(float[N,3] x) => (float[{dims}] y) <int64 most = {{{most}}}, bool go = {{1}}, float two = {{2.0}}> {{
  {before}
  {results} = Loop ({count}, {go}, x) < body = b (int64 i, bool c, float[N,3] v) => (bool d, float[N,3] w, float[N,3] r)
    <float half = {{0.5}}, int64 last = {{3}}> {{
      {peak} f = Cast<to = 1>(i) g = Mul(v, half) h = Add(g, f) w = Add(h, two) r = Relu(w) d = {decision} }} > }}"""


def loop(**given):
    parts = {"most": 4, "results": "y, rows", "count": "most", "go": "go", "decision": "Identity(c)"}
    return model(LOOP.format(**{**parts, "before": "", "dims": "N,3", "peak": "", **given}))


def rounds(x, count):
    """What `loop` computes: the last value, and what it collects."""
    rows = [np.zeros((0, *x.shape), np.float32)]
    for i in range(count):
        x = x * 0.5 + i + 2
        rows.append(np.maximum(x, 0)[None])
    return x, np.concatenate(rows)


@pytest.mark.parametrize(
    ("count", "given"),
    [
        (4, {}),
        (4, {"go": ""}),
        (4, {"count": "", "decision": "Less(i, last)"}),
        (4, {"decision": "Less(i, last)", "most": 100}),
        (4, {"count": "", "go": "", "decision": "Less(i, last)"}),
        (3, {"count": "n", "before": "s = Shape<start = 1, end = 2>(x) n = Squeeze(s)"}),
        (0, {"most": 0, "results": "y"}),
    ],
)
def test_loops_are_unrolled(count, given):
    loaded = load_onnx(loop(**given).SerializeToString())
    np.testing.assert_allclose(loaded(X), rounds(X, count)[0], rtol=1e-6)
    assert is_resolved(loaded.graph())


def test_what_loops_collect_is_stacked():
    loaded = load_onnx(loop(results="v, y", dims="k,N,3").SerializeToString())
    np.testing.assert_allclose(loaded(X), rounds(X, 4)[1], rtol=1e-6)
    refused(loop(most=0, results="v, y", dims="k,N,3"), "it has no iterations: the shape of what it collects is not")


def test_loops_within_loops_read_what_is_around_them():
    text = """(float[N,3] x) => (float[N,3] y) <int64 three = {3}, int64 two = {2}> {
      y = Loop (three, , x) < body = b (int64 i, bool c, float[N,3] v) => (bool d, float[N,3] w) {
        d = Identity(c) u = Relu(v) f = Cast<to = 1>(i)
        w = Loop (two, , u) < body = bb (int64 k, bool cc, float[N,3] vv) => (bool dd, float[N,3] ww) {
          dd = Identity(cc) fk = Cast<to = 1>(k) s = Add(vv, f) p = Mul(fk, u) q = Add(s, p) ww = Sub(q, x) } > } > }"""
    expected = X
    for i in range(3):
        outer = inner = np.maximum(expected, 0)
        for k in range(2):
            inner = inner + i + k * outer - X
        expected = inner
    np.testing.assert_allclose(load_onnx(model(text).SerializeToString())(X), expected, rtol=1e-5)


def test_loops_whose_length_depends_on_inputs_are_refused():
    before = "h = ReduceMax<keepdims = 0>(x) n = Cast<to = 7>(h)"
    refused(loop(count="n", before=before), r"node 'y' \(Loop, opset 17\): its number of iterations depends on")
    refused(loop(decision="Less(peak, half) peak = ReduceMax<keepdims = 0>(v)"), "'peak' is not computed before")
    refused(loop(decision="Cast<to = 9>(peak)", peak="peak = ReduceMax<keepdims = 0>(v)"), "its condition depends on")


def scan(attrs="", dims="N,3,6", axes=(1, 1)):
    """A running sum over the second axis of x, both ways."""
    text = f"""(float[{dims}] x) => (float[N,a,b] y) <float[1,6] zero = {{0,0,0,0,0,0}}> {{
      last, y = Scan <num_scan_inputs = 1, scan_input_axes = [{axes[0]}], scan_output_axes = [{axes[1]}] {attrs},
        body = b (float[N,6] s, float[N,6] row) => (float[N,6] t, float[N,6] out) {{
          t = Add(s, row) out = Tanh(t) }} > (zero, x) }}"""
    return model(text)


@pytest.mark.parametrize("ways", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_scans_are_unrolled(ways):
    attrs = f", scan_input_directions = [{ways[0]}], scan_output_directions = [{ways[1]}]"
    proto, x = scan(attrs, axes=(-2, -2)), np.random.default_rng(3).standard_normal((5, 3, 6)).astype(np.float32)
    rows = x[:, ::-1] if ways[0] else x
    expected = np.tanh(np.cumsum(rows, 1))
    loaded = load_onnx(proto.SerializeToString())
    np.testing.assert_allclose(loaded(x), expected[:, ::-1] if ways[1] else expected, rtol=1e-5, atol=1e-6)


def test_scans_of_unknown_length_are_refused():
    refused(scan(dims="N,T,6"), r"axis 1 of shape \(None, None, 6\), expected an axis whose size is known")
    refused(scan(", scan_input_directions = [0, 1]"), r"scan_input_directions=\(0, 1\), expected 1 integers")
    refused(scan(axes=(7, 0)), r"axis 7 of shape \(None, 3, 6\)")


# -- functions ----------------------------------------------------------------------------------------


def test_functions_are_inlined_with_their_attributes_and_opsets():
    first = function(
        "scaled <alpha: float = 0.25, axis> (a) => (c) { d = LeakyRelu<alpha: float = @alpha>(a)"
        " e = ReduceMean<axes: ints = @axis, keepdims = 1>(d) c = Add(d, e) }",
        opset=13,
    )
    outer = function("twice (a) => (c) { b = own.scaled<alpha = 0.5, axis = [1]>(a) c = own.scaled<axis = [1]>(b) }")
    text = "(float[N,3] x) => (float[N,3] y) { a = own.twice(x) y = Relu(a) }"
    loaded = load_onnx(model(text, 18, first + outer).SerializeToString())
    expected = X
    for alpha in (0.5, 0.25):
        rows = np.where(expected < 0, alpha * expected, expected)
        expected = rows + rows.mean(1, keepdims=True)
    np.testing.assert_allclose(loaded(X), np.maximum(expected, 0), rtol=1e-5)
    assert is_resolved(loaded.graph())
    assert [node.op for node in loaded.graph().nodes].count("LeakyRelu") == 2


def test_functions_may_lack_inputs_and_give_what_they_get():
    either = function("pair (a, b) => (a, c) { c = Clip(a, b) }")
    text = "(float[N,3] x) => (float[N,3] y) { p, q = own.pair(x) y = Add(p, q) }"
    x = np.float32([[-1, 2, 3]])
    assert (load_onnx(model(text, functions=either).SerializeToString())(x) == 2 * x).all()


def test_operators_of_functions_are_named_with_all_others():
    inner = function("inner (a) => (c) { c = Fancy(a) }")
    unused = function("unused (a) => (c) { c = Other(a) }")
    text = "(float[N,3] x) => (float[N,3] y) { a = own.inner(x) b = own.inner(a) c = Det(b) y = own.missing(c) }"
    with pytest.raises(ModelLoadError, match="3 operators are not supported") as caught:
        load_onnx(model(text, functions=inner + unused).SerializeToString())
    told = str(caught.value)
    assert "Fancy (opset 17): nodes 'c'" in told and "Det" in told and "own::missing" in told and "Other" not in told


def test_calls_that_do_not_fit_are_told():
    one = function("one (a) => (c) { c = Relu(a) }")
    for call, message in {
        "own.one(x, x)": r"2 inputs and attributes \[\], expected at most 1",
        "own.one<beta = 1>(x)": r"1 inputs and attributes \['beta'\]",
    }.items():
        refused(model(f"(float[N,3] x) => (float[N,3] y) {{ y = {call} }}", functions=one), message)
    two = model("(float[N,3] x) => (float[N,3] y) { y, z = own.one(x) }", functions=one)
    refused(two, "2 outputs, expected at most 1")
    twice = model("(float[N,3] x) => (float[N,3] y) { y = own.one(x) }", functions=one + one)
    refused(twice, "two of its functions have one domain, name and overload")


# -- files that never end -----------------------------------------------------------------------------


def test_what_never_ends_is_refused():
    again = function("again (a) => (c) { c = own.again(a) }")
    text = "(float[N,3] x) => (float[N,3] y) {{ y = own.{}(x) }}"
    refused(model(text.format("again"), functions=again), "function 'again' calls itself")
    doubling = [function("f0 (a) => (c) { c = Relu(a) }")]
    for i in range(1, 60):
        doubling.append(function(f"f{i} (a) => (c) {{ b = own.f{i - 1}(a) c = own.f{i - 1}(b) }}"))
    refused(model(text.format("f35"), functions="".join(doubling)), "more than 100000 nodes, with functions inlined")
    refused(model(text.format("f59"), functions="".join(doubling)), "more than 40 bodies and functions within each")
    refused(
        model(text.format("f10"), functions="".join(doubling)), r"its first \d+ nodes: needs 4096", max_bytes=1 << 20
    )
    refused(loop(most=10**18), "it has more than 10000 iterations: too many to unroll")
    refused(scan(dims="N,20000,6"), "it has more than 10000 iterations")
    empty = """(float[N,3] x) => (float[N,3] y) {
      y = Loop (, , x) < body = b (int64 i, bool c, float[N,3] v) => (bool c, float[N,3] v) { } > }"""
    refused(model(empty), "it has more than 10000 iterations")
    refused(model(empty), "its first .* max_bytes", max_bytes=1 << 22)


# -- bfloat16 -----------------------------------------------------------------------------------------


def test_bfloat16_is_computed_as_float32():
    weight = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    bits = weight.view(np.uint32) >> 16
    kept = (bits << 16).view(np.float32)
    raw = TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[3, 5], raw_data=bits.astype("<u2").tobytes())
    listed = TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[3, 5], int32_data=bits.ravel().tolist())
    x = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["n", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    for tensor in (raw, listed):
        for kind in (TensorProto.FLOAT, TensorProto.BFLOAT16):
            graph = helper.make_graph(
                nodes,
                "g",
                [helper.make_tensor_value_info("x", kind, ["N", 3])],
                [helper.make_tensor_value_info("y", 1, None)],
                [tensor],
            )
            content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
            loaded = load_onnx(content.SerializeToString())
            np.testing.assert_allclose(loaded(x), x @ kept, rtol=1e-5, atol=1e-6)
            assert is_resolved(loaded.graph())
            (found,) = loaded.state_dict().values()
            np.testing.assert_array_equal(found, kept.T)
