from launcher.engine.log.load_log import (
    RowComparison,
    RowUsage,
    compare_load,
    parse_load_log,
    usage_by_row,
    usage_of_row,
)
from launcher.plan.amounts import HOST
from launcher.units import MIB
from tests.plan.planned import ledger_row

LOG = """\
0.00.334.169 I load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
0.00.334.170 I load_tensors:      Vulkan0 model buffer size =   241.00 MiB
0.00.336.318 I llama_context:        CPU  output buffer size =     0.25 MiB
0.00.336.483 I llama_kv_cache:    Vulkan0 KV buffer size =    45.00 MiB
0.00.336.484 I llama_memory_recurrent:    Vulkan0 RS buffer size =     1.50 MiB
0.00.370.048 I sched_reserve:    Vulkan0 compute buffer size =    15.50 MiB
0.00.370.049 I sched_reserve: Vulkan_Host compute buffer size =     4.00 MiB
"""
PLAN = (
    ledger_row("Vulkan0", weights=241 * MIB, kv=46 * MIB, compute=16 * MIB),
    ledger_row(HOST, weights=29 * MIB, compute=5 * MIB),
)


def test_buffers_belong_to_devices_or_the_host() -> None:
    assert [(seen.name, seen.where, seen.kind) for seen in parse_load_log(LOG)] == [
        ("CPU_Mapped", HOST, "model"),
        ("Vulkan0", "Vulkan0", "model"),
        ("CPU", HOST, "output"),
        ("Vulkan0", "Vulkan0", "KV"),
        ("Vulkan0", "Vulkan0", "RS"),
        ("Vulkan0", "Vulkan0", "compute"),
        ("Vulkan_Host", HOST, "compute"),
    ]


def test_a_plan_is_compared_row_by_row_without_mapped_weights() -> None:
    assert compare_load(PLAN, parse_load_log(LOG)) == (
        RowComparison(where="Vulkan0", planned_bytes=303 * MIB, logged_bytes=303 * MIB),
        RowComparison(where=HOST, planned_bytes=5 * MIB, logged_bytes=MIB * 17 // 4),
    )


def test_weights_on_the_host_count_when_they_are_loaded() -> None:
    log = LOG.replace("CPU_Mapped", "CPU")
    assert compare_load(PLAN, parse_load_log(log))[1].planned_bytes == 34 * MIB


def test_a_log_without_sizes_compares_nothing() -> None:
    assert compare_load(PLAN, parse_load_log("main: loading model\n")) == ()


def test_a_projectors_weights_are_where_it_says_it_goes() -> None:
    log = LOG + (
        "0.01.486.184 I clip_ctx: CLIP using Vulkan0 backend\n"
        "0.01.488.955 I load_hparams: model size:         7.50 MiB\n"
        "0.01.514.799 I reserve_compute_meta:    Vulkan0 compute buffer size =     7.00 MiB\n"
        "0.01.514.803 I reserve_compute_meta:        CPU compute buffer size =     2.25 MiB\n"
        "0.01.600.000 I clip_ctx: CLIP using Vulkan0 backend\n"
        "0.01.600.001 I load_hparams: model size:         7.50 MiB\n"
    )
    assert [compared.logged_bytes for compared in compare_load(PLAN, parse_load_log(log))] == [
        303 * MIB + MIB * 29 // 2,
        MIB * 26 // 4,
    ]


def test_what_is_reserved_again_for_an_adapter_counts_once_and_a_second_context_apart() -> None:
    log = """
llama_context: Vulkan_Host  output buffer size =     0.19 MiB
sched_reserve:    Vulkan1 compute buffer size =     6.63 MiB
sched_reserve: Vulkan_Host compute buffer size =     2.13 MiB
sched_reserve:    Vulkan1 compute buffer size =     7.00 MiB
sched_reserve: Vulkan_Host compute buffer size =     2.13 MiB
llama_context: Vulkan_Host  output buffer size =     0.19 MiB
sched_reserve:    Vulkan1 compute buffer size =     1.00 MiB
"""
    sizes = [(seen.name, seen.kind, seen.n_bytes / MIB) for seen in parse_load_log(log)]
    assert [(name, round(size, 2)) for name, kind, size in sizes if kind == "compute"] == [
        ("Vulkan1", 7.0),
        ("Vulkan_Host", 2.13),
        ("Vulkan1", 1.0),
    ]


def test_weights_and_caches_add_up_and_a_compute_buffer_replaces_the_one_before() -> None:
    log = LOG + (
        "load_tensors:      Vulkan0 model buffer size =    10.00 MiB\n"
        "graph_reserve:    Vulkan0 compute buffer size =     2.00 MiB\n"
    )
    usage = RowUsage(where="Vulkan0", weights_bytes=251 * MIB, kv_bytes=MIB * 93 // 2, compute_bytes=2 * MIB)
    assert usage_of_row(log, "Vulkan0") == usage
    assert usage.used_bytes == MIB * 599 // 2
    assert [row.where for row in usage_by_row(log)] == sorted(["Vulkan0", HOST])
    assert usage_of_row(log, "Vulkan1") is None


def test_ik_llama_cpp_names_weights_in_words_of_its_own() -> None:
    log = """
llm_load_tensors:        CPU buffer size =   242.04 MiB
llm_load_tensors:      CUDA0 buffer size =    10.50 MiB
llama_kv_cache_init:        CPU KV buffer size =    36.00 MiB
llama_init_from_model:        CPU compute buffer size =    61.09 MiB
"""
    assert sorted((seen.where, seen.kind, round(seen.n_bytes / MIB, 2)) for seen in parse_load_log(log)) == [
        ("CUDA0", "model", 10.5),
        ("host", "KV", 36.0),
        ("host", "compute", 61.09),
        ("host", "model", 242.04),
    ]
