"""Everything that holds data: for fit, validation, evaluate and predict alike."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import fastcnn as fc

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 6)).astype(np.float32), RNG.integers(0, 3, 24)
SETTINGS = {"epochs": 2, "batch_size": 8, "optimizer": fc.SGD(0.1)}


class Loader:
    """As PyTorch's DataLoader: lists of batches, as often as it is asked."""

    def __init__(self, x, y, size=8):
        self.batches = [[x[i : i + size], y[i : i + size]] for i in range(0, len(x), size)]

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Items:
    """As PyTorch's Dataset: an image and a label by number."""

    classes = ["red", "blue"]

    def __init__(self, images, labels):
        self.images, self.labels_of_items = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels_of_items[index]


class Feature:
    def __init__(self, names=None):
        self.names = names


class HuggingFace(Items):
    """As datasets.Dataset: columns by name, rows by number."""

    column_names = ["image", "label"]
    features = {"image": type("Image", (Feature,), {})(), "label": type("ClassLabel", (Feature,), {})(["red", "blue"])}

    def __getitem__(self, key):
        if isinstance(key, str):
            assert key == "label", "no images are decoded to learn the labels"
            return self.labels_of_items
        return {"image": self.images[key], "label": self.labels_of_items[key]}


class Frame:
    """As a data frame of pandas'."""

    def __init__(self, **columns):
        self.columns, self._cells, self.iloc = list(columns), columns, None

    def __getitem__(self, name):
        return np.array(self._cells[name], object)


@pytest.fixture
def photos(tmp_path):
    """24 red and blue photos in a folder of classes, and the rest that is said of them."""
    paths, labels = [], []
    for i in range(24):
        name = ("red", "blue")[i % 2]
        (tmp_path / "all" / name).mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 60, (10, 12, 3), np.uint8)
        pixels[..., (0, 2)[i % 2]] += 150
        paths.append(tmp_path / "all" / name / f"{i:02}.png")
        Image.fromarray(pixels).save(paths[-1])
        labels.append(name)
    return tmp_path, paths, labels


def plain():
    return fc.Sequential(fc.Linear(6, 3, rng=0))


def small():
    model = fc.zoo.small_cnn(2, 3, 8)
    model.classes = ["blue", "red"]
    return model


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(np.array_equal(a[name], b[name]) for name in a)


# -- batches ------------------------------------------------------------------------------------------


def test_batches_are_for_all():
    arrays, batches = plain(), plain()
    report = arrays.evaluate(X, Y)
    for form in (Loader(X, Y), list(Loader(X, Y)), [tuple(b) for b in Loader(X, Y)], ((x, y) for x, y in Loader(X, Y))):
        assert batches.evaluate(form) == report
    first = arrays.fit(Loader(X, Y), **SETTINGS, validation=(X, Y))
    second = batches.fit(Loader(X, Y), **SETTINGS, validation=Loader(X, Y))
    assert first["validation_accuracy"] == second["validation_accuracy"] and same(arrays, batches)
    assert first["validation_loss"] == pytest.approx(second["validation_loss"])
    two = [(X[:12], Y[:12]), (X[12:], Y[12:])]  # not taken for a pair (x, y)
    assert plain().fit(X, Y, **SETTINGS, validation=two)["validation_accuracy"]
    expected = arrays.predict_proba(X)
    for form in (Loader(X, Y), list(Loader(X, Y)), (x for x, _ in Loader(X, Y)), X.tolist(), X.astype(float)):
        np.testing.assert_array_equal(arrays.predict_proba(form), expected)
    assert arrays.predict(Loader(X, Y)).tolist() == arrays.predict(X).tolist()


def test_what_yields_nothing_is_refused():
    for call in (plain().evaluate, plain().predict, lambda x: plain().fit(X, Y, validation=x)):
        with pytest.raises(ValueError, match="yields no batches"):
            call(iter([]))
    with pytest.raises(ValueError, match="iterated only once"):
        plain().fit(X, Y, epochs=2, validation=iter(Loader(X, Y)))


# -- photos -------------------------------------------------------------------------------------------


