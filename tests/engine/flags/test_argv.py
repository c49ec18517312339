"""Plans as command lines, for engines of several ages, with and without words of the user's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from launcher.engine.flags.argv import Serving, check_flags, server_argv
from launcher.errors import UsageError
from launcher.machine.machine import Peer
from launcher.plan.modes import CacheType, LazyMode, LoadMode, NumaMode, TensorOverride
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model

SERVING = Serving(host="127.0.0.1", port=8123, model_id="m", model_path="/models/m.gguf")


@dataclass(frozen=True)
class Without:
    """An engine that has every flag but these."""

    missing: frozenset[str]

    def has(self, spelling: str) -> bool:
        return spelling not in self.missing


def without(*missing: str) -> Without:
    return Without(frozenset(missing))


def plan_for(*free_mib: int, name: str = "qwen3moe", workload: Workload | None = None) -> Plan:
    workload = workload or Workload(ctx_size=2048)
    outcome = make_plan(model(name), "Q4_0", machine(*cards(*free_mib)), workload)
    assert isinstance(outcome, Plan)
    return outcome


def value(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_everything_is_said() -> None:
    argv = server_argv(plan_for(250, 120), SERVING, program="/bin/llama-server")
    assert argv[0] == "/bin/llama-server"
    expected = {
        "-m": "/models/m.gguf", "-a": "m", "--host": "127.0.0.1", "--port": "8123", "-fit": "off", "-c": "2048",
        "-np": "1", "-b": "2048", "-ub": "512", "-ctk": "f16", "-ctv": "f16", "-fa": "auto", "-ngl": "13",
        "-dev": "CUDA0,CUDA1", "-sm": "layer", "-lm": "none", "-t": "8", "-tb": "8", "-lv": "4",
    }  # fmt: skip
    assert expected == {flag: value(argv, flag) for flag in expected}
    assert {"-kvu", "--metrics", "--offline"} <= set(argv)
    assert sum(int(count) for count in value(argv, "-ts").split(",")) == 13
    assert value(argv, "-ot").endswith("exps=CPU")
    assert "," not in value(argv, "-ot")


def test_host_only_uses_no_device() -> None:
    argv = server_argv(plan_for(), SERVING)
    assert (value(argv, "-dev"), value(argv, "-ngl")) == ("none", "0")
    assert not {"-ts", "-ot", "-sm"} & set(argv)


def test_one_device_needs_no_split() -> None:
    argv = server_argv(plan_for(2000), SERVING)
    assert (value(argv, "-dev"), value(argv, "-ngl")) == ("CUDA0", "13")
    assert not {"-ts", "-ot"} & set(argv)


def test_several_slots_share_one_pool() -> None:
    plan = plan_for(workload=Workload(ctx_size=2048, n_parallel=4))
    argv = server_argv(plan, SERVING)
    assert (value(argv, "-np"), value(argv, "-c")) == ("4", "2048")
    with pytest.raises(UsageError, match="--kv-unified"):
        server_argv(plan, SERVING, capabilities=without("-kvu", "--kv-unified"))
    server_argv(plan_for(), SERVING, capabilities=without("-kvu", "--kv-unified"))


def test_caches_are_whole_mib() -> None:
    argv = server_argv(plan_for(workload=Workload(cache_ram_bytes=300 * MIB)), SERVING)
    assert value(argv, "-cram") == "300"


@pytest.mark.parametrize(
    ("mode", "old"), [(LoadMode.NONE, {"--no-mmap"}), (LoadMode.MLOCK, {"--mlock"}), (LoadMode.MMAP, set())]
)
def test_load_modes_of_older_engines(mode: LoadMode, old: set[str]) -> None:
    plan = plan_for(workload=Workload(load_mode=mode))
    argv = server_argv(plan, SERVING, capabilities=without("-lm", "--load-mode"))
    assert "-lm" not in argv
    assert old == {"--no-mmap", "--mlock"} & set(argv)
    assert value(server_argv(plan, SERVING), "-lm") == mode


def test_a_long_spelling_will_do() -> None:
    assert value(server_argv(plan_for(), SERVING, capabilities=without("-c", "-lv")), "--ctx-size") == "2048"


def test_an_engine_without_a_needed_option_is_named_with_it() -> None:
    with pytest.raises(UsageError, match=r"has no --cache-type-k, and the plan needs it for its KV cache"):
        server_argv(plan_for(), SERVING, capabilities=without("-ctk", "--cache-type-k"))


def test_niceties_are_left_out_where_unknown() -> None:
    old = without("--metrics", "--offline", "-fit", "--fit", "-cram", "--cache-ram")
    argv = server_argv(plan_for(), SERVING, capabilities=old)
    assert not {"--metrics", "--offline", "-fit", "-cram"} & set(argv)


def test_a_key_is_only_named_by_its_file() -> None:
    argv = server_argv(plan_for(), replace(SERVING, api_key_file="/run/key"))
    assert value(argv, "--api-key-file") == "/run/key"
    assert "--api-key" not in argv


def test_the_profile_then_the_user_come_last() -> None:
    argv = server_argv(
        plan_for(),
        SERVING,
        profile_flags=("--temp", "0.6"),
        user_flags=("--temp", "0", "-t", "3", "--seed", "-1"),
    )
    assert argv[-8:] == ("--temp", "0.6", "--temp", "0", "-t", "3", "--seed", "-1")
    assert argv.count("-t") == 1


def test_a_profile_flag_the_engine_lacks_is_named() -> None:
    with pytest.raises(UsageError, match="has no --jinja, and the model's profile sets it"):
        server_argv(plan_for(), SERVING, capabilities=without("--jinja"), profile_flags=("--jinja",))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-c", "65536"), "-c 65536 after -- contradicts the plan, which has -c 2048"),
        (("--ctx-size", "65536"), "contradicts the plan, which has --ctx-size 2048"),
        (("-ngl", "20"), "contradicts the plan, which has -ngl 0"),
        (("--n-cpu-moe", "4"), "--n-cpu-moe after -- would move memory"),
        (("--no-mmap",), "--no-mmap after -- would move memory"),
        (("--port", "1"), "--port after -- is launcher's to set"),
        (("--fit", "on"), "contradicts the plan"),
        (("-sm", "tensor"), "-sm tensor after -- divides tensors, and a plan places whole layers"),
        (("--split-mode", "row"), "--split-mode row after -- divides tensors"),
        (("stray",), "'stray' after -- is not a flag"),
    ],
)
def test_flags_that_contradict_the_plan_are_named(flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        server_argv(plan_for(), SERVING, user_flags=flags)
    assert message in raised.value.message
    assert raised.value.hint


def test_flags_that_say_what_the_plan_says_pass() -> None:
    argv = server_argv(plan_for(), SERVING, user_flags=("-c", "2048", "-ctk", "f16", "-kvu", "-sm", "layer"))
    assert argv.count("-c") == 1
    assert CacheType.F16 in argv


def test_an_unknown_user_flag_is_found_before_the_start() -> None:
    with pytest.raises(UsageError, match="has no flag --frobnicate"):
        server_argv(plan_for(), SERVING, capabilities=without("--frobnicate"), user_flags=("--frobnicate",))


def test_the_user_s_overrides_come_before_the_plan_s() -> None:
    rule = TensorOverride(pattern=r"blk\.0\.ffn_up_exps", where="CUDA1")
    plan = plan_for(250, 200, workload=Workload(ctx_size=8192, overrides=(rule,)))
    words = value(server_argv(plan, SERVING), "-ot").split(",")
    assert words[0] == r"blk\.0\.ffn_up_exps=CUDA1"
    assert len(words) == 2
    assert words[1].endswith("exps=CPU")


def test_memory_of_several_nodes_is_asked_for_where_the_plan_does() -> None:
    assert "--numa" not in server_argv(plan_for(), SERVING)
    spread = replace(plan_for(), numa=NumaMode.DISTRIBUTE)
    assert value(server_argv(spread, SERVING), "--numa") == "distribute"


def test_a_file_that_llama_server_downloads_itself_is_not_asked_for_offline() -> None:
    assert "--offline" not in server_argv(plan_for(), SERVING, user_flags=("-hfd", "user/draft"))
    assert "--offline" in server_argv(plan_for(), SERVING, user_flags=("-md", "draft.gguf"))


def test_one_slot_needs_no_pool_and_no_key_file_none() -> None:
    argv = server_argv(plan_for(), SERVING, capabilities=without("-kvu", "--kv-unified", "--api-key-file"))
    assert not {"-kvu", "--kv-unified", "--api-key-file"} & set(argv)


def test_what_moves_memory_passes_where_it_is_planned() -> None:
    check_flags(("-cmoe", "--temp", "0"), None, planned=("-cmoe",))
    with pytest.raises(UsageError, match="-cmoe after -- would move memory"):
        check_flags(("-cmoe",), None)


def test_tables_are_read_from_the_file_as_planned() -> None:
    """An engine without the option reads none of them: it does for `off` alone."""
    old = without("-lzm", "--lazy-mode")
    off, on = (replace(plan_for(), lazy_mode=mode) for mode in (LazyMode.OFF, LazyMode.ON))
    assert value(server_argv(off, SERVING), "-lzm") == "off"
    assert value(server_argv(on, SERVING), "-lzm") == "on"
    assert "-lzm" not in server_argv(plan_for(), SERVING)
    assert "-lzm" not in server_argv(off, SERVING, capabilities=old)
    with pytest.raises(UsageError, match="tables that are read from the file"):
        server_argv(on, SERVING, capabilities=old)


def test_peers_come_before_what_names_their_devices() -> None:
    peers = tuple(Peer(endpoint=f"10.0.0.{host}:1", index=index) for host, index in ((2, 0), (2, 1), (3, 0)))
    plan = plan_for(250, 120)
    rules = (TensorOverride(pattern="a", where="RPC2"), TensorOverride(pattern="b", where="CUDA0"))
    placement = replace(plan.placement, devices=("RPC1", "CUDA0"), overrides=rules)

    argv = server_argv(replace(plan, peers=peers, placement=placement), SERVING)

    assert value(argv, "--rpc") == "10.0.0.2:1,10.0.0.3:1"
    assert argv.index("--rpc") < argv.index("-dev") < argv.index("-ot")
    assert value(argv, "-dev") == "RPC1,CUDA0"
    assert value(argv, "-ot").startswith("a=RPC0[10.0.0.3:1],b=CUDA0")
