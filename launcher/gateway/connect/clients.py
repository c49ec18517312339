"""Know the programs that people use with a local endpoint, and the settings of each. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

OURS = "launcher"  # our name in other programs' settings
NO_KEY = "none"  # many programs insist on one; on loopback the gateway takes any


MOST_UNPLANNED = 32768  # tokens, for a model that no plan was made for: more may not fit


class Form(StrEnum):
    JSON = "json"  # with comments
    YAML = "yaml"
    TOML = "toml"
    ENV = "env"
    SHELL = "shell"  # nothing to write


class Api(StrEnum):
    """How a program asks."""

    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model as the gateway lists it."""

    name: str
    n_ctx: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the gateway answers, and with what."""

    url: str  # without /v1
    models: tuple[Served, ...]  # the one to be used first
    key: str | None = None
    answers: bool = True  # False: nobody has been there yet

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    @property
    def any_key(self) -> str:
        return self.key or NO_KEY

    @property
    def first(self) -> str:
        return self.models[0].name


Setting = tuple[tuple[str, ...], object]
"""A value and the keys that lead to it. In place of a list: its item of that `name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    name: str
    title: str
    form: Form
    file: str | None  # below the home folder; None: its place is not known
    settings: Callable[[Endpoint], tuple[Setting, ...]]
    note: str
    api: Api = Api.CHAT
    begin: str = ""  # a new file's first lines, without which the program does not take it
    list_at: tuple[str, ...] | None = None  # where the file has a list of items with a `name`


def _n_ctx(model: Served) -> int:
    return model.n_ctx or MOST_UNPLANNED


def _open_webui(at: Endpoint) -> tuple[Setting, ...]:
    # docs.openwebui.com/reference/env-configuration: kept in its database from the first start on
    return (
        (("OPENAI_API_BASE_URL",), at.v1),
        (("OPENAI_API_KEY",), at.any_key),
        (("ENABLE_OLLAMA_API",), "False"),
    )


def _claude_code(at: Endpoint) -> tuple[Setting, ...]:
    # code.claude.com/docs/en/llm-gateway and /settings: `env` in settings.json; it appends /v1/messages
    names = ("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
             "ANTHROPIC_DEFAULT_HAIKU_MODEL")  # fmt: skip
    return (
        (("env", "ANTHROPIC_BASE_URL"), at.url),
        (("env", "ANTHROPIC_AUTH_TOKEN"), at.any_key),
        *((("env", name), at.first) for name in names),
    )


def _opencode(at: Endpoint) -> tuple[Setting, ...]:
    # opencode.ai/docs/providers, "Custom provider"
    models = {
        model.name: {"name": model.name, "limit": {"context": _n_ctx(model), "output": _n_ctx(model) // 2}}
        for model in at.models
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": OURS,
        "options": {"baseURL": at.v1, "apiKey": at.any_key},
        "models": models,
    }
    return ((("provider", OURS), provider), (("model",), f"{OURS}/{at.first}"))


def _codex(at: Endpoint) -> tuple[Setting, ...]:
    # openai/codex, codex-rs/config: $CODEX_HOME/NAME.config.toml goes over config.toml with --profile NAME;
    # `responses` is the only wire_api left
    provider: dict[str, object] = {"name": OURS, "base_url": at.v1, "wire_api": "responses"}
    if at.key is not None:
        provider["experimental_bearer_token"] = at.key
    return (
        (("model",), at.first),
        (("model_provider",), OURS),
        (("model_context_window",), _n_ctx(at.models[0])),
        (("model_providers", OURS), provider),
    )


def _continue(at: Endpoint) -> tuple[Setting, ...]:
    # docs.continue.dev/reference: config.yaml
    return tuple(
        (
            ("models", f"{OURS} {model.name}"),
            {
                "name": f"{OURS} {model.name}",
                "provider": "openai",
                "model": model.name,
                "apiBase": at.v1,
                "apiKey": at.any_key,
                "roles": ["chat", "edit", "apply"],
                "defaultCompletionOptions": {"contextLength": _n_ctx(model)},
            },
        )
        for model in reversed(at.models)  # each goes before those that are there
    )


def _zed(at: Endpoint) -> tuple[Setting, ...]:
    # zed.dev/docs/ai/use-api-access, "OpenAI-compatible endpoints"; the key is a variable, LAUNCHER_API_KEY
    models = [
        {"name": model.name, "display_name": model.name, "max_tokens": _n_ctx(model)} for model in at.models
    ]
    return ((("language_models", "openai_compatible", OURS), {"api_url": at.v1, "available_models": models}),)


def _aider(at: Endpoint) -> tuple[Setting, ...]:
    # aider.chat/docs/llms/openai-compat.html, docs/config/aider_conf.html
    return (
        (("model",), f"openai/{at.first}"),
        (("openai-api-base",), at.v1),
        (("openai-api-key",), at.any_key),
    )


def _vscode(at: Endpoint) -> tuple[Setting, ...]:
    # microsoft/vscode#316916: the provider Custom Endpoint in chatLanguageModels.json (1.122 and later)
    models = [
        {
            "id": model.name,
            "name": model.name,
            "url": f"{at.v1}/chat/completions",
            "toolCalling": True,
            "vision": False,
            "maxInputTokens": _n_ctx(model) * 3 // 4,
            "maxOutputTokens": _n_ctx(model) // 4,
        }
        for model in at.models
    ]
    group = {
        "name": OURS,
        "vendor": "customendpoint",
        "apiKey": at.any_key,
        "apiType": "chat-completions",
        "models": models,
    }
    return (((OURS,), group),)


def _librechat(at: Endpoint) -> tuple[Setting, ...]:
    # librechat.ai/docs/configuration/librechat_yaml/object_structure/custom_endpoint
    endpoint = {
        "name": OURS,
        "apiKey": at.any_key,
        "baseURL": at.v1,
        "models": {"default": [model.name for model in at.models], "fetch": True},
        "titleConvo": True,
        "titleModel": "current_model",
        "modelDisplayLabel": OURS,
    }
    return ((("endpoints", "custom", OURS), endpoint),)


def litellm_models(at: Endpoint, key: str) -> list[dict[str, object]]:
    # docs.litellm.ai/docs/proxy/configs: rates, budgets and tenants are its business
    return [
        {
            "model_name": model.name,
            "litellm_params": {"model": f"openai/{model.name}", "api_base": at.v1, "api_key": key},
        }
        for model in at.models
    ]


def curl_line(at: Endpoint) -> str:
    key = f" -H {shlex.quote(f'Authorization: Bearer {at.key}')}" if at.key else ""
    body = json.dumps({"model": at.first, "messages": [{"role": "user", "content": "Say hello."}]})
    return f"curl {at.v1}/chat/completions -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}"


_ALL = (
    Client(
        name="open-webui", title="Open WebUI", form=Form.ENV, file=None, settings=_open_webui,
        note="it reads them at its first start; later they are in Admin Panel, Settings, Connections",
    ),
    Client(
        name="claude-code", title="Claude Code", form=Form.JSON, file=".claude/settings.json",
        settings=_claude_code, api=Api.MESSAGES, note="then start claude",
    ),
    Client(
        name="opencode", title="opencode", form=Form.JSON, file=".config/opencode/opencode.json",
        settings=_opencode, note="then start opencode",
    ),
    Client(
        name="codex", title="Codex", form=Form.TOML, file=".codex/launcher.config.toml", settings=_codex,
        api=Api.RESPONSES, note="then start codex --profile launcher",
    ),
    Client(
        name="continue", title="Continue", form=Form.YAML, file=".continue/config.yaml", settings=_continue,
        list_at=("models",), begin='name: "launcher"\nversion: "0.0.1"\nschema: v1\n',
        note="then choose the model in Continue",
    ),
    Client(
        name="zed", title="Zed", form=Form.JSON, file=".config/zed/settings.json", settings=_zed,
        note="Zed takes the key from a variable: LAUNCHER_API_KEY",
    ),
    Client(
        name="aider", title="aider", form=Form.YAML, file=".aider.conf.yml", settings=_aider,
        note="then start aider",
    ),
    Client(
        name="vscode", title="VS Code", form=Form.JSON, file=".config/Code/User/chatLanguageModels.json",
        settings=_vscode, list_at=(), note="then choose the model in VS Code's chat",
    ),
    Client(
        name="librechat", title="LibreChat", form=Form.YAML, file=None, settings=_librechat,
        list_at=("endpoints", "custom"), begin="version: 1.2.8\n",
        note="then restart LibreChat; from a container, 127.0.0.1 is the container itself",
    ),
    Client(
        name="litellm", title="LiteLLM's proxy", form=Form.YAML, file=None,
        settings=lambda at: ((("model_list",), litellm_models(at, at.any_key)),),
        note="then start litellm --config FILE, with a master key of its own",
    ),
    Client(
        name="curl", title="curl", form=Form.SHELL, file=None, settings=lambda _: (), note="",
    ),
)  # fmt: skip

CLIENTS: Mapping[str, Client] = {client.name: client for client in _ALL}
