"""The environment that llama-server gets."""

from __future__ import annotations

from launcher.engine.environment import engine_env


def test_what_would_change_llama_server_silently_is_dropped() -> None:
    given = {"PATH": "/bin", "LLAMA_ARG_CTX_SIZE": "1", "LLAMA_API_KEY": "x", "LLAMA_SERVER_ROUTER_PORT": "1"}
    env, dropped = engine_env(given, {"LLAMA_ARG_N_PREDICT": "5"})
    assert env == {"PATH": "/bin", "LLAMA_ARG_N_PREDICT": "5"}
    assert dropped == ("LLAMA_API_KEY", "LLAMA_ARG_CTX_SIZE", "LLAMA_SERVER_ROUTER_PORT")
