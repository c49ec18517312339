"""Read how the gateway is to serve: `config.toml`, then variables, then what was typed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from launcher.errors import UsageError
from launcher.gateway.fallback_config import KEYS, FallbackConfig, read_fallback
from launcher.system.json_object import JsonObject, Malformed
from launcher.system.settings import Settings, read_config
from launcher.units import parse_context, parse_size

PORT, HOST = 8080, "127.0.0.1"
PORT_VARIABLE, HOST_VARIABLE = "LAUNCHER_GATEWAY_PORT", "LAUNCHER_GATEWAY_HOST"

_MAX_PORT = 65535
_MOST_IN_GROUP = 256
_MOST_SECONDS = 366 * 24 * 3600
_GATEWAY_KEYS = {"host", "port", "default", "max-ram", "idle-minutes", "aliases", "groups"}
_MODEL_KEYS = {
    "ref", "context", "slots", "ttl", "pin", "priority", "mode", "flags", "group", "fallback", "engine",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The owner's settings for one model: `[models.NAME]`."""

    ref: str | None = None  # None: the name is the REF
    ctx_size: int | None = None
    slots: int | None = None
    ttl_s: float | None = None  # None: as for all models
    pin: bool = False
    priority: int = 0
    mode: str | None = None
    flags: tuple[str, ...] = ()
    group: str | None = None  # of its models only so many run at once
    fallback: FallbackConfig | None = None  # None: no request of this model leaves the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    host: str = HOST
    port: int = PORT
    default: str | None = None  # asked for when a request names no model, or one that is not here
    max_ram_bytes: int | None = None  # for all models together
    idle_s: float | None = 1800.0  # then a model that a request started is unloaded; None: never
    aliases: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)  # models that may run at once; else one
    models: Mapping[str, ModelConfig] = field(default_factory=dict)


def read_gateway_config(settings: Settings) -> GatewayConfig:
    """Return the settings of the config file, with variables in their place. Raises UsageError."""
    file = settings.config_file
    given = read_config(file)
    try:
        root = JsonObject(given)
        _check_keys(root.mapping("gateway") if root.has("gateway") else {}, _GATEWAY_KEYS, "gateway")
        models = root.object_at("models") if root.has("models") else JsonObject({})
        config = _gateway(root.object_at("gateway") if root.has("gateway") else JsonObject({}))
        names = root.mapping("models") if root.has("models") else {}
        config = replace(config, models={name: _model(models, name) for name in names})
    except (Malformed, ValueError) as error:
        raise UsageError(f"config file {file}: {error}", hint=f"mend {file}") from error
    return _with_variables(config)


def _with_variables(config: GatewayConfig) -> GatewayConfig:
    port = os.environ.get(PORT_VARIABLE)
    if port is not None and not (port.isascii() and port.isdecimal() and 0 < int(port) <= _MAX_PORT):
        raise UsageError(
            f"{PORT_VARIABLE}={port!r} is not a port from 1 to {_MAX_PORT}", hint=f"{PORT_VARIABLE}={PORT}"
        )
    return replace(
        config,
        host=os.environ.get(HOST_VARIABLE, config.host),
        port=config.port if port is None else int(port),
    )


def _gateway(given: JsonObject) -> GatewayConfig:
    idle = given.number("idle-minutes") if given.has("idle-minutes") else 30.0
    return GatewayConfig(
        host=given.text("host") if given.has("host") else HOST,
        port=given.whole("port", 1, _MAX_PORT) if given.has("port") else PORT,
        default=given.optional_text("default"),
        max_ram_bytes=parse_size(given.text("max-ram")) if given.has("max-ram") else None,
        idle_s=idle * 60 if idle else None,
        groups=_groups(given) if given.has("groups") else {},
        aliases=given.object_at("aliases").texts_by_key() if given.has("aliases") else {},
    )


def _groups(given: JsonObject) -> dict[str, int]:
    groups = given.object_at("groups")
    return {name: groups.whole(name, 1, _MOST_IN_GROUP) for name in given.mapping("groups")}


def _model(models: JsonObject, name: str) -> ModelConfig:
    _check_keys(models.mapping(name), _MODEL_KEYS, f"models.{name}")
    given = models.object_at(name)
    given.optional_text("engine")  # `up` and `plan` look for it (commands/engine_pin.py)
    return ModelConfig(
        ref=given.optional_text("ref"),
        ctx_size=parse_context(given.text("context")) if given.has("context") else None,
        slots=given.whole("slots", 1, 256) if given.has("slots") else None,
        ttl_s=float(given.whole("ttl", 0, _MOST_SECONDS)) if given.has("ttl") else None,
        pin=given.has("pin") and given.flag("pin"),
        priority=given.whole("priority", -10, 10) if given.has("priority") else 0,
        mode=given.optional_text("mode"),
        flags=given.texts("flags") if given.has("flags") else (),
        group=given.optional_text("group"),
        fallback=_fallback(given, name) if given.has("fallback") else None,
    )


def _fallback(given: JsonObject, name: str) -> FallbackConfig:
    _check_keys(given.mapping("fallback"), KEYS, f"models.{name}.fallback")
    return read_fallback(given.object_at("fallback"))


def _check_keys(given: Mapping[str, object], known: set[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise Malformed(f"{where} has the unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
