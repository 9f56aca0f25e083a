"""Searches of scikit-learn on joblib's backends: the results of one process, and no more threads than cores."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score

import fastcnn as fc

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

RNG = np.random.default_rng(0)
Y = np.arange(40) % 2
X = RNG.standard_normal((40, 1, 8, 8)).astype(np.float32) + Y[:, None, None, None]


def classifier():
    return fc.ImageClassifier(epochs=2, random_state=0)


def threads(estimator, x, y):
    """A score that tells how many threads a worker has."""
    return fc.get_num_threads()


def check(backend):
    """Results are those without the backend; each worker has one thread."""
    grid = {"learning_rate": [1e-3, 1e-2]}
    expected = cross_val_score(classifier(), X, Y, cv=2)
    search = GridSearchCV(classifier(), grid, cv=2).fit(X, Y)
    with joblib.parallel_backend(backend):
        assert cross_val_score(classifier(), X, Y, cv=2).tolist() == expected.tolist()
        assert cross_val_score(classifier(), X, Y, cv=2, scoring=threads).tolist() == [1, 1]
        found = GridSearchCV(classifier(), grid, cv=2).fit(X, Y)
        halving = HalvingGridSearchCV(classifier(), grid, cv=2, min_resources=10, random_state=0).fit(X, Y)
    assert found.cv_results_["mean_test_score"].tolist() == search.cv_results_["mean_test_score"].tolist()
    assert halving.best_params_["learning_rate"] in grid["learning_rate"]


def test_searches_run_on_ray(nodes):
    from ray.util.joblib import register_ray

    register_ray()
    check("ray")


def test_searches_run_on_dask():
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        check("dask")
