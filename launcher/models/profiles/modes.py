"""Say a mode of a profile as llama-server's flags, or as the fields of a request. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict

from launcher.errors import UsageError
from launcher.models.profiles.profile import Mode, ModelProfile


def pick_mode(profile: ModelProfile, wanted: str | None) -> Mode:
    """Return the mode called `wanted`, or the profile's first. Raises UsageError for an unknown one."""
    if wanted is None:
        return profile.modes[0]
    for mode in profile.modes:
        if mode.name == wanted.lower():
            return mode
    known = ", ".join(mode.name for mode in profile.modes)
    raise UsageError(
        f"profile {profile.name} has no mode {wanted!r}, only {known}",
        hint=f"--mode {profile.modes[0].name}",
    )


def server_flags(profile: ModelProfile, mode: str | None) -> tuple[str, ...]:
    """Return the llama-server flags of a mode: sampling values and template arguments.

    A request's own values win.
    """
    chosen = pick_mode(profile, mode)
    sampling = chosen.sampling
    # Names from common/arg.cpp at 0c1e570 (`llama-server --help`). --jinja is the default of that build and
    # not of every build; without it template arguments and tool calls are ignored.
    flags = ["--jinja"]
    for flag, value in (
        ("--temp", sampling.temperature),
        ("--top-k", sampling.top_k),
        ("--top-p", sampling.top_p),
        ("--min-p", sampling.min_p),
        ("--repeat-penalty", sampling.repeat_penalty),
        ("--presence-penalty", sampling.presence_penalty),
    ):
        if value is not None:
            flags += [flag, f"{value:g}"]
    if chosen.reasoning is not None:
        flags += ["--reasoning", "on" if chosen.reasoning else "off"]
    if chosen.chat_template_kwargs:
        flags += ["--chat-template-kwargs", json.dumps(dict(chosen.chat_template_kwargs))]
    return tuple(flags)


def request_fields(mode: Mode) -> dict[str, object]:
    """Return the fields of a chat request that ask for a mode; None where llama-server's default is meant."""
    template = dict(mode.chat_template_kwargs)
    if mode.reasoning is not None:
        template.setdefault("enable_thinking", mode.reasoning)
    return {**asdict(mode.sampling), "chat_template_kwargs": template or None}
