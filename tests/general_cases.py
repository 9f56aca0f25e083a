"""Operands and attributes of random size for every general operation: (inputs, attributes) from a generator."""

from __future__ import annotations

import numpy as np
from recurrent_cases import recurrent

REDUCTIONS = ("none", "add", "mul", "max", "min")
FLOATS, INTEGERS = ("float32", "float64", "float16"), ("int8", "uint8", "int32", "int64")


def array(rng, shape, kind=None):
    """Numbers of a type, with few of them equal to zero."""
    dtype = np.dtype(kind or str(rng.choice(FLOATS)))
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    values = rng.random(shape) * 3 + 1
    return values.astype(dtype)


def sizes(rng, rank=None, most=None):
    rank = int(rng.integers(1, 5)) if rank is None else rank
    most = most or (200_000, 400, 50, 20)[rank - 1]
    return tuple(int(rng.integers(1, most)) for _ in range(rank))


def image(rng, rank=2):
    return (int(rng.integers(1, 4)), int(rng.integers(1, 5)) * 4, *sizes(rng, rank, (400, 60, 16)[rank - 1]))


def ints(*values):
    return np.array(values, np.int64)


def unary(rng):
    return [array(rng, sizes(rng))], {}


def integer_unary(rng):
    return [array(rng, sizes(rng), "int32")], {}


def boolean_unary(rng):
    return [array(rng, sizes(rng), "bool")], {}


def binary(*kinds):
    def case(rng):
        kind = str(rng.choice(kinds))
        shape = sizes(rng)
        other = tuple(size if rng.random() < 0.7 else 1 for size in shape)
        pair = [array(rng, shape, kind), array(rng, other[int(rng.integers(len(other))) :], kind)]
        return pair[:: int(rng.choice([-1, 1]))], {}

    return case


def several(rng):
    kind, shape = str(rng.choice(FLOATS)), sizes(rng)
    return [array(rng, shape, kind) for _ in range(int(rng.integers(1, 5)))], {}


def reduction(rng):
    shape = sizes(rng)
    count = int(rng.integers(0, len(shape) + 1))
    axes = ints(*rng.permutation(len(shape))[:count])
    kind = str(rng.choice([*FLOATS, "int8", "int64"]))
    return [array(rng, shape, kind), axes], {"keepdims": int(rng.integers(2))}


def along(rng):
    shape = sizes(rng)
    return [array(rng, shape)], {"axis": int(rng.integers(len(shape)))}


def softmax(rng):
    inputs, attrs = along(rng)
    return inputs, {**attrs, "flatten": int(rng.integers(2))}


def windows(rng, rank):
    attrs = {
        "strides": tuple(int(rng.integers(1, 4)) for _ in range(rank)),
        "dilations": tuple(int(rng.integers(1, 3)) for _ in range(rank)),
        "pads": tuple(int(rng.integers(3)) for _ in range(2 * rank)),
    }
    kernel = tuple(int(rng.integers(1, 4)) for _ in range(rank))
    return kernel, attrs


def pool(outputs=1, **further):
    def case(rng):
        rank = int(rng.integers(1, 4))
        kernel, attrs = windows(rng, rank)
        shape = (*image(rng, rank)[:2], *(size + 8 for size in image(rng, rank)[2:]))
        x = array(rng, shape, "uint8" if "storage_order" in further and rng.random() < 0.3 else None)
        attrs |= {"kernel_shape": kernel, "ceil_mode": int(rng.integers(2)), **further}
        return [x], {**attrs, "output": int(rng.integers(outputs))} if outputs > 1 else attrs

    return case


