"""Where a gang's ranks are: machines that were lost lately come last, and no device is taken twice."""

from __future__ import annotations

import json

import pytest

from launcher.deployment.cluster.remote import Remote
from launcher.deployment.cluster.seats import (
    AVOID_S,
    GangLayout,
    GangSpec,
    RankPlace,
    RankSeat,
    choose,
    format_spec,
    parse_spec,
)
from launcher.errors import UsageError
from launcher.system.json_object import Malformed


def place(node: str, device: str = "CUDA0") -> RankPlace:
    return RankPlace(node=node, remote=Remote(target=f"me@{node}"), device=device)


def layout(*seats: tuple[RankPlace, ...]) -> GangLayout:
    return GangLayout(
        seats=tuple(
            RankSeat(places=places, port=50000 + number, n_bytes=1 << 30)
            for number, places in enumerate(seats)
        ),
        argv=("llama-server", f"--{len(seats)}"),
    )


def spec(*seats: tuple[RankPlace, ...], others: tuple[GangLayout, ...] = ()) -> GangSpec:
    return GangSpec(name="kimi-0a1b2c", engine_sha256="0" * 64, layouts=(layout(*seats), *others))


def test_the_first_place_is_taken_while_its_machine_is_well() -> None:
    both = spec((place("a"), place("c")), (place("b"), place("c")))
    assert [each.node for each in choose(both, {}, 1e9).places] == ["a", "b"]


def test_a_machine_that_was_lost_lately_is_avoided_and_then_taken_again() -> None:
    one = spec((place("a"), place("c")))
    assert choose(one, {"a": 1000.0}, 1000.0 + AVOID_S - 1).places[0].node == "c"
    assert choose(one, {"a": 1000.0}, 1000.0 + AVOID_S).places[0].node == "a"


def test_of_machines_that_were_all_lost_the_one_lost_first_is_taken() -> None:
    assert choose(spec((place("a"), place("c"))), {"a": 1002.0, "c": 1001.0}, 1003.0).places[0].node == "c"


def test_a_layout_without_the_lost_machine_is_taken_until_it_may_be_back() -> None:
    without_a, without_b = layout((place("b"),), (place("c"),)), layout((place("a"),), (place("c"),))
    both = spec((place("a"),), (place("b"),), others=(without_a, without_b))

    def nodes(lost: dict[str, float], now: float) -> list[str]:
        return [each.node for each in choose(both, lost, now).places]

    assert nodes({"a": 1000.0}, 1001.0) == ["b", "c"]
    assert nodes({"b": 1000.0}, 1001.0) == ["a", "c"]
    assert nodes({"a": 1000.0}, 1000.0 + AVOID_S) == ["a", "b"]
    # all were lost: the one whose last loss is longest ago
    assert nodes({"a": 1000.0, "b": 1003.0, "c": 1001.0}, 1004.0) == ["a", "c"]
    assert choose(both, {"a": 1000.0}, 1001.0).layout.argv == without_a.argv


def test_a_spare_that_is_alike_goes_before_another_layout() -> None:
    both = spec((place("a"), place("c")), others=(layout((place("d"),)),))
    assert choose(both, {"a": 1000.0}, 1001.0).layout is both.layouts[0]


def test_no_device_is_taken_twice() -> None:
    both = spec((place("a"), place("c")), (place("b"), place("c")))
    taken = choose(both, {"a": 1000.0, "b": 1000.0}, 1001.0).places
    assert len({(each.node, each.device) for each in taken}) == 2


def test_a_spec_survives_its_text() -> None:
    both = spec((place("a"), place("c")), (place("b", "Vulkan1"),))
    assert parse_spec(format_spec(both)) == both


@pytest.mark.parametrize(
    ("key", "value"),
    [("bytes", 1.5), ("bytes", -1), ("port", 0), ("port", 70000), ("places", []), ("bytes", True)],
)
def test_a_spec_with_broken_numbers_is_refused(key: str, value: object) -> None:
    document = json.loads(format_spec(spec((place("a"),))))
    document["layouts"][0]["seats"][0][key] = value
    with pytest.raises(Malformed):
        parse_spec(json.dumps(document))


def test_more_ranks_than_llama_cpp_takes_are_refused() -> None:
    with pytest.raises(Malformed, match="1 to 16"):
        parse_spec(format_spec(spec(*(((place(f"n{number}"),)) for number in range(17)))))


def test_a_target_that_ssh_takes_for_an_option_is_refused() -> None:
    document = json.loads(format_spec(spec((place("a"),))))
    document["layouts"][0]["seats"][0]["places"][0]["target"] = "-oProxyCommand=true"
    with pytest.raises(UsageError, match="no user@host"):
        parse_spec(json.dumps(document))
