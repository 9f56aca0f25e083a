"""Layers: registration of arrays and sub-layers, state dicts, first weights, and what each one computes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fastcnn import functional, layers
from fastcnn.layers import (
    GELU,
    BatchNorm2d,
    Buffer,
    Conv2d,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    Linear,
    MultiheadAttention,
    Parameter,
    ReLU,
    RMSNorm,
)
from fastcnn.sequential import Sequential


class Block(Layer):
    """A layer with everything a layer can have."""

    def __init__(self) -> None:
        self.conv = Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm = BatchNorm2d(3)
        self.scale = Parameter(np.full((3, 1, 1), 2.0))
        self.offset = Buffer([0.5])
        self.head = Sequential(ReLU(), Linear(4, 5))
        self.note = "plain attributes stay plain"

    def forward(self, x):
        return self.head(self.norm(self.conv(x)) * self.scale + self.offset)


BLOCK_STATE = [
    "scale",
    "offset",
    "conv.weight",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "head.1.weight",
    "head.1.bias",
]


def test_state_dict_has_pytorchs_names_and_order():
    block = Block()
    assert list(block.state_dict()) == BLOCK_STATE
    buffers = [name for name, _ in block.named_buffers()]
    assert buffers == ["offset", "norm.running_mean", "norm.running_var"]
    assert [name for name, _ in block.named_parameters()] == [n for n in BLOCK_STATE if n not in buffers]
    assert [name for name, _ in block.named_children()] == ["conv", "norm", "head"]
    assert [path for path, _ in block.named_layers()] == ["", "conv", "norm", "head", "head.0", "head.1"]


def test_stored_arrays_are_read_only_float32_copies():
    source = np.arange(6.0).reshape(2, 3).T
    layer = Layer()
    layer.weight = Parameter(source)
    source[:] = -1
    assert type(layer.weight) is np.ndarray
    assert layer.weight.dtype == np.float32 and layer.weight.flags.c_contiguous
    assert layer.weight.tolist() == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0, 0] = 1
    layer.weight = source
    source[:] = 7
    assert (layer.weight == -1).all()
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0, 0] = 1


def test_assignment_keeps_the_shape_and_names_what_is_wrong():
    layer = Linear(2, 3)
    with pytest.raises(ValueError, match=r"Linear\.weight: shape=\(2, 3\), expected \(3, 2\)"):
        layer.weight = np.zeros((2, 3))
    with pytest.raises(TypeError, match=r"Linear\.bias: dtype=complex64"):
        layer.bias = np.zeros(3, np.complex64)
    layer.weight = Parameter(np.zeros((4, 2)))  # declared anew
    assert layer.weight.shape == (4, 2) and list(layer.state_dict()) == ["weight", "bias"]


def test_arrays_and_lists_of_layers_cannot_be_forgotten():
    layer = Layer()
    with pytest.raises(TypeError, match=r"Layer\.mean: got a plain array, expected Parameter"):
        layer.mean = np.zeros(3)
    with pytest.raises(TypeError, match=r"Layer\.blocks: got a list of layers, expected a Sequential"):
        layer.blocks = [ReLU()]
    with pytest.raises(AttributeError, match="forward is a method, expected another name"):
        layer.forward = ReLU()
    with pytest.raises(ValueError, match="without dots"):
        setattr(layer, "a.b", ReLU())


def test_attributes_can_change_kind_and_go():
    layer = Linear(2, 3)
    layer.bias = None
    assert layer.bias is None and list(layer.state_dict()) == ["weight"]
    layer.bias = Parameter(np.zeros(3))
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer.bias = Buffer(np.ones(3))
    assert [name for name, _ in layer.named_buffers()] == ["bias"]
    del layer.bias
    assert list(layer.state_dict()) == ["weight"] and not hasattr(layer, "bias")
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'bias'"):
        _ = layer.bias
    with pytest.raises(AttributeError):
        del layer.bias
    assert "weight" in dir(layer)


def test_generation_grows_with_every_change():
    layer = Linear(2, 3)
    seen = [layers.generation()]
    for change in (
        lambda: setattr(layer, "weight", np.zeros((3, 2))),
        lambda: layer.load_state_dict({"bias": np.ones(3)}, strict=False),
        lambda: setattr(layer, "note", 1),
        lambda: delattr(layer, "note"),
        lambda: ReLU(),
    ):
        change()
        seen.append(layers.generation())
    assert seen == sorted(set(seen))
    layer.state_dict()
    layer(np.zeros((1, 2)))
    assert layers.generation() == seen[-1]


def test_load_state_dict_lists_all_problems_and_then_changes_nothing():
    block = Block()
    before = block.state_dict()
    state = {name: np.full(array.shape, 9.0) for name, array in before.items()}
    del state["scale"]
    state["norm.bias"] = np.zeros(4)
    state["extra.weight"] = np.zeros(1)
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    assert str(caught.value) == (
        "load_state_dict: 3 names do not fit Block\n"
        "  norm.bias: shape (4,), expected (3,)\n"
        "  scale: missing\n"
        "  extra.weight: unexpected"
    )
    with pytest.raises(ValueError, match="1 name does not fit"):
        block.load_state_dict(state, strict=False)
    assert all(block.state_dict()[name] is array for name, array in before.items())


def test_load_state_dict_copies_and_reports():
    block = Block()
    state = {name: np.full(array.shape, 9.0) for name, array in block.state_dict().items()}
    state["norm.num_batches_tracked"] = np.array(3)
    assert block.load_state_dict(state) == ([], [])
    state["scale"][:] = 0
    assert (block.scale == 9).all()
    assert block.load_state_dict({"offset": [1], "other": 0}, strict=False) == (
        [name for name in BLOCK_STATE if name != "offset"],
        ["other"],
    )
    assert block.offset.tolist() == [1]
    with pytest.raises(TypeError, match="load_state_dict: offset: dtype=<U1"):
        block.load_state_dict({"offset": ["x"]}, strict=False)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_equal_independent_and_read_only(clone):
    block = Block()
    twin = clone(block)
    assert list(twin.state_dict()) == BLOCK_STATE and twin.note == block.note
    for name, array in twin.state_dict().items():
        assert (array == block.state_dict()[name]).all() and not array.flags.writeable
    twin.scale = np.zeros((3, 1, 1))
    assert (block.scale == 2).all()


def test_repr_is_a_tree():
    assert repr(Block()) == (
        "Block(\n"
        "  (conv): Conv2d(2, 3, kernel_size=(3, 3), padding=1, bias=False)\n"
        "  (norm): BatchNorm2d(3, eps=1e-05)\n"
        "  (head): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=4, out_features=5)\n"
        "  )\n"
        ")"
    )


def test_a_layer_without_forward_says_so():
    with pytest.raises(TypeError, match="Layer has no forward method"):
        Layer()(np.zeros(1))


@pytest.mark.parametrize(("make", "fan_in"), [(lambda: Conv2d(8, 64, 5, groups=4), 50), (lambda: Linear(300, 99), 300)])
def test_first_weights_are_uniform_within_the_bound(make, fan_in):
    layer = make()
    bound = fan_in**-0.5
    assert abs(layer.weight).max() <= bound and abs(layer.bias).max() <= bound
    assert abs(layer.weight).max() > 0.99 * bound
    assert abs(layer.weight.mean()) < 0.05 * bound
    assert layer.weight.std() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_first_weights_are_reproducible():
    def weights(**rng):
        return Conv2d(3, 4, 3, **rng).weight.tolist()

    layers.manual_seed(5)
    first, second = weights(), weights()
    layers.manual_seed(5)
    assert weights() == first != second
    assert weights(rng=5) == weights(rng=np.random.default_rng(5))
    with layers.seeded(5):
        assert weights() == weights(rng=5)
        with layers.seeded(6):
            assert weights() == weights(rng=6)
    assert weights() == second  # the blocks have not drawn from the default generator


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2d(3, 4, 3, groups=2), "Conv2d: in_channels=3, expected a multiple of groups=2"),
        (lambda: Conv2d(4, 3, 3, groups=2), "Conv2d: out_channels=3, expected a multiple of groups=2"),
        (lambda: Conv2d(0, 3, 3), "Conv2d: in_channels=0, expected a positive int"),
        (lambda: Conv2d(1, 3, (3, 3, 3)), "Conv2d: kernel_size="),
        (lambda: Conv2d(1, 3, 0), "Conv2d: kernel_size=0"),
        (lambda: Linear(3, -1), "Linear: out_features=-1"),
        (lambda: BatchNorm2d(2.5), "BatchNorm2d: num_features=2.5"),
        (lambda: LayerNorm(float("inf")), "LayerNorm: normalized_shape=inf, expected an integer or a sequence"),
        (lambda: LayerNorm((2, "a")), r"LayerNorm: normalized_shape=\(2, 'a'\), expected an integer or a sequence"),
        (lambda: RMSNorm(()), r"RMSNorm: normalized_shape=\(\), expected at least one size"),
        (lambda: RMSNorm((1 << 20, 1 << 20)), r"RMSNorm: normalized_shape=.*, expected less than 2\*\*31 elements"),
        (lambda: functional.layer_norm(X, [[1], [1, 2]]), "layer_norm: normalized_shape=.*, expected an integer or a"),
    ],
)
def test_bad_sizes_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("value", [np.zeros(2), "no", None, 1])
def test_what_is_no_flag_is_refused(value):
    makes = lambda: Conv2d(1, 1, 1, bias=value), lambda: Linear(1, 1, value), lambda: MultiheadAttention(2, 1, value)
    for make in makes:
        with pytest.raises(TypeError, match="bias=.*, expected True or False"):
            make()
    with pytest.raises(TypeError, match="affine=.*, expected True or False"):
        InstanceNorm2d(2, affine=value)


@pytest.mark.parametrize("name", [np.zeros(2), "erf", None, ["tanh"]])
def test_approximations_are_two(name):
    for make in (GELU, lambda name: functional.gelu(X, name), lambda name: functional.gelu_grad(X, X, name)):
        with pytest.raises(ValueError, match="approximate=.*, expected one of none, tanh"):
            make(name)


def test_what_has_no_shape_is_refused():
    for call in (functional.instance_norm, lambda x: functional.group_norm(x, 1)):
        with pytest.raises(TypeError, match="x: expected an array"):
            call([[1.0], [2.0, 3.0]])


X = np.random.default_rng(0).standard_normal((2, 4, 9, 8))


def _norm() -> BatchNorm2d:
    layer = BatchNorm2d(4, eps=1e-3)
    layer.weight, layer.bias = [1, 2, 3, 4], [0, 1, 0, 1]
    layer.running_mean, layer.running_var = [1, -1, 0.5, 0], [0.5, 1, 2, 3]
    return layer


CASES = [
    (
        Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, rng=0),
        lambda c, x: functional.conv2d(x, c.weight, c.bias, (2, 1), (1, 0), (1, 2), 2),
    ),
    (
        Conv2d(4, 6, 3, padding="same", bias=False),
        lambda c, x: functional.conv2d(x, c.weight, padding="same"),
    ),
    (Linear(8, 3), lambda c, x: functional.linear(x, c.weight, c.bias)),
    (Linear(8, 3, bias=False), lambda c, x: functional.linear(x, c.weight)),
    (
        _norm(),
        lambda c, x: functional.batch_norm(x, c.running_mean, c.running_var, c.weight, c.bias, eps=1e-3),
    ),
    (
        layers.MultiheadAttention(8, 2, rng=0),
        lambda c, x: functional.multi_head_attention(
            x, x, x, 2, c.in_proj_weight, c.in_proj_bias, c.out_proj.weight, c.out_proj.bias
        ),
    ),
    (ReLU(), lambda c, x: functional.relu(x)),
    (layers.ReLU6(), lambda c, x: functional.relu6(x)),
    (layers.LeakyReLU(0.2), lambda c, x: functional.leaky_relu(x, 0.2)),
    (layers.Tanh(), lambda c, x: functional.tanh(x)),
    (layers.Sigmoid(), lambda c, x: functional.sigmoid(x)),
    (layers.HardSwish(), lambda c, x: functional.hardswish(x)),
    (layers.HardSigmoid(), lambda c, x: functional.hardsigmoid(x)),
    (layers.SiLU(), lambda c, x: functional.silu(x)),
    (layers.GELU(), lambda c, x: functional.gelu(x)),
    (layers.GELU("tanh"), lambda c, x: functional.gelu(x, "tanh")),
    (layers.LayerNorm(8), lambda c, x: functional.layer_norm(x, 8, c.weight, c.bias)),
    (layers.LayerNorm((4, 9, 8), 0.1), lambda c, x: functional.layer_norm(x, (4, 9, 8), c.weight, c.bias, 0.1)),
    (layers.RMSNorm(8), lambda c, x: functional.rms_norm(x, 8, c.weight)),
    (layers.GroupNorm(2, 4, 0.1), lambda c, x: functional.group_norm(x, 2, c.weight, c.bias, 0.1)),
    (layers.InstanceNorm2d(4), lambda c, x: functional.instance_norm(x)),
    (layers.InstanceNorm2d(4, 0.1, True), lambda c, x: functional.instance_norm(x, c.weight, c.bias, 0.1)),
    (layers.Softmax(1), lambda c, x: functional.softmax(x, 1)),
    (layers.MaxPool2d(3, 2, 1, 1, True), lambda c, x: functional.max_pool2d(x, 3, 2, 1, 1, True)),
    (layers.MaxPool2d((2, 1)), lambda c, x: functional.max_pool2d(x, (2, 1))),
    (layers.AvgPool2d(3, 2, 1, True, False), lambda c, x: functional.avg_pool2d(x, 3, 2, 1, True, False)),
    (layers.GlobalAvgPool2d(), lambda c, x: functional.global_avg_pool2d(x)),
    (layers.Dropout(0.3), lambda c, x: x),
    (layers.DropPath(0.3), lambda c, x: x),
    (layers.Flatten(2), lambda c, x: functional.flatten(x, 2)),
]


@pytest.mark.parametrize(
    ("layer", "function"),
    CASES,
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else "",
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_are_their_functions(layer, function, dtype):
    x = (X[:, 0] if isinstance(layer, layers.MultiheadAttention) else X).astype(dtype)
    y = layer(x)
    expected = function(layer, x)
    assert y.dtype == expected.dtype and y.shape == expected.shape
    assert (y == expected).all()
    assert type(layer).__name__ in repr(layer)


def test_every_layer_class_is_tested_above():
    classes = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    bases = {"Buffer", "Layer", "LoadResult", "Parameter"}
    assert classes - bases == {type(layer).__name__ for layer, _ in CASES}
