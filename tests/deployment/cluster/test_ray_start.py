"""What is typed for a node of Ray, and what its log says of a start. The logs are Ray 2.60.0's own words."""

from __future__ import annotations

import pytest

from launcher.deployment.cluster.ray_start import (
    RayPlace,
    check_addresses,
    find_problem,
    has_started,
    ray_argv,
    ray_environment,
)
from launcher.errors import NotAllowed, TryAgain, UsageError

HEAD = RayPlace(address="10.9.0.1", head="10.9.0.1", port=6379)
NODE = RayPlace(address="10.9.0.2", head="10.9.0.1", port=6379)
STARTED = "2026-12-01 16:29:24,488\tSUCC scripts.py:1085 -- Ray runtime started."
REFUSED = (
    "[2026-12-01 16:29:57,973 W 852 852] gcs_client.cc:210: Failed to get cluster ID from GCS server: "
    "Unauthenticated: RPC error: InvalidAuthToken: Authentication token is missing or incorrect"
)
# ray/_private/utils.py, check_version_info
OTHER_VERSION = """\
RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.59.1
    Python: 3.12.4
This process on node 10.9.0.2 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


def test_a_node_gives_away_no_core_and_keeps_ray_small() -> None:
    head, node = ray_argv("python", HEAD, "/tmp/x"), ray_argv("python", NODE, "/tmp/x")
    for argv in (head, node):
        assert argv[argv.index("--num-cpus") + 1] == argv[argv.index("--num-gpus") + 1] == "0"
        assert "--block" in argv
    assert head[head.index("--include-dashboard") + 1] == "false"
    assert node[node.index("--address") + 1] == "10.9.0.1:6379"
    assert "--head" not in node


def test_the_token_is_asked_for_and_is_on_no_command_line() -> None:
    env = ray_environment("/state/ray.token")
    assert (env["RAY_AUTH_MODE"], env["RAY_AUTH_TOKEN_PATH"]) == ("token", "/state/ray.token")
    assert "ray.token" not in " ".join(ray_argv("python", HEAD, "/tmp/x"))


def test_a_log_tells_what_became_of_a_start() -> None:
    assert has_started(STARTED)
    assert find_problem(STARTED, NODE, has_ended=False) is None
    assert isinstance(find_problem(REFUSED, NODE, has_ended=False), NotAllowed)
    ended = find_problem("Traceback\nOSError: no room\n", NODE, has_ended=True)
    assert isinstance(ended, TryAgain)
    assert ended.message == "Ray did not start at 10.9.0.2: OSError: no room"


def test_a_port_that_is_taken_is_hinted_at_by_the_next() -> None:
    said = (
        "ConnectionError: Ray is trying to start at 10.9.0.1:6379, but is already running at 10.9.0.1:6379."
    )
    problem = find_problem(said, HEAD, has_ended=True)
    assert isinstance(problem, UsageError)
    assert problem.hint == "launcher cluster start --port 6380"


def test_another_version_is_said_with_both() -> None:
    problem = find_problem(OTHER_VERSION, NODE, has_ended=True)
    assert isinstance(problem, UsageError)
    assert problem.message == (
        "10.9.0.1:6379 runs Ray 2.59.1 on Python 3.12.4, this machine Ray 2.60.0 on Python 3.11.7"
    )
    assert problem.hint == "pip install ray==2.59.1"


@pytest.mark.parametrize("public", ["8.8.8.8", "2a00:1450:4001:81b::200e"])
def test_any_public_address_of_the_machine_counts(public: str) -> None:
    own = ("127.0.0.1", "10.9.0.1", public)
    with pytest.raises(UsageError, match="is public"):
        check_addresses(HEAD, own, is_public=False)
    check_addresses(HEAD, own, is_public=True)
    check_addresses(HEAD, ("127.0.0.1", "10.9.0.1", "fe80::1"), is_public=False)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="no address of this machine"):
        check_addresses(HEAD, ("127.0.0.1", "10.9.0.7"), is_public=True)
