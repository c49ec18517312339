"""Engines that llama.cpp itself publishes: the releases of ggml-org/llama.cpp, or of a mirror."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from launcher.engine.sources.assets import AssetName, is_tag, parse_asset_name
from launcher.engine.sources.download import RemoteFile, fetch_files
from launcher.engine.sources.fit import HostFacts, PassedOver, rank, runtime_of
from launcher.engine.sources.native import what_a_build_brings
from launcher.engine.sources.release_json import Release, ReleaseFile
from launcher.engine.sources.releases import ELSEWHERE, Server, find_release, newest_builds, pointed_build
from launcher.engine.sources.source import Offer
from launcher.engine.sources.unpack import unpack_all
from launcher.errors import EngineFailed, HashMismatch
from launcher.machine.machine import Backend
from launcher.models.url_secrets import strip_secrets
from launcher.progress import OnProgress

LATEST = "latest"
_OFFICIAL_MAKER = "ggml-org, who make llama.cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSource:
    """A `Source`: release archives, chosen by what this machine has."""

    server: Server
    facts: HostFacts
    tag: str | None = None  # b11026, latest; None: what upstream points to
    backend: Backend | None = None  # only these

    def find(self) -> tuple[Offer, ...]:
        """Return what fits of the first release that has something. Raises LauncherError."""
        last: EngineFailed | HashMismatch | None = None
        for release in self._releases():
            try:
                return offers_of(release, self.facts, wanted=self.backend, maker=self._maker)
            except (EngineFailed, HashMismatch) as error:  # files may still be on their way to a new release
                last = last or error
        raise last or EngineFailed(f"{self.server.name} has no release", hint=ELSEWHERE)

    def fetch(self, offer: Offer, folder: Path, on_progress: OnProgress) -> tuple[Path, ...]:
        return fetch_files(offer.remote, folder, on_progress)

    def unpack(self, archives: tuple[Path, ...], target: Path) -> None:
        unpack_all(archives, target)

    def describe(self, offer: Offer) -> tuple[str, ...]:
        return (
            f"took {offer.title}, built by {offer.made_by} (sha256 {(offer.sha256 or '')[:12]}…)",
            what_a_build_brings(offer.kind),
        )

    @property
    def _maker(self) -> str:
        return _OFFICIAL_MAKER if self.server.is_official else f"whoever runs {self.server.name}"

    def _releases(self) -> tuple[Release, ...]:
        if self.tag is None:
            pointed = pointed_build(self.server)
            return (pointed,) if pointed is not None else newest_builds(self.server)
        if self.tag == LATEST:
            return newest_builds(self.server)
        return (find_release(self.server, self.tag),)


def offers_of(release: Release, facts: HostFacts, *, wanted: Backend | None, maker: str) -> tuple[Offer, ...]:
    """Return what a release has for this machine, best first.

    Raises EngineFailed if nothing fits, HashMismatch if nothing that fits has a sha256.
    """
    assets = [asset for file in release.files if (asset := parse_asset_name(file.name)) is not None]
    ranking = rank(assets, facts, wanted=wanted)
    if not ranking.fitting:
        raise _nothing_fits(release, facts, assets, ranking.passed_over)
    notes = tuple(passed.reason for passed in ranking.passed_over)
    offers = [_offer(release, asset, assets, facts, maker) for asset in ranking.fitting]
    verified = [offer for offer in offers if offer is not None]
    if not verified:
        raise HashMismatch(
            f"the release {release.tag} lists no sha256 for {ranking.fitting[0].file}: it cannot be verified",
            hint=f"fetch it yourself and give its path to launcher engine install; or {ELSEWHERE}",
        )
    return (replace(verified[0], notes=notes), *verified[1:])


def tag_of(text: str) -> str | None:
    """Return the tag that a SOURCE names; None if it is something else."""
    return text if text == LATEST or is_tag(text) else None


def _offer(
    release: Release, asset: AssetName, assets: list[AssetName], facts: HostFacts, maker: str
) -> Offer | None:
    """Return the offer of one file; None without the sha256 of all that belongs to it."""
    names = [asset.file]
    runtime = runtime_of(asset, assets)
    if asset.backend is Backend.CUDA and runtime is not None:
        names.append(runtime.file)
    files = [file for name in names if (file := release.file(name)) is not None]
    remote = tuple(_remote(file) for file in files if file.sha256 is not None)
    if len(remote) < len(names):
        return None
    return Offer(
        title=f"llama.cpp {release.tag} for {asset.title}",
        kind="release",
        made_by=maker,
        file=strip_secrets(remote[0].url),
        version=release.tag,
        backend=asset.backend,
        size_bytes=sum(file.size_bytes for file in remote),
        sha256=remote[0].sha256,
        expects_gpu=facts.has_gpu and asset.backend is not Backend.CPU,
        remote=remote,
    )


def _remote(file: ReleaseFile) -> RemoteFile:
    return RemoteFile(name=file.name, url=file.url, size_bytes=file.size_bytes, sha256=file.sha256 or "")


def _nothing_fits(
    release: Release, facts: HostFacts, assets: list[AssetName], passed_over: tuple[PassedOver, ...]
) -> EngineFailed:
    if passed_over:
        why = "; ".join(passed.reason for passed in passed_over)
    else:
        places = ", ".join(sorted({f"{asset.system} {asset.arch}" for asset in assets})) or "none known here"
        why = f"its archives are for {places}, this machine is {facts.system} {facts.arch}"
    return EngineFailed(
        f"no archive of {release.tag} runs on this machine: {why}", hint="launcher engine build makes one"
    )
