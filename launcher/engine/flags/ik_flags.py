"""Tell ik_llama.cpp what llama.cpp is told otherwise or not at all. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.engine.flags.argv_builder import ArgvBuilder
from launcher.errors import UsageError
from launcher.plan.memory.ik import HEADS_MIB
from launcher.plan.modes import FlashAttention, LoadMode
from launcher.plan.plan import Plan

# ik_llama.cpp's options that a plan never writes and that would move memory: caches of two types, tensors
# merged, a part of the graph on every device (gpt_params_find_arg, common/common.cpp in
# ik-llama-cpp-python 0.1.5).
_MOVES_MEMORY = frozenset(
    [
        *("-no-fa", "--no-flash-attn", "-thp", "--transparent-huge-pages", "--fit", "--fit-margin"),
        *("-ctk-first", "--cache-type-k-first", "-ctk-last", "--cache-type-k-last"),
        *("-ctv-first", "--cache-type-v-first", "-ctv-last", "--cache-type-v-last"),
        *("-mqkv", "--merge-qkv", "-muge", "--merge-up-gate-experts", "-mea", "--max-extra-alloc"),
        *("-smgs", "--split-mode-graph-scheduling", "-wgt", "--worst-graph-tokens"),
        *("-mtp", "--multi-token-prediction", "-cuda", "--cuda-params", "-draft", "--draft-params"),
    ]
)

# Options by which a line is known as ik_llama.cpp's: llama.cpp never had them.
IK_ALONE = frozenset(
    [
        *("-rtr", "--run-time-repack", "-mla", "--mla-use", "-amb", "--attention-max-batch"),
        *("-fmoe", "--fused-moe", "-no-fmoe", "--no-fused-moe", "-ger", "--grouped-expert-routing"),
        *("-ser", "--smart-expert-reduction", "-mqkv", "--merge-qkv", "-muge", "--merge-up-gate-experts"),
        *("-smgs", "--split-mode-graph-scheduling", "-no-ooae", "--no-offload-only-active-experts"),
    ]
)

# Options of llama.cpp that mean something else there: --fit is a switch, and off; the log has buffer sizes
# by default, and every prompt from --verbosity 1 on.
_OTHERS = frozenset({"-fit", "-lv"})


def check_plan(plan: Plan, builder: ArgvBuilder) -> None:
    """Raise UsageError for a plan or a build of it whose memory is not known."""
    if builder.knows("--dry-run") is None:
        raise UsageError(
            "this ik_llama.cpp is older than those whose memory is known: it has no --dry-run",
            hint="launcher engine build --source DIR builds a newer tree",
        )
    if plan.n_parallel > 1:
        raise UsageError(
            f"{plan.n_parallel} slots of ik_llama.cpp divide the context, and a plan shares it among them",
            hint="-np 1, or plan with llama.cpp: leave --engine out",
        )


def translate(builder: ArgvBuilder) -> None:
    """Turn the options that were collected for llama.cpp into those of ik_llama.cpp."""
    builder.parts = [
        # what `auto` means there
        (name, spelling, FlashAttention.ON if (name, value) == ("-fa", FlashAttention.AUTO) else value)
        for name, spelling, value in builder.parts
        if name not in _OTHERS and (name, value) != ("-dev", "none")  # it cannot be told to use none
    ]
    # latents are cached, and unpacked for prompts (plan/memory/ik.py); other models take no notice
    builder.add("-mla", "3", "the cache of MLA")
    builder.add("-amb", str(HEADS_MIB), "the cache of MLA")
    builder.add_if_known("--log-disable")  # else it writes llama.log where it is started; stderr stays
    builder.add_if_known("-fmoe")  # on by itself in newer ones, which list only -no-fmoe


def check_user_flags(plan: Plan, user: Sequence[str]) -> None:
    """Raise UsageError for user flags that move memory without the plan."""
    for flag in user:
        if flag in _MOVES_MEMORY:
            raise UsageError(
                f"{flag} after -- would move memory that the plan has placed", hint=f"leave {flag} out"
            )
        if flag in {"-rtr", "--run-time-repack"} and plan.load_mode is not LoadMode.NONE:
            raise UsageError(
                f"{flag} after -- repacks weights in memory, and this plan loads with {plan.load_mode}",
                hint=f"-lm none -- {flag}",
            )
