"""Write a configuration with which LiteLLM's proxy stands before the gateway. Pure."""

from __future__ import annotations

import yaml

from launcher.gateway.connect.clients import Endpoint, litellm_models

KEY, MASTER_KEY = "LAUNCHER_API_KEY", "LITELLM_MASTER_KEY"
"""The variables that it reads the gateway's key and its own from: no secret is in the file."""


def litellm_config(at: Endpoint) -> str:
    """Return the configuration, as YAML, for all models of the gateway."""
    # docs.litellm.ai/docs/proxy/config_settings: os.environ/NAME is read when it starts
    config = {
        "model_list": litellm_models(at, f"os.environ/{KEY}"),
        "general_settings": {"master_key": f"os.environ/{MASTER_KEY}"},
    }
    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text
