"""What clients are answered: one photo or many, in each form, by each model, and what the service tells of itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from serving.asking import as_text, client, photo, served, small_model

import fastcnn as fc
from fastcnn.serving import app, named


def probabilities(model, content):
    return {one.label: round(one.probability, 6) for one in model.classify(content)}


def told(result):
    return {one["label"]: one["probability"] for one in result["predictions"]}


FORMS = {
    "raw": lambda photos: {"content": photos[0], "headers": {"content-type": "image/png"}},
    "octets": lambda photos: {"content": photos[0], "headers": {"content-type": "application/octet-stream"}},
    "untold": lambda photos: {"content": photos[0]},
    "json": lambda photos: {"json": {"image": as_text(photos[0])}},
    "data url": lambda photos: {"json": {"images": ["data:image/png;base64," + as_text(photos[0])]}},
    "form": lambda photos: {"files": {"file": ("a.png", photos[0])}},
    "many in json": lambda photos: {"json": {"images": list(map(as_text, photos))}},
    "many in a form": lambda photos: {"files": [("file", (f"{i}.png", photo)) for i, photo in enumerate(photos)]},
}


@pytest.mark.parametrize("form", FORMS)
def test_answers_are_the_models_in_the_order_of_the_photos(form):
    model, photos = small_model(), [photo(i) for i in range(7)]
    with client(served(model)) as ask:
        answer = ask.post(**FORMS[form](photos))
    assert answer.status_code == 200
    given = answer.json()
    assert given["model"] == "model" and len(given["results"]) == (7 if "many" in form else 1)
    for content, result in zip(photos, given["results"], strict=False):
        assert told(result) == pytest.approx(probabilities(model, content), abs=2e-6)
    if "form" in form:
        assert [result["name"] for result in given["results"]][:1] == ["0.png" if "many" in form else "a.png"]


def test_formats_of_photos():
    model = small_model()
    with client(served(model)) as ask:
        for form in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
            content = photo(3, form)
            assert told(ask.post(content=content).json()["results"][0]) == pytest.approx(
                probabilities(model, content), abs=2e-6
            )


def test_a_photo_that_is_none_spoils_no_other():
    with client(served()) as ask:
        files = [("file", ("good.png", photo())), ("file", ("bad.png", b"no photo")), ("file", ("too.png", photo(1)))]
        answer = ask.post(files=files)
        assert answer.status_code == 200
        good, bad, too = answer.json()["results"]
        assert "predictions" in good and "predictions" in too
        assert bad["error"].startswith("the photo: no image") and bad["name"] == "bad.png"
        none = ask.post(json={"images": [as_text(b"no photo")] * 2})
        assert none.status_code == 415 and len(none.json()["results"]) == 2
        assert ask.post(content=b"no photo").status_code == 415


def test_how_many_classes_are_named():
    with client(served()) as ask:
        for top, named_ones in ((1, 1), (2, 2), (9, 3)):
            (result,) = ask.post(f"/v1/classify?top={top}", content=photo()).json()["results"]
            assert len(result["predictions"]) == named_ones
        for text in ("0", "-1", "x", "1.5", "9" * 30, "²"):
            answer = ask.post("/v1/classify", params={"top": text}, content=photo())
            assert answer.status_code == 400 and "expected a whole number from 1" in answer.json()["error"]


def test_labels_that_are_given():
    model = small_model()
    model.task = "multi_label"
    with client(served(model)) as ask:
        (result,) = ask.post(content=photo()).json()["results"]
    (row,) = model.predict_proba(model.preprocess(photo()))
    wanted = {label for label, probability in zip(model.classes, row, strict=True) if probability > 0.5}
    assert {one["label"] for one in result["predictions"]} == wanted


def test_several_models_by_name(tmp_path):
    first, second = small_model(1, ("a", "b")), small_model(2, ("c", "d"))
    second.save(tmp_path / "other.safetensors")
    with client(served({"one": first, "two": tmp_path / "other.safetensors"})) as ask:
        labels = [
            {one["label"] for one in ask.post(path, content=photo()).json()["results"][0]["predictions"]}
            for path in ("/v1/classify", "/v1/classify?model=one", "/v1/classify?model=two")
        ]
        assert labels == [{"a", "b"}, {"a", "b"}, {"c", "d"}]
        assert [model["name"] for model in ask.get("/v1/models").json()["models"]] == ["one", "two"]
        assert ask.get("/v1/model?model=two").json()["classes"] == ["c", "d"]
        missing = ask.post("/v1/classify?model=tow", content=photo())
        assert missing.status_code == 404 and "did you mean two" in missing.json()["error"]


def test_what_a_model_is():
    model = small_model()
    with client(served(model)) as ask:
        told_of = ask.get("/v1/model").json()
    assert told_of["classes"] == model.classes and told_of["input_shape"] == [3, 16, 16]
    assert told_of["parameters"] == sum(array.size for _, array in model.named_parameters())
    assert told_of["batches"]["sizes"][0] == 1 and set(told_of["batches"]["seconds"]) == {"1", "2", "4"}
    assert told_of["preprocess"] == model.preprocess.to_dict() and told_of["version"] == 1


def test_networks_that_take_numbers_alone_are_served():
    """A forward pass of the user's own keeps pixels out of the plan."""

    class Own(fc.Model):
        def __init__(self):
            self.head = fc.Linear(3 * 8 * 8, 2, rng=0)

        def forward(self, x):
            return self.head(fc.functional.flatten(x))

        def predict_proba(self, x, batch_size=32, **how):
            return super().predict_proba(np.asarray(x), batch_size, **how)[:, ::-1]

    model = Own()
    model.input_shape, model.preprocess = (3, 8, 8), fc.zoo.load_pretrained("efficientnet_lite0").preprocess
    model.preprocess = type(model.preprocess)(size=8)
    with client(served(model)) as ask:
        (result,) = ask.post(content=photo()).json()["results"]
    assert told(result) == pytest.approx(probabilities(model, photo()), abs=2e-6)