def convolution(rng, transposed=False):
    rank = int(rng.integers(1, 4))
    kernel, attrs = windows(rng, rank)
    shape, group = image(rng, rank), int(rng.choice([1, 2]))
    shape = (*shape[:2], *(size + 6 for size in shape[2:]))
    outs = int(rng.integers(1, 5)) * 2
    kind = str(rng.choice(FLOATS[:1] if transposed else FLOATS))
    weight = (shape[1], outs, *kernel) if transposed else (outs, shape[1] // group, *kernel)
    bias = array(rng, (weight[0] if not transposed else outs * group,), kind)
    inputs = [array(rng, shape, kind), array(rng, weight, kind), *([bias] if rng.random() < 0.5 else [])]
    return inputs, {**attrs, "group": group}


def integer_convolution(quantized):
    def case(rng):
        (x, w, *_), attrs = convolution(rng)
        x, w = x.astype(np.uint8), w.astype(np.int8)
        if not quantized:
            return [x, w, np.uint8(3).reshape(()), np.int8(1).reshape(())], attrs
        scale = np.float32(0.5).reshape(())
        zero = np.uint8(1).reshape(())
        return [x, scale, zero, w, scale, np.int8(0).reshape(()), scale, zero], attrs

    return case


def matrices(rng, kinds=(*FLOATS, "int32"), rank=None):
    rank = int(rng.integers(2, 5)) if rank is None else rank
    lead = tuple(int(rng.integers(1, 4)) for _ in range(rank - 2))
    a, b, c = sizes(rng, 3, 90)
    kind = str(rng.choice(kinds))
    return [array(rng, (*lead, a, b), kind), array(rng, (*lead[int(rng.integers(2)) :], b, c), kind)], {}


def gemm(rng):
    (a, b), _ = matrices(rng, FLOATS, 2)
    attrs = {
        "transA": int(rng.integers(2)),
        "transB": int(rng.integers(2)),
        "alpha": float(rng.choice([1.0, 0.5])),
        "beta": float(rng.choice([1.0, 2.0])),
    }
    c = array(rng, (b.shape[1],), a.dtype.name)
    a, b = a.T.copy() if attrs["transA"] else a, b.T.copy() if attrs["transB"] else b
    return [a, b, *([c] if rng.random() < 0.7 else [])], attrs


def integer_matrices(quantized):
    def case(rng):
        (a, b), _ = matrices(rng, ("uint8",))
        if not quantized:
            return [a, b], {}
        scale, zero = np.float32(0.5).reshape(()), np.uint8(2).reshape(())
        return [a, scale, zero, b, scale, zero, scale, zero], {}

    return case


def einsum(rng):
    equation, ranks = [
        ("ij,jk->ik", (2, 2)),
        ("bij,bjk->bik", (3, 3)),
        ("...ij->...ji", (3,)),
        ("ij->", (2,)),
        ("i,j,k->ijk", (1, 1, 1)),
        ("ij,j", (2, 1)),
        ("b...,b...->...", (3, 3)),
    ][int(rng.integers(7))]
    side, kind = int(rng.integers(2, 40)), str(rng.choice(FLOATS[:2]))
    return [array(rng, (side,) * rank, kind) for rank in ranks], {"equation": equation}


def normalisation(count, **further):
    def case(rng):
        shape, kind = image(rng), str(rng.choice(FLOATS))
        return [array(rng, shape, kind), *(array(rng, (shape[1],), kind) for _ in range(count))], dict(further)

    return case


def last_axis(count):
    def case(rng):
        shape, kind = sizes(rng, 3), str(rng.choice(FLOATS))
        return [array(rng, shape, kind), *(array(rng, shape[-1:], kind) for _ in range(count))], {}

    return case


def quantize(back=False):
    def case(rng):
        shape, axis = sizes(rng, 3), int(rng.integers(3))
        blocks = int(rng.choice([0, 4])) if rng.random() < 0.6 else 0
        places = [-(-size // blocks) if blocks and i == axis else size for i, size in enumerate(shape)]
        scale = array(rng, tuple(places) if blocks else shape[axis : axis + 1], "float32")
        x = array(rng, shape, "int8" if back else "float32")
        zero = np.ones(scale.shape, np.int8)
        return [x, scale, *([zero] if rng.random() < 0.7 else [])], {"axis": axis, "block_size": blocks}

    return case


def gather(rng):
    shape = sizes(rng, 3, 30)
    axis = int(rng.integers(3))
    kind = str(rng.choice(["int32", "int64"]))
    return [array(rng, shape), rng.integers(0, shape[axis], sizes(rng, 2, 12)).astype(kind)], {"axis": axis}


def gather_elements(rng):
    shape = sizes(rng, 3, 30)
    axis = int(rng.integers(3))
    return [array(rng, shape), rng.integers(0, shape[axis], shape)], {"axis": axis}


def gather_nd(rng):
    batch = int(rng.integers(2))
    shape = sizes(rng, 4, 16)
    depth = int(rng.integers(1, 4 - batch + 1))
    lead = (*shape[:batch], *sizes(rng, 2, 10))
    index = np.stack([rng.integers(0, shape[batch + i], lead) for i in range(depth)], -1)
    return [array(rng, shape), index], {"batch_dims": batch}


def split(rng):
    shape = sizes(rng, 3)
    parts = int(rng.integers(1, min(4, shape[1]) + 1))
    return [array(rng, shape)], {"axis": 1, "num_outputs": parts, "output": int(rng.integers(parts))}


def pad(rng):
    shape = tuple(size + 3 for size in sizes(rng, 3))
    mode = str(rng.choice(["constant", "reflect", "edge", "wrap"]))
    return [array(rng, shape), rng.integers(-1, 3 if mode != "constant" else 40, 6)], {"mode": mode}


def resize(rng):
    shape = (1, int(rng.integers(1, 4)), *(size + 2 for size in sizes(rng, 2, 40)))
    mode = str(rng.choice(["nearest", "linear", "cubic"]))
    scales = np.array([1, 1, *(rng.random(2) * 2 + 0.2)], np.float32)
    kind = str(rng.choice(["float32", "uint8"]))
    return [array(rng, shape, kind), None, scales], {"mode": mode, "antialias": int(rng.integers(2))}


def one_hot(rng):
    indices = rng.integers(-5, 30, sizes(rng, int(rng.integers(1, 3)))).astype(str(rng.choice(["int32", "int64"])))
    kind = str(rng.choice([*FLOATS, "uint8"]))
    return [indices, ints(int(rng.integers(1, 40))), array(rng, (2,), kind)], {"axis": int(rng.choice([-1, 0]))}


def blocks(to_depth):
    def case(rng):
        n, side = int(rng.integers(1, 4)), int(rng.integers(1, 30))
        shape = (n, 3, 2 * side, 4) if to_depth else (n, 12, side, 7)
        return [array(rng, shape)], {"blocksize": 2, "mode": str(rng.choice(["DCR", "CRD"]))}

    return case


def scatter_nd(rng):
    shape = sizes(rng, 3, 25)
    depth = int(rng.integers(1, 4))
    lead = sizes(rng, 2, 12)
    index = np.stack([rng.integers(-size, size, lead) for size in shape[:depth]], -1)
    kind = str(rng.choice([*FLOATS, "int64"]))
    updates = array(rng, (*lead, *shape[depth:]), kind)
    return [array(rng, shape, kind), index, updates], {"reduction": str(rng.choice(REDUCTIONS))}


def scatter_elements(rng):
    shape, kind = sizes(rng, 3, 25), str(rng.choice([*FLOATS, "int64"]))
    axis, part = int(rng.integers(-3, 3)), tuple(int(rng.integers(1, size + 1)) for size in shape)
    index = rng.integers(-shape[axis], shape[axis], part).astype(str(rng.choice(["int32", "int64"])))
    attrs = {"axis": axis, "reduction": str(rng.choice(REDUCTIONS))}
    return [array(rng, shape, kind), index, array(rng, part, kind)], attrs


def columns(rng):
    rank = int(rng.integers(1, 4))
    kernel, attrs = windows(rng, rank)
    side = tuple(int(size) + 5 for size in image(rng, rank)[2:])
    pads, steps, spread = (attrs[key] for key in ("pads", "strides", "dilations"))
    counts = [
        (side[i] + pads[i] + pads[i + rank] - (kernel[i] - 1) * spread[i] - 1) // steps[i] + 1 for i in range(rank)
    ]
    x = array(rng, (int(rng.integers(1, 4)), int(rng.integers(1, 4)) * int(np.prod(kernel)), int(np.prod(counts))))
    return [x, ints(*side), ints(*kernel)], attrs


def shaped(make):
    """Of an array of three dimensions and its further operands."""

    def case(rng):
        shape = sizes(rng, 3)
        return [array(rng, shape), *make(rng, shape)], {}

    return case


CASES = {
    **dict.fromkeys(("BitwiseNot",), integer_unary),
    "Not": boolean_unary,
    **dict.fromkeys(("And", "Or", "Xor"), binary("bool")),
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor"), binary(*INTEGERS)),
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
        binary(*FLOATS, *INTEGERS),
    ),
    "PRelu": binary(*FLOATS),
    "BitShift": lambda rng: (binary("uint8")(rng)[0], {"direction": "LEFT"}),
    **dict.fromkeys(("Min", "Max", "Sum", "Mean"), several),
    **dict.fromkeys(
        (
            "ReduceSum",
            "ReduceMean",
            "ReduceProd",
            "ReduceMax",
            "ReduceMin",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSum",
        ),
        reduction,
    ),
    "ReduceLogSumExp": lambda rng: ([array(rng, sizes(rng))], {}),
    **dict.fromkeys(("ArgMax", "ArgMin", "LpNormalization"), along),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    "TopK": lambda rng: (
        [array(rng, sizes(rng, 3)), ints(1)],
        {"axis": 1, "largest": int(rng.integers(2)), "output": int(rng.integers(2))},
    ),
    "CumSum": lambda rng: (
        [array(rng, sizes(rng, 3)), ints(1)],
        {"exclusive": int(rng.integers(2)), "reverse": int(rng.integers(2))},
    ),
    "Range": lambda rng: (
        [
            array(rng, (), kind := str(rng.choice(["float32", "int64"]))) * 0,
            np.array(rng.integers(1, 90_000), kind),
            np.ones((), kind),
        ],
        {},
    ),
    "OneHot": one_hot,
    "NonZero": lambda rng: ([array(rng, sizes(rng), "bool")], {}),
    "Conv": convolution,
    "ConvTranspose": lambda rng: convolution(rng, True),
    "ConvInteger": integer_convolution(False),
    "QLinearConv": integer_convolution(True),
    "MaxPool": pool(2, storage_order=0),
    "AveragePool": pool(count_include_pad=1),
    "LpPool": pool(p=3),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), lambda rng: ([array(rng, image(rng))], {})),
    "MatMul": matrices,
    "Gemm": gemm,
    "Einsum": einsum,
    "MatMulInteger": integer_matrices(False),
    "QLinearMatMul": integer_matrices(True),
    "BatchNormalization": lambda rng: normalisation(4, training_mode=int(rng.integers(2)))(rng),
    "InstanceNormalization": normalisation(2),
    "GroupNormalization": normalisation(2, num_groups=4),
    "MeanVarianceNormalization": normalisation(0),
    "LRN": normalisation(0, size=5),
    "LayerNormalization": last_axis(2),
    "RMSNormalization": last_axis(1),
    "QuantizeLinear": quantize(),
    "DequantizeLinear": quantize(True),
    "DynamicQuantizeLinear": lambda rng: ([array(rng, sizes(rng), "float32")], {}),
    "Clip": shaped(lambda rng, shape: [np.zeros((), np.float32), np.ones((), np.float32)]),
    "Where": lambda rng: (
        [array(rng, shape := sizes(rng), "bool"), array(rng, shape, "float32"), array(rng, shape[-1:], "float64")],
        {},
    ),
    "Cast": lambda rng: ([array(rng, sizes(rng))], {"to": int(rng.choice([1, 2, 7, 9, 10, 11]))}),
    "CastLike": shaped(lambda rng, shape: [array(rng, (1,), str(rng.choice([*FLOATS, *INTEGERS])))]),
    "Dropout": lambda rng: ([array(rng, sizes(rng))], {"output": int(rng.integers(2))}),
    "Concat": lambda rng: ([array(rng, (9, int(rng.integers(1, 900)), 5), "float32") for _ in range(3)], {"axis": 1}),
    "Split": split,
    "Slice": shaped(lambda rng, shape: [ints(0), ints(4), ints(1), ints(2)]),
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterND": scatter_nd,
    "ScatterElements": scatter_elements,
    "Col2Im": columns,
    **{name: recurrent(name) for name in ("RNN", "GRU", "LSTM")},
    "Pad": pad,
    "Resize": resize,
    "Reshape": shaped(lambda rng, shape: [ints(-1)]),
    "Flatten": lambda rng: ([array(rng, sizes(rng))], {"axis": 1}),
    "Squeeze": lambda rng: ([array(rng, (1, *sizes(rng)))], {}),
    "Unsqueeze": shaped(lambda rng, shape: [ints(0, 2)]),
    "Transpose": lambda rng: ([array(rng, sizes(rng))], {}),
    "Expand": shaped(lambda rng, shape: [ints(3, *shape)]),
    "Tile": shaped(lambda rng, shape: [ints(1, 3, 2)]),
    "Shape": unary,
    "Size": unary,
    "ConstantOfShape": lambda rng: ([ints(*sizes(rng))], {}),
    "EyeLike": lambda rng: ([array(rng, sizes(rng, 2))], {}),
    "Trilu": shaped(lambda rng, shape: [ints(1)[0]]),
    "DepthToSpace": blocks(False),
    "SpaceToDepth": blocks(True),
}


def random_case(name, rng):
    """Of the operator of that name."""
    return CASES.get(name, unary)(rng)