def test_forms_of_the_same_photos_train_the_same(photos):
    folder, paths, labels = photos
    numbers = [("red", "blue").index(label) for label in labels]
    relative = [path.relative_to(folder) for path in paths]
    (folder / "a.csv").write_text("file,label\n" + "".join(f"{p},{y}\n" for p, y in zip(relative, labels, strict=True)))
    (folder / "a.tsv").write_text(
        "label\tpath\n" + "".join(f"{y}\t{p}\n" for p, y in zip(relative, labels, strict=True))
    )
    opened = [Image.open(path) for path in paths]
    for image in opened:
        image.load()
    forms = {
        "csv": folder / "a.csv",
        "tsv": str(folder / "a.tsv"),
        "frame": Frame(photo=paths, category=labels),
        "hugging face": HuggingFace(opened, numbers),
        "parts": {"train": HuggingFace(opened, numbers), "test": HuggingFace(opened[:2], numbers[:2])},
        "pytorch": Items(opened, numbers),
        "pairs": list(zip(paths, labels, strict=True)),
        "a generator": zip(opened, labels, strict=True),
        "pixels": [(np.asarray(image), label) for image, label in zip(opened, labels, strict=True)],
    }
    expected = small()
    expected.fit(paths, labels, **SETTINGS)
    for name, form in forms.items():
        model = small()
        model.fit(form, **SETTINGS)
        assert same(model, expected), name
        assert model.classes == ["blue", "red"], name
    again = fc.zoo.small_cnn(2, 3, 8)
    again.fit(HuggingFace(opened, numbers), epochs=1)
    assert again.classes == ["red", "blue"]  # the data set's own order
    report = expected.evaluate(paths, labels)
    for form in (folder / "all", folder / "a.csv", Items(opened, numbers), forms["pairs"]):
        assert expected.evaluate(form).accuracy == report.accuracy
    ordered = sorted(paths)
    probabilities = expected.predict_proba(ordered)
    for form in (
        folder / "all",
        [str(path) for path in ordered],
        [Image.open(p) for p in ordered],
        np.array(list(map(str, ordered))),
    ):
        np.testing.assert_array_equal(expected.predict_proba(form), probabilities)
    assert expected.predict_proba(paths[3]).shape == (1, 2)


def test_photos_of_data_sets_are_fetched_one_by_one(photos):
    _, paths, labels = photos
    fetched = []

    class Lazy(HuggingFace):
        def __getitem__(self, key):
            if not isinstance(key, str):
                fetched.append(key)
            return super().__getitem__(key)

    small().fit(Lazy([Image.open(path) for path in paths], [0, 1] * 12), epochs=1, validation=0.25)
    assert len(fetched) <= 24 + 1  # and the first, to see what they are


def test_several_labels(photos):
    folder, paths, _ = photos
    sets = [["red"], ["blue", "red"]] * 12
    lines = [f"{path},{'|'.join(names)}\n" for path, names in zip(paths, sets, strict=True)]
    (folder / "a.csv").write_text("path,labels\n" + "".join(lines))
    lines = [f"{path},{int('blue' in names)},{int('red' in names)}\n" for path, names in zip(paths, sets, strict=True)]
    (folder / "b.csv").write_text("path,blue,red\n" + "".join(lines))
    expected = small()
    expected.fit(paths, sets, loss="binary_cross_entropy", **SETTINGS)
    for name in ("a.csv", "b.csv"):
        model = fc.zoo.small_cnn(2, 3, 8)
        model.fit(folder / name, loss="binary_cross_entropy", **SETTINGS)
        assert same(model, expected) and model.classes == ["blue", "red"] and model.task == "multi_label"