def test_health_and_readiness():
    application = served()
    with client(application) as ask:
        assert ask.get("/healthz").json() == {"status": "ok"} and ask.get("/readyz").status_code == 200
        application.service.close()
        assert ask.get("/healthz").status_code == 200
        stopping = ask.get("/readyz")
        assert (stopping.status_code, stopping.json()) == (503, {"status": "stopping"})
        refused = ask.post(content=photo())
        assert refused.status_code == 503 and refused.headers["retry-after"]


def test_metrics_count():
    with client(served({'a"b': small_model()})) as ask:
        ask.post(json={"images": [as_text(photo(i)) for i in range(5)]})
        ask.post(content=b"no photo")
        answer = ask.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if line[0] != "#")
    assert samples[r'fastcnn_requests_total{model="a\"b",status="200"}'] == "1"
    assert samples[r'fastcnn_requests_total{model="a\"b",status="415"}'] == "1"
    assert samples[r'fastcnn_images_total{model="a\"b"}'] == "5"
    assert samples[r'fastcnn_refused_images_total{model="a\"b",reason="photo"}'] == "1"
    assert samples[r'fastcnn_batch_size_sum{model="a\"b"}'] == "5"
    assert samples[r'fastcnn_pending_images{model="a\"b"}'] == "0"
    assert samples[r'fastcnn_request_seconds_count{model="a\"b"}'] == "2"
    kinds = [line.split()[2:] for line in answer.text.splitlines() if line.startswith("# TYPE")]
    assert {kind for _, kind in kinds} == {"counter", "gauge", "histogram"}


def test_large_counts_keep_their_digits():
    from fastcnn.serving.metrics import Counter

    counter = Counter("images_total", "Images.", [])
    counter.add(1_234_567_890)
    counter.add(0.5)
    assert list(counter.lines())[-1] == "images_total 1234567890.5"


def test_the_description_names_all_routes_and_refers_to_what_is_there():
    application = served()
    with client(application) as ask:
        found = ask.get("/openapi.json").json()
    routes = {route.path for route in application.app.routes} - {"/openapi.json"}
    assert set(found["paths"]) == routes and found["openapi"].startswith("3.1")
    text = json.dumps(found)
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references == set(found["components"]["schemas"]) - {"Prediction"} | {"Prediction"}


def test_within_another_application():
    from starlette.applications import Starlette
    from starlette.routing import Mount

    inner = app(small_model(), hosts=None, max_batch=2)
    with client(Starlette(routes=[Mount("/photos", inner)])) as ask:
        answer = ask.post("/photos/v1/classify", content=photo(), headers={"host": "anything.example"})
        assert answer.status_code == 200 and len(answer.json()["results"]) == 1
        assert ask.get("/photos/readyz").status_code == 200
    inner.service.close()


def test_names_of_models():
    model = small_model()
    assert list(named(model)) == ["model"] and list(named({"x": model})) == ["x"]
    for wrong in ({}, {"": model}, {"a\n": model}):
        with pytest.raises(ValueError, match="expected"):
            named(wrong)
    for wrong in (3, {"x": 3}):
        with pytest.raises(TypeError, match="expected a Model or a path"):
            named(wrong)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"max_batch": 0}, ValueError),
        ({"queue": 0}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"max_wait_ms": -1}, ValueError),
        ({"threads": 0}, ValueError),
        ({"max_bytes": 0}, ValueError),
        ({"max_images": "3"}, TypeError),
    ],
)
def test_settings_are_checked(settings, error):
    with pytest.raises(error, match="serving: "):
        served(**settings)


def test_a_model_that_does_not_take_photos_is_refused():
    model = small_model()
    model.preprocess = None
    with pytest.raises(ValueError, match=r"serving: model: .*set model.preprocess"):
        served(model)
