"""Three machines, as namespaces with links that delay and lose packets: the bits stay the same."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
from links import Links, address

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

SCRIPT = """
import os, signal, sys, warnings
from distributed_networks import same, trained
import fastcnn as fc
from fastcnn.distributed import Ray

class Kill(fc.training.Callback):
    done = False
    def on_batch(self, run):
        if run.step == 2 and not self.done:
            self.done = True
            os.kill(run.trainer.team.members[-1].pid, signal.SIGKILL)

class Machines(fc.training.Callback):
    found = set()
    def on_batch(self, run):
        self.found |= {member.node for member in run.trainer.team.members}

warnings.simplefilter("ignore")
machines = Machines()
found = trained(2, distributed=Ray(3, address=sys.argv[1]), callbacks=[machines, Kill()])
assert same(found, trained(2)), "other bits"
print("same bits on", len(machines.found), "machines")
"""


def test_links_that_delay_and_lose_packets_change_no_bit(tmp_path):
    links = Links(3, delay=0.005, loss=0.002)
    ray = str(Path(sys.executable).with_name("ray"))
    nodes = ",".join(map(address, range(3)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "no_proxy": nodes}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # as docs/distributed.md advises
    settings = ("--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block")
    processes = []
    try:
        head = f"{address(0)}:6379"
        for number in range(3):
            role = ("--head", "--port=6379", "--include-dashboard=false") if number == 0 else (f"--address={head}",)
            command = links.command(number, ray, "start", *role, f"--node-ip-address={address(number)}", *settings)
            with open(tmp_path / f"{number}.log", "wb") as log:
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            wait_for(tmp_path / f"{number}.log", processes[-1])
        command = links.command(0, sys.executable, "-c", SCRIPT, head)
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr[-3000:]
        assert "same bits on 3 machines" in result.stdout
        assert links.carried > 1000 and links.lost > 0
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait()
        links.close()


def wait_for(log, process):
    """Wait until a node has started."""
    for _ in range(1200):
        if "Ray runtime started" in log.read_text(errors="replace"):
            return
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)
    raise AssertionError("the node has not started")
