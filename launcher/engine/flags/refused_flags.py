"""Flags that cannot be given after `--`, and what to type instead. Pure data."""

from __future__ import annotations

from launcher.engine.flags.pinned_flags import PRESETS

# Options that a plan never writes and that would move memory without it.
MOVES_MEMORY = frozenset(
    [
        "-cmoe",
        "--cpu-moe",
        "-ncmoe",
        "--n-cpu-moe",
        "-ncffn",
        "--n-cpu-ffn",
        "-no-kvu",
        "--no-kv-unified",
        "-nkvo",
        "--no-kv-offload",
        "-mg",
        "--main-gpu",
        "--swa-full",
        "--op-offload",
        "--no-op-offload",
        "--no-host",
        "--rpc",
        "-fitt",
        "--fit-target",
        "-fitc",
        "--fit-ctx",
        "--mmap",
        "--no-mmap",
        "--mlock",
    ]
)

# Options of the server that launcher sets, and what to type instead.
LAUNCHERS_OWN = {
    "-m": "launcher plan REF, or up REF: the reference names the model",
    **dict.fromkeys(
        ("-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-mu", "--model-url", "-dr", "--docker-repo"),
        "launcher plan REF, or up REF: the reference names the model",
    ),
    "--host": "launcher up REF --host ADDRESS (plan leaves the address open)",
    "--port": "launcher up REF --port N (plan leaves the port open)",
    "--api-key-file": "launcher up REF --api-key-file FILE",
    # A secret in argv is in everybody's `ps`.
    **dict.fromkeys(("--hf-token", "-hft"), "launcher up REF -e HF_TOKEN=…"),
    "--api-key": "launcher up REF --api-key-file FILE",  # a key in argv is a key in everybody's `ps`
}

# Options after which there is no server to watch, and why.
FATAL = {
    "--api-prefix": "nothing would find the server's health and models any more",
    "--log-disable": "its log is how a failure is explained",
    "--log-file": "its log is launcher's: launcher logs",
    "--version": "llama-server would print it and end",
    "--help": "llama-server would print it and end",
    "-h": "llama-server would print it and end",
    "--usage": "llama-server would print it and end",
    "--list-devices": "llama-server would print them and end",
    "--completion-bash": "llama-server would print it and end",
    **dict.fromkeys(("-cl", "--cache-list"), "llama-server would print it and end"),
    # common/arg.cpp at 0c1e570
    **dict.fromkeys(PRESETS, "it names a model, a port and sizes of its own"),
}
