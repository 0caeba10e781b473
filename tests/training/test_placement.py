"""Two hosts of four devices make a run's first state in each way there is, and neither ever has the whole model.

Measured where it is exact: what a device needs for the programs that initialise is the compiler's word, what is read of
a checkpoint TensorStore counts, and what importing holds of the host's memory is what NumPy asked for.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from tests.processes import with_devices

HOSTS = 2
DEVICES = 8


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> list[dict]:
    """What each host measured."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tests.training.placement_program"]
    folder = str(tmp_path_factory.mktemp("placement") / "run")
    running = [
        subprocess.Popen(
            [*command, str(index), port, folder],
            env=with_devices(DEVICES // HOSTS),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(HOSTS)
    ]
    try:
        ended = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:  # where one host fails the other waits for it
            process.kill()
    assert not any(process.returncode for process in running), [error[-2000:] for _, error in ended]
    return [json.loads(out.splitlines()[-1]) for out, _ in ended]


def test_every_array_is_where_it_belongs(hosts):
    for host in hosts:
        assert host["placed"]
        assert host["held"] < 1.01 * host["model"] / HOSTS  # only the norms' scales are on every device


def test_initialising_takes_two_shares_of_a_device(hosts):
    """The parameters, and the state they become part of."""
    for host in hosts:
        assert host["initialising, one device"] < 2.1 * host["model"] / DEVICES


def test_restoring_reads_the_host_s_own_share(hosts):
    for host in hosts:
        assert host["restoring, read"] < 1.05 * host["model"] / HOSTS


def test_importing_holds_the_host_s_share_and_a_matrix(hosts):
    for host in hosts:
        assert host["largest matrix"] <= host["importing"] < host["held"] + 2 * host["largest matrix"]
