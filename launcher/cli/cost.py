"""The command `cost`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, MachineOptions, PlanOptions
from launcher.cli.options.single import Ref
from launcher.cli.show.output import Output
from launcher.errors import NotFound, UsageError

if TYPE_CHECKING:
    from launcher.commands.planned import Planned
    from launcher.gateway.config import GatewayConfig
    from launcher.gateway.cost import CostInputs, Costs, Figure
    from launcher.gateway.fallback_config import Prices

_KWH_PRICE, _YEARS, _EXAMPLE_BUDGET = 0.30, 3.0, 20.0
_MOST = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Power:
    """What is typed about electricity and hardware."""

    watts: float | None
    kwh_price: float | None
    hardware: float | None
    years: float | None


def cost(
    ctx: typer.Context,
    ref: Ref,
    plan_options: PlanOptions,
    machine_options: MachineOptions,
    engine_options: EngineOptions,
    out: Output,
    watts: Annotated[
        float | None,
        typer.Option(metavar="W", min=0, max=_MOST, help="Drawn while it answers.", show_default=False),
    ] = None,
    kwh_price: Annotated[
        float | None,
        typer.Option(metavar="$", min=0, max=_MOST, help="For a kWh [default: 0.30].", show_default=False),
    ] = None,
    hardware: Annotated[
        float | None,
        typer.Option(metavar="$", min=0, max=_MOST, help="What the machine has cost.", show_default=False),
    ] = None,
    years: Annotated[
        float | None,
        typer.Option(metavar="N", min=0.1, max=50, help="Until it is written off [3].", show_default=False),
    ] = None,
) -> None:
    """Compare answers from this machine with the API's: speed, electricity, hardware, break-even."""
    from launcher.cli.requests import machine_choice, plan_request
    from launcher.cli.show.tables import facts
    from launcher.commands.plan import plan as plan_model
    from launcher.gateway.api_offers import OFFERS, config_lines, prices_of
    from launcher.gateway.config import read_gateway_config
    from launcher.gateway.cost import compare
    from launcher.system.settings import read_settings

    config = read_gateway_config(read_settings())
    request = plan_request(ref, plan_options, engine_options, ctx.obj)
    with here_with_progress(out, offline=plan_options.offline) as here:
        planned = plan_model(here, replace(request, machine=machine_choice(machine_options)))
    name = _api_name(planned, config)
    fallback = config.models[name].fallback if name in config.models else None
    found = prices_of(name, fallback)
    if found is None:
        raise NotFound(
            f"no API is known that answers as {name}; there are {', '.join(OFFERS)}",
            hint=f'put its prices into config.toml, [models."{name}".fallback]',
        )
    power = _Power(watts=watts, kwh_price=kwh_price, hardware=hardware, years=years)
    inputs = _inputs(planned, config, found[0], power)
    costs = compare(inputs)
    document = {"model": name, "api": found[1], "inputs": asdict(inputs), "costs": asdict(costs)}
    if fallback is None:
        document["config"] = config_lines(name, OFFERS[name], _EXAMPLE_BUDGET)
    out.show(document, facts(_rows(inputs, costs, found[1])))
    if fallback is None:
        out.say("note: nothing is sent there; the settings that would let it are in --json, at config")


def _api_name(planned: Planned, config: GatewayConfig) -> str:
    profile = planned.target.profile
    name = planned.target.model_id if profile is None else profile.name
    return next((each for each, model in config.models.items() if model.ref == name), name)


def _is_here(planned: Planned) -> bool:
    from launcher.commands.probe import THIS_MACHINE

    return planned.request.machine == THIS_MACHINE


