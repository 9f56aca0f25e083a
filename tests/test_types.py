"""Weights in bfloat16: rounded, saved in half the space, and shown."""

from __future__ import annotations

import numpy as np
import pytest
from striped_images import network, stripes

import fastcnn as fc
from fastcnn import zoo
from fastcnn.io.weights import read_safetensors, write_safetensors

X = np.random.default_rng(2).standard_normal((3, 3, 32, 32)).astype(np.float32)


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32) & 0xFFFF


def test_weights_are_rounded_and_biases_are_not():
    model = zoo.small_cnn(4, 3, 32, rng=0)
    half = model.astype("bfloat16")
    assert (half.dtype, model.dtype) == ("bfloat16", "float32")
    for name, array in half.named_parameters():
        own = dict(model.named_parameters())[name]
        assert bits(array).any() == (array.ndim == 1 and bits(own).any())
        np.testing.assert_allclose(array, own, rtol=2**-8)
    assert any(bits(array).any() for _, array in model.named_parameters())
    np.testing.assert_allclose(half(X), model(X), atol=0.05 * np.abs(model(X)).max())
    assert half.astype("float32").dtype == "float32"


def test_rounding_is_half_to_even_and_keeps_infinity_and_nan(tmp_path):
    values = np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-9, np.inf, -np.inf, np.nan, 0, -0.0])
    write_safetensors(tmp_path / "w", {"a": values, "b": values, "c": np.int8([1, 2, 3])}, {}, {"a"})
    read, _ = read_safetensors(tmp_path / "w")
    expected = np.float32([1, 1, 1 + 2**-6, -1, np.inf, -np.inf, np.nan, 0, -0.0])
    np.testing.assert_array_equal(read["a"], expected)
    np.testing.assert_array_equal(np.signbit(read["a"]), np.signbit(expected))
    np.testing.assert_array_equal(read["b"], values)


def test_files_take_half_the_space_and_give_the_same_bits(tmp_path):
    model = zoo.small_cnn(4, 3, 32, rng=0)
    half = model.astype("bfloat16")
    model.save(tmp_path / "float.safetensors")
    half.save(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "float.safetensors").stat().st_size
    read = fc.load(tmp_path / "half.safetensors")
    assert read.dtype == "bfloat16"
    np.testing.assert_array_equal(read(X), half(X))
    read.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "half.safetensors").read_bytes()


def test_it_learns_in_float32():
    model, (x, y) = network(), stripes()
    half = model.astype("bfloat16")
    history = half.fit(x, y, epochs=3, optimizer=fc.Adam(0.01), progress=False)
    assert history["loss"][-1] < history["loss"][0] and bits(half[0].weight).any() and half.dtype == "bfloat16"


def test_other_types_and_quantised_networks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dtype='float16', expected one of float32, bfloat16"):
        network().astype("float16")
    small = network().quantize(stripes()[0])
    with pytest.raises(ValueError, match="in 8 bits"):
        small.astype("bfloat16")
    write_safetensors(tmp_path / "m", *changed(small, tmp_path))
    with pytest.raises(fc.ModelLoadError, match="metadata 'dtype'"):
        fc.load(tmp_path / "m")


def changed(model, folder):
    """The content of a model's file with a type that there is not."""
    model.input_shape = (1, 8, 8)
    model.save(folder / "whole")
    tensors, metadata = read_safetensors(folder / "whole")
    return tensors, {**metadata, "dtype": "float8"}


def test_a_summary_shows_types_where_they_differ():
    model = network()
    assert "type" not in str(model.summary((1, 8, 8))).splitlines()[0]
    small = model.quantize(stripes()[0], skip="5")
    lines = str(small.summary((1, 8, 8))).splitlines()
    rows = {line.split()[0]: line for line in lines[2:-2]}
    assert lines[0].endswith("type") and rows["0"].endswith("int8") and rows["5"].endswith("float32")
    assert small.summary((1, 8, 8)).parameters > 0