def test_arrays_in_files_and_tensors(tmp_path):
    images, y = RNG.random((24, 8, 8, 3)).astype(np.float32), np.arange(24) % 2
    expected = fc.zoo.small_cnn(2, 3, 8)
    expected.fit(images.transpose(0, 3, 1, 2), y, **SETTINGS)
    np.savez(tmp_path / "a.npz", x=images, y=y)
    np.savez(
        tmp_path / "b.npz",
        train_images=images,
        train_labels=y[:, None],
        test_images=images[:4],
        test_labels=y[:4, None],
    )
    for form in (tmp_path / "a.npz", tmp_path / "b.npz", Items(list(images.transpose(0, 3, 1, 2)), list(y))):
        model = fc.zoo.small_cnn(2, 3, 8)
        model.fit(form, **SETTINGS)
        assert same(model, expected)
    assert expected.evaluate(tmp_path / "b.npz").count == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", "1 lines, expected names of columns"),
        ("path,label\na.jpg\n", r"a\.csv: line 2: 1 cells, expected 2"),
        ("path\na.jpg\n", "has the column 'path' only"),
        ("path,red,blue\na.jpg,1,maybe\n", r"a\.csv: line 2: the column 'blue' has 'maybe', expected 0 or 1"),
    ],
)
def test_bad_tables_are_refused(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        small().fit(tmp_path / "a.csv")


def test_other_bad_data_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", z=X)
    with pytest.raises(ValueError, match="has the arrays z, expected x and y"):
        plain().fit(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="has the parts dev, expected train"):
        plain().fit({"dev": 1})
    with pytest.raises(ValueError, match="images of shapes"):
        small().fit(Items([np.zeros((3, 8, 8)), np.zeros((3, 9, 9))], [0, 1]))


# -- what goes on top of it ---------------------------------------------------------------------------


def test_cross_validation_trains_on_all_but_each_part():
    from fastcnn.training.folds import folds_of

    model = plain()
    before = model.state_dict()
    found = model.cross_validate(X, Y, folds=3, epochs=5, optimizer=fc.SGD(0.1), seed=2)
    assert len(found.reports) == 3 and sum(report.count for report in found.reports) == 24
    parts = list(folds_of(Y, 3, 2))
    assert sorted(np.concatenate([validate for _, validate in parts]).tolist()) == list(range(24))
    for (learn, validate), report in zip(parts, found.reports, strict=True):
        assert not set(learn) & set(validate) and len(learn) + len(validate) == 24
        counts = [np.bincount(Y[part], minlength=3) for _, part in parts]
        assert np.ptp(counts, axis=0).max() <= 1
        by_hand = plain()
        by_hand.fit(X[learn], Y[learn], epochs=5, optimizer=fc.SGD(0.1), seed=2)
        assert by_hand.evaluate(X[validate], Y[validate]).accuracy == report.accuracy
    assert found.accuracy == pytest.approx(np.mean([report.accuracy for report in found.reports]))
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())
    with pytest.raises(ValueError, match="folds=25 of 24 inputs"):
        model.cross_validate(X, Y, folds=25)


def test_the_learning_rate_found_is_below_where_the_loss_explodes():
    """Least squares of two outputs: gradient descent is stable below a rate of 2 / the largest eigenvalue."""
    x = RNG.standard_normal((256, 6)).astype(np.float32)
    y = (x @ RNG.standard_normal((6, 2))).astype(np.float32)
    model = fc.Sequential(fc.Linear(6, 2, rng=0))
    found = model.find_learning_rate(x, y, 256, optimizer=fc.SGD(1.0), loss="mse", low=1e-5, high=100)
    limit = 2 / np.linalg.eigvalsh(x.T @ x / 256)[-1]
    assert limit / 100 < found.suggestion < limit and found.rates[-1] > limit
    assert len(found.rates) == len(found.losses) < 100
    again = fc.Sequential(fc.Linear(6, 2, rng=0))
    assert all(
        np.array_equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    with pytest.raises(ValueError, match="expected 0 < low < high"):
        model.find_learning_rate(x, y, low=1, high=0.1)


def test_test_time_augmentation_is_the_mean(photos):
    _, paths, labels = photos
    model = small()
    model.fit(paths, labels, epochs=1)
    mirrored = lambda image: image[:, ::-1]  # noqa: E731
    x = np.concatenate([model.preprocess(path) for path in paths])
    expected = (model.predict_proba(x) + 3 * model.predict_proba(x[..., ::-1])) / 4
    np.testing.assert_allclose(model.tta(paths, times=3, augment=mirrored), expected, rtol=1e-5)
    np.testing.assert_allclose(model.tta(x, times=3, augment=mirrored), expected, rtol=1e-5)
    assert not np.array_equal(model.tta(x), model.predict_proba(x))
    np.testing.assert_array_equal(model.tta(x, workers=2), model.tta(x, workers=0))


@pytest.mark.parametrize("x", [np.array("photo"), np.array(None), 3.0, None, object()])
def test_what_is_no_data_is_refused(x):
    model = fc.Sequential(fc.Flatten(), fc.Linear(3, 2))
    for call in (model.predict_proba, model.predict, model.tta):
        with pytest.raises((TypeError, ValueError), match="x.*expected"):
            call(x)
