"""The file of a cluster's machines: for its owner alone, and checked as if a stranger had written it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.cluster.nodes import Node, change_nodes, check_node_name, find_node, read_nodes
from launcher.deployment.cluster.remote import Remote
from launcher.errors import NotFound, UsageError

BOX = Node(
    name="box",
    remote=Remote(target="me@box", program=("env", "A=b", "launcher"), config="/etc/x"),
    machine="[ram]\n",
    engine_sha256=None,
)


def test_nodes_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    assert read_nodes(file) == ()
    change_nodes(file, lambda nodes: (*nodes, BOX))
    assert read_nodes(file) == (BOX,)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("key", "value"),
    [("target", "-oProxyCommand=id"), ("name", "../x"), ("program", []), ("draining", "no"), ("machine", 3)],
)
def test_a_file_with_anything_else_in_it_is_refused(tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "cluster.json"
    change_nodes(file, lambda nodes: (*nodes, BOX))
    document = json.loads(file.read_text())
    document["nodes"][0][key] = value
    file.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="cannot be read"):
        read_nodes(file)


def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    change_nodes(file, lambda nodes: (*nodes, BOX))
    file.chmod(0o666)
    with pytest.raises(UsageError, match="every user can change it"):
        read_nodes(file)


def test_a_node_is_found_by_name_and_by_target() -> None:
    assert find_node((BOX,), "box") is BOX
    assert find_node((BOX,), "me@box") is BOX
    with pytest.raises(NotFound, match="there is box"):
        find_node((BOX,), "bax")


def test_a_name_goes_before_the_target_of_another() -> None:
    first = replace(BOX, name="a", remote=Remote(target="box"))
    assert find_node((first, BOX), "box") is BOX


@pytest.mark.parametrize("name", ["here", "", "-a", "a b", "a/b", "x" * 65])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a machine"):
        check_node_name(name)
