"""Serve: put the parts together, answer until asked to end, and leave models running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.commands.here import Here, here_with
from launcher.commands.inspect import inspect
from launcher.deployment.address import local_url
from launcher.deployment.records import make_private
from launcher.engine.flags.listening import is_loopback
from launcher.errors import NotAllowed, UsageError
from launcher.gateway import server
from launcher.gateway.app import App, AppOptions
from launcher.gateway.catalogue import Catalogue, Servable, read_servables
from launcher.gateway.config import GatewayConfig
from launcher.gateway.deployments import Deployments
from launcher.gateway.engine_http import Engines
from launcher.gateway.guard import Doors
from launcher.gateway.keeper import Keeper, KeptOptions
from launcher.gateway.keys import KeyRing, keys_path
from launcher.gateway.ollama_pull import Disk
from launcher.gateway.proxy import Proxy
from launcher.gateway.running_address import written_down
from launcher.gateway.spending import Spending
from launcher.gateway.threads import in_thread
from launcher.gateway.watch import Watch
from launcher.progress import OnProgress
from launcher.system.locks import exclusive_if_free

if TYPE_CHECKING:
    from launcher.gateway.fallback import Fallback

_CATALOGUE_S = 30.0  # between two looks at what is on the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRequest:
    """What `serve` is asked for."""

    config: GatewayConfig
    refs: tuple[str, ...] = ()  # loaded at once, and kept
    only: bool = False  # these and no others
    engine: Path | None = None
    tls: tuple[Path, Path] | None = None  # certificate and key


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where the gateway answers, and what it serves."""

    url: str
    models: tuple[str, ...]
    needs_key: bool

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"


def serve(here: Here, request: GatewayRequest, announce: Callable[[Serving], None]) -> None:
    """Serve models until SIGINT or SIGTERM; what runs then goes on running.

    Raises UsageError if the port is taken, another gateway of this user runs, or a key is needed.
    """
    config = request.config
    keys = KeyRing(keys_path(here.settings))
    needs_key = not is_loopback(config.host)
    if needs_key and not keys.all():
        raise UsageError(
            f"host {config.host} can be reached from other machines and there is no key",
            hint="launcher keys add me",
        )
    if request.tls is not None:
        server.check_tls(*request.tls)
    listening = server.open_port(config.host, config.port)
    with listening, _alone(here):
        typed = tuple(find_typed(here, config, ref) for ref in request.refs)
        url = local_url(config.host, config.port)
        shown = url.replace("http://", "https://") if request.tls else url

        async def main() -> None:
            deployments = Deployments(here, max_ram_bytes=config.max_ram_bytes, engine=request.engine)
            options = KeptOptions(pinned=frozenset(each.key for each in typed))
            keeper = Keeper(deployments, _catalogue(here, request, typed), options)
            engines = Engines()
            doors = Doors(needs_key=needs_key, hosts=frozenset({config.host.lower()}))

            async def refresh() -> None:
                with contextlib.suppress(OSError, UsageError):
                    keeper.replace_catalogue(await in_thread(lambda: _catalogue(here, request, typed)))

            disk = Disk(fetch=_fetch, refresh=refresh)
            fallback = _fallback(here, config, keeper)
            app = App(keeper, Proxy(keeper, engines, fallback), keys, disk, AppOptions(doors=doors))
            await keeper.begin()
            looking = asyncio.create_task(_again_and_again(refresh))
            watching = asyncio.create_task(Watch(keeper, engines).go_on())
            names = tuple(servable.name for servable in keeper.catalogue)
            serving = Serving(url=shown, models=names, needs_key=needs_key)
            try:
                with written_down(here.settings.gateway_dir, shown):
                    await server.serve(
                        app, listening, tls=request.tls, on_ready=lambda _end: announce(serving)
                    )
            finally:
                looking.cancel()
                watching.cancel()
                engines.close()
                if fallback is not None:
                    await fallback.close()
                await keeper.close()

        server.run(main)


def _fallback(here: Here, config: GatewayConfig, keeper: Keeper) -> Fallback | None:
    if all(model.fallback is None for model in config.models.values()):
        return None
    from launcher.gateway.fallback import Fallback  # noqa: PLC0415  with an HTTP client, for those who ask for one

    return Fallback(keeper, Spending(here.settings.gateway_dir / "spending.json"))


async def _again_and_again(refresh: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(_CATALOGUE_S)
        await refresh()


def _fetch(ref: str, on_progress: OnProgress) -> None:
    # what is too large for the disk is refused before the first byte
    _pull(here_with(on_progress, confirm=lambda _question: True), ref)


def _pull(here: Here, ref: str) -> None:
    from launcher.commands.pull import PullRequest, pull  # noqa: PLC0415  with the first download

    pull(here, PullRequest(ref=ref))


def _catalogue(here: Here, request: GatewayRequest, typed: tuple[Servable, ...]) -> Catalogue:
    others = () if request.only else read_servables(here.settings, here.sources, request.config)
    return Catalogue((*typed, *others), request.config, is_closed=request.only)


def find_typed(here: Here, config: GatewayConfig, ref: str) -> Servable:
    """Return the model of a REF that was typed, brought here if it is not yet. Raises what `pull` raises."""
    exact = replace(config, default=None)  # a name that nobody knows is not the default's
    known = _catalogue(here, GatewayRequest(config=exact), ()).find(ref)
    if known is not None and known.servable.source == "config":
        return known.servable  # its name is no REF
    if known is None and not Path(ref).exists():
        online = here_with(here.on_progress, confirm=here.confirm)
        _pull(online, ref)
    target = inspect(here, ref)
    modes = () if target.profile is None else target.profile.modes
    size_bytes = None if known is None else known.servable.size_bytes
    return Servable(name=target.model_id, ref=ref, source="typed", modes=modes, size_bytes=size_bytes)


@contextlib.contextmanager
def _alone(here: Here) -> Iterator[None]:
    # two would unload each other's models
    folder = here.settings.gateway_dir
    make_private(folder)
    with exclusive_if_free(folder / "lock") as free:
        if not free:
            raise NotAllowed("another gateway of this user runs already", hint="launcher ps")
        yield