def _inputs(planned: Planned, config: GatewayConfig, prices: Prices, power: _Power) -> CostInputs:
    from launcher.commands.planned import fitting
    from launcher.gateway.cost import CostInputs, Figure
    from launcher.gateway.watts import read_watts

    forecast = fitting(planned)[0].forecast
    if forecast is None:
        raise UsageError("no speed can be forecast for this plan", hint="launcher plan REF")

    def figure(value: float | None, assumed: float, flag: str) -> Figure:
        if value is not None:
            return Figure(value=value, source="given")
        return Figure(value=assumed, source=f"assumed: {flag}")

    is_here = _is_here(planned)
    band = f"forecast, {forecast.decode.low:.1f} to {forecast.decode.high:.1f}"
    prefill_band = f"forecast, {forecast.prefill.low:.0f} to {forecast.prefill.high:.0f}"
    measured = _measured(planned, config) if is_here else None
    watts = None if power.watts is None else Figure(value=power.watts, source="given")
    return CostInputs(
        prompt_tokens=forecast.turn.prompt_tokens,
        cached_tokens=forecast.turn.cached_tokens,
        answer_tokens=forecast.turn.reply_tokens,
        prefill=Figure(value=forecast.prefill.mid, source=prefill_band),
        decode=measured or Figure(value=forecast.decode.mid, source=band),
        watts=read_watts() if watts is None and is_here else watts,
        kwh_price=figure(power.kwh_price, _KWH_PRICE, "--kwh-price"),
        hardware=None if power.hardware is None else Figure(value=power.hardware, source="given"),
        years=figure(power.years, _YEARS, "--years"),
        prices=prices,
    )


def _answered(status: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    answered = (status or {}).get("answered")
    return [each for each in answered if isinstance(each, dict)] if isinstance(answered, list) else []


def _measured(planned: Planned, config: GatewayConfig) -> Figure | None:
    """Return the median speed of this model's last answers, where a gateway runs that gave some."""
    import statistics

    from launcher.deployment.record import deployment_name
    from launcher.gateway.ask_status import ask_gateway
    from launcher.gateway.cost import Figure
    from launcher.gateway.running_address import gateway_url
    from launcher.system.settings import read_settings

    status = ask_gateway(gateway_url(read_settings(), config), None)
    key = deployment_name(planned.target.model_id)
    speeds = [
        float(each["tokens_per_s"])
        for each in _answered(status)
        if each.get("model") == key
        and isinstance(each.get("tokens_per_s"), float)
        and each["tokens_per_s"] > 0
    ]
    if not speeds:
        return None
    return Figure(
        value=statistics.median(speeds), source=f"measured: the gateway's last {len(speeds)} answers"
    )


def _rows(given: CostInputs, costs: Costs, where: str) -> list[tuple[str, str | None]]:
    def shown(figure: Figure | None, form: str) -> str | None:
        return None if figure is None else f"{form.format(figure.value)} ({figure.source})"

    prices = given.prices
    listed = f"${prices.prompt:g} in, ${prices.cached:g} cached, ${prices.answer:g} out for a million tokens"
    request = (
        f"{given.prompt_tokens} new tokens, {given.cached_tokens} cached, {given.answer_tokens} answered"
    )
    here, there = _dollars(costs.per_million_here), _dollars(costs.per_million_api)
    month = None if costs.hardware_month is None else f"{_dollars(costs.hardware_month)} a month"
    return [
        ("request", request),
        ("prompt", shown(given.prefill, "{:.0f} tokens/s")),
        ("answer", shown(given.decode, "{:.1f} tokens/s")),
        ("takes", f"{costs.seconds:.1f} s here, one request at a time"),
        ("draws", shown(given.watts, "{:.0f} W") or "not known: --watts W"),
        ("electricity", shown(given.kwh_price, "${:.2f} for a kWh")),
        ("hardware", shown(given.hardware, "${:,.0f}") or "not counted: --hardware $"),
        ("written off", shown(given.years, f"{month}, in {{:g}} years") if month else None),
        ("api", f"{where}: {listed} ({prices.source})"),
        ("per request", f"{_dollars(costs.electricity)} of electricity here, {_dollars(costs.api)} there"),
        ("per million", f"{here} of electricity here, {there} there, for a million answered tokens"),
        ("cheaper", costs.verdict),
    ]


def _dollars(value: float | None) -> str:
    if value is None:
        return "an unknown amount"
    return f"${value:,.2f}" if value >= 1 else f"${value:.6f}"
