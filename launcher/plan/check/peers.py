"""See the devices that a command line has, those of its RPC peers first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.errors import UsageError
from launcher.machine.machine import Device
from launcher.machine.peers import seen_by_head
from launcher.plan.check.configuration import Configuration, visible_devices
from launcher.plan.modes import SplitMode


def devices_of_line(
    configuration: Configuration, devices: Sequence[Device], variables: Mapping[str, str]
) -> tuple[Device, ...]:
    """Return the devices that llama-server has under this line and these variables.

    Raises UsageError for peers whose devices are not among `devices`, and for what is not planned over RPC.
    """
    if configuration.rpc and configuration.split_mode is SplitMode.TENSOR:
        raise UsageError(
            "--split-mode tensor over --rpc is not planned: sums of every layer would cross a network",
            hint="--split-mode layer",
        )
    own = visible_devices([device for device in devices if device.peer is None], variables)
    remote = [device for device in devices if device.peer is not None]
    return seen_by_head((*remote, *own), configuration.rpc)
