"""A cluster of three nodes on this machine, each with an object store and workers of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

STORE = 120 << 20


def started(start):
    """What `start` gives. Ray waits half a minute for a node, which on a busy machine may take longer."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


class Nodes:
    """A cluster whose nodes come and go.

    Parameters
    ----------
    cpus : sequence of int
        Of each node; this process belongs to the first.
    """

    def __init__(self, cpus):
        import ray
        from ray.cluster_utils import Cluster

        # Workers look for modules where this process does.
        os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, filter(None, sys.path))])
        self.ray = ray
        settings = {"include_dashboard": False, "object_store_memory": STORE, "num_cpus": cpus[0]}
        self.cluster = started(lambda: Cluster(initialize_head=True, head_node_args=settings))
        self.others = []
        for count in cpus[1:]:
            self.add(count)
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="error")
        self.cluster.wait_for_nodes()

    def add(self, cpus):
        """Start a node."""
        self.others.append(started(lambda: self.cluster.add_node(num_cpus=cpus, object_store_memory=STORE)))

    def remove(self):
        """Kill the node that was started first; never that of this process."""
        self.cluster.remove_node(self.others.pop(0), allow_graceful=False)

    def close(self):
        """End all nodes."""
        self.ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="session")
def nodes():
    before = os.environ.get("PYTHONPATH")
    nodes = Nodes((2, 2, 2))
    yield nodes
    nodes.close()
    if before is None:
        os.environ.pop("PYTHONPATH")
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def source():
    return Path(__file__).parents[2] / "src"
