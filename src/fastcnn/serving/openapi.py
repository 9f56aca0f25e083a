"""The description of the routes in OpenAPI 3.1, for clients that are generated from it."""

from __future__ import annotations

from typing import Any

from fastcnn._version import __version__
from fastcnn.serving.service import Service

__all__ = ["description"]


def description(service: Service) -> dict[str, Any]:
    """Return the description of a service."""
    limits, names = service.settings.limits, list(service.models)
    model = {
        "name": "model",
        "in": "query",
        "description": f"The model to ask; {names[0]} by default.",
        "schema": {"type": "string", "enum": names},
    }
    top = {
        "name": "top",
        "in": "query",
        "description": "Classes to name for each photo.",
        "schema": {"type": "integer", "minimum": 1, "default": 5},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "fastcnn", "version": __version__, "description": "Classifies photos."},
        "paths": {
            "/v1/classify": {
                "post": {
                    "operationId": "classify",
                    "summary": f"Classify one photo, or up to {limits.count}.",
                    "parameters": [model, top],
                    "requestBody": {"required": True, "content": _bodies()},
                    "responses": {"200": _answer("Answers in the order of the photos.", "Answers"), **_refusals()},
                }
            },
            "/v1/model": _get("model", "What a model is.", [model], "Model"),
            "/v1/models": _get("models", "All models.", [], "Models"),
            "/healthz": _get("health", "Whether the process lives.", [], "Status"),
            "/readyz": _get("readiness", "Whether photos are taken.", [], "Status"),
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Metrics in Prometheus' text format.",
                    "responses": {"200": {"description": "Metrics.", "content": {"text/plain": {}}}},
                }
            },
        },
        "components": {"schemas": _schemas()},
    }


def _bodies() -> dict[str, Any]:
    binary: dict[str, Any] = {"type": "string", "format": "binary"}
    base64 = {"type": "string", "contentEncoding": "base64"}
    several = {"type": "object", "properties": {"images": {"type": "array", "items": base64}}, "required": ["images"]}
    single = {"type": "object", "properties": {"image": base64}, "required": ["image"]}
    return {
        "image/*": {"schema": binary},
        "application/octet-stream": {"schema": binary},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": {"type": "array", "items": binary}}}
        },
        "application/json": {"schema": {"oneOf": [single, several]}},
    }


def _refusals() -> dict[str, Any]:
    reasons = {
        "400": "The request has no photo, or is of another form.",
        "404": "No model has that name.",
        "408": "The body took too long.",
        "413": "Too many bytes, pixels or photos.",
        "415": "It is no photo.",
        "429": "Too many photos wait; Retry-After tells when to try again.",
        "503": "The answer took too long, or the service stops.",
    }
    return {status: _answer(text, "Error") for status, text in reasons.items()}


def _answer(text: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": text, "content": {"application/json": {"schema": reference}}}


def _get(name: str, summary: str, parameters: list[dict[str, Any]], schema: str) -> dict[str, Any]:
    responses = {"200": _answer(summary, schema)}
    return {"get": {"operationId": name, "summary": summary, "parameters": parameters, "responses": responses}}


def _schemas() -> dict[str, Any]:
    text, number = {"type": "string"}, {"type": "number"}
    prediction = {"index": {"type": "integer"}, "label": text, "probability": number}
    result = {
        "name": {**text, "description": "The name that the file came with."},
        "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
        "error": {**text, "description": "Why this photo has no predictions."},
    }
    return {
        "Prediction": {"type": "object", "properties": prediction, "required": list(prediction)},
        "Result": {"type": "object", "properties": result},
        "Answers": {
            "type": "object",
            "properties": {
                "model": text,
                "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
            },
            "required": ["model", "results"],
        },
        "Model": {"type": "object", "properties": {"name": text, "version": {"type": "integer"}}},
        "Models": {
            "type": "object",
            "properties": {"models": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}},
        },
        "Status": {"type": "object", "properties": {"status": text}, "required": ["status"]},
        "Error": {"type": "object", "properties": {"error": text}, "required": ["error"]},
    }
