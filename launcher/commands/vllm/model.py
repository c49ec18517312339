"""Find the model in safetensors that a REF names: a profile's, a folder's or a repo's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.commands.here import Here
from launcher.errors import NotFound, UsageError
from launcher.models.profiles.profile import ModelProfile, VllmEntry
from launcher.models.refs import is_repo
from launcher.models.safetensors import read_folder, read_repo
from launcher.plan.vllm.flags import read_flags
from launcher.plan.vllm.from_config import WeightFiles, shape_of
from launcher.plan.vllm.plan import VllmRequest
from launcher.plan.vllm.shape import ModelShape
from launcher.system.settings import expand_home


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmModel:
    """A model as vLLM would serve it."""

    model_id: str
    shape: ModelShape
    flags: tuple[str, ...]  # of its profile
    quality: str


def find_model(here: Here, ref: str) -> VllmModel:
    """Return the model that a REF names. Raises NotFound where vLLM has nothing to serve, UsageError."""
    folder = expand_home(Path(ref))
    if folder.is_dir():
        config, weight_bytes = read_folder(folder)
        return VllmModel(
            model_id=folder.name,
            shape=shape_of(config, WeightFiles(source=str(folder.absolute()), weight_bytes=weight_bytes)),
            flags=(),
            quality="its safetensors",
        )
    name = ref.partition(":")[0].lower()
    profile = next((each for each in here.sources.profiles.usable if each.name == name), None)
    if profile is not None and profile.vllm is not None:
        return model_of(profile, profile.vllm)
    if is_repo(ref):
        config, weight_bytes = read_repo(ref, here.sources.endpoint)
        files = WeightFiles(source=ref, weight_bytes=weight_bytes)
        return VllmModel(model_id=ref, shape=shape_of(config, files), flags=(), quality="its safetensors")
    others = sorted(each.name for each in here.sources.profiles.usable if each.vllm is not None)
    raise NotFound(
        f"nothing is known of {ref} that vLLM could serve: no folder, repo or profile with safetensors",
        hint=f"a folder with config.json and model.safetensors, a repo, or {', '.join(others)}",
    )


def model_of(profile: ModelProfile, entry: VllmEntry) -> VllmModel:
    """Return the model of a profile. Raises UsageError for a flag of it whose memory is not known."""
    _, flags = read_flags(entry.flags, VllmRequest(), f"the profile {profile.name}")
    files = WeightFiles(source=entry.repo, weight_bytes=entry.weight_bytes, tower_bytes=entry.tower_bytes)
    try:
        shape = shape_of(dict(entry.config), files)
    except UsageError as error:
        error.message = f"profile {profile.name}: {error.message}"
        raise
    return VllmModel(model_id=profile.name, shape=shape, flags=flags, quality=entry.quality)
