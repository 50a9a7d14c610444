"""The service's own Ray on this machine, before it is started."""

from pathlib import Path

import pytest

from trainables.cluster import local_ray
from trainables.cluster.local_ray import PORTS, LocalRay


def test_its_ports_are_none_that_a_program_gets_by_chance(tmp_path):
    """They are free when it is made, and have to be so whenever the head is started again."""
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = LocalRay(tmp_path).ports
    assert list(found) == list(PORTS)
    assert len(set(found.values())) == len(PORTS)
    assert all(1024 < port < first for port in found.values()), first


@pytest.mark.parametrize("content", ["1024 65535", None])
def test_where_there_are_no_other_ports_it_has_those_of_the_system(tmp_path, monkeypatch, content):
    file = tmp_path / "range"
    if content:
        file.write_text(content)
    monkeypatch.setattr(local_ray, "GIVEN_PORTS", file)
    found = LocalRay(tmp_path).ports
    assert len(set(found.values())) == len(PORTS)
    assert min(found.values()) > 1024
