"""Form the command of a node of Ray, and read what it says: what becomes of it, in one sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from launcher.errors import LauncherError, NotAllowed, TryAgain, UsageError
from launcher.units import one_line

PORT = 6379  # Ray's own
# Nothing is kept in Ray's object store; by default it takes 30 % of RAM. Ray refuses less than 75 MiB.
_STORE_BYTES = 80_000_000
_MOST_SAID = 300  # characters
_VERSIONS = re.compile(
    r"Version mismatch:[^:]{0,80}:\s{1,20}Ray: (\S{1,40})\s{1,20}Python: (\S{1,40})"
    r"[^:]{0,80}:\s{1,20}Ray: (\S{1,40})\s{1,20}Python: (\S{1,40})"
)
INSTALL = "pip install 'gguf-launcher[cluster]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPlace:
    """Where a node of Ray is, and its head."""

    address: str  # this node's own
    head: str  # the head's, the same on the first machine
    port: int

    @property
    def is_head(self) -> bool:
        return self.address == self.head


def ray_argv(python: str, place: RayPlace, folder: str) -> tuple[str, ...]:
    """Return the command of a node whose process is ours as long as the node lives (`--block`)."""
    first = (
        *("--head", "--port", str(place.port), "--include-dashboard", "false"),
        *("--disable-usage-stats", "--temp-dir", folder),
    )
    role = first if place.is_head else ("--address", f"{place.head}:{place.port}")
    # no CPUs and GPUs to give away: so Ray starts no workers ahead, and launcher's own ledger counts memory
    shared = ("--num-cpus", "0", "--num-gpus", "0", "--object-store-memory", str(_STORE_BYTES))
    program = (python, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address", place.address)
    return (*program, *role, *shared)


def ray_environment(token_file: str) -> dict[str, str]:
    """Return what a node, and each command that connects to one, has in its environment."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token_file,
        "RAY_USAGE_STATS_ENABLED": "0",
        # a head that is away for less than an hour finds its nodes again; the default is 60 s
        "RAY_gcs_rpc_server_reconnect_timeout_s": "3600",
    }


def has_started(log: str) -> bool:
    return "Ray runtime started" in log


def find_problem(log: str, place: RayPlace, *, has_ended: bool) -> LauncherError | None:
    """Return the error that a starting node's log tells of; None: none yet."""
    head = f"{place.head}:{place.port}"
    if "InvalidAuthToken" in log or "AuthenticationError" in log:
        return NotAllowed(
            f"{head} refuses the token: it is another cluster's",
            hint="take the file that launcher cluster start names on the first machine",
        )
    if found := _VERSIONS.search(log):
        theirs, their_python, ours, our_python = (one_line(word, 40) for word in found.groups())
        return UsageError(
            f"{head} runs Ray {theirs} on Python {their_python}, "
            f"this machine Ray {ours} on Python {our_python}",
            hint=f"pip install ray=={theirs}",
        )
    if "already running at" in log:
        return UsageError(
            f"another Ray listens at {head}", hint=f"launcher cluster start --port {place.port + 1}"
        )
    if not has_ended:
        return None
    said = [line for line in log.splitlines() if line.strip()]
    last = one_line(said[-1], _MOST_SAID) if said else "nothing said"
    return TryAgain(f"Ray did not start at {place.address}: {last}", hint="launcher cluster ls")


def check_addresses(place: RayPlace, own: tuple[str, ...], *, is_public: bool) -> None:
    """Raise UsageError for an address that is not this machine's, or a public one without `--public`.

    Ray listens on all addresses of a machine (`ss -ltn`: *:6379 and the raylet's two), whatever
    `--node-ip-address` says, IPv6 too; so each of them counts.
    """
    if place.address not in own:
        raise UsageError(
            f"{place.address} is no address of this machine: {', '.join(own[:8])}",
            hint="launcher cluster start --bind ADDRESS",
        )
    public = [address for address in own if ip_address(address).is_global]
    if public and not is_public:
        raise UsageError(
            f"Ray listens on every address of this machine, and {public[0]} is public",
            hint="close the ports of Ray in the firewall, then add --public",
        )
