"""What runs strategies in NautilusTrader 2.x, and how each is read: an engine and the two nodes.

A node makes its engine itself, out of Python's reach; but strategies are added to the node, it is
run from Python, and it hands out its engine's cache and portfolio.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

_BY_CONFIG: Final = (
    "add_strategy_from_config",
    "add_actor_from_config",
    "add_exec_algorithm_from_config",
)
_ONE_BY_ONE: Final = ("add_strategy", "add_actor", "add_exec_algorithm")


class EngineParts(NamedTuple):
    """What is read of an engine before it runs; it answers nothing meanwhile.

    Attributes:
        trader_id: The engine's name.
        cache: Its cache, which can be asked for orders at any time.
        portfolio: Its portfolio.
        account_ids: Gives the ids of the accounts that there are by then.
        since: Time in nanoseconds before which nothing is of this run; 0 in a backtest.
    """

    trader_id: Any
    cache: Any
    portfolio: Any
    account_ids: Callable[[], Iterable[Any]]
    since: int = 0


class EngineKind(NamedTuple):
    """One of the engine's classes that run strategies.

    Attributes:
        owner: The class.
        name: What it is called in a warning.
        key: Names one of its engines, for as long as that lives.
        read: Gives the parts of one; None when it has no engine yet.
        adders: Its methods that are given strategies.
        config_adders: Its methods that make strategies of a configuration.
        runs: Its methods that run one until they return.
        coroutines: Its methods that give a coroutine that runs one.
        resets: Its methods after which the next run is another one.
        is_disposing: Whether a run may end with the engine's cache being emptied.
    """

    owner: type
    name: str
    key: Callable[[Any], Any]
    read: Callable[[Any], EngineParts | None]
    adders: tuple[str, ...]
    config_adders: tuple[str, ...]
    runs: tuple[str, ...]
    coroutines: tuple[str, ...] = ()
    resets: tuple[str, ...] = ("dispose",)
    is_disposing: bool = False


def engine_kinds() -> list[EngineKind]:
    """All there are in the installed release."""
    # The modules of the package import more than a script may need; the classes are the same.
    native = importlib.import_module("nautilus_trader._libnautilus")
    found = [
        EngineKind(
            native.backtest.BacktestEngine,
            "BacktestEngine",
            lambda engine: engine.instance_id,
            _parts_of_engine,
            (*_ONE_BY_ONE, "add_strategies", "add_actors", "add_exec_algorithms"),
            (
                *_BY_CONFIG,
                "add_strategies_from_configs",
                "add_actors_from_configs",
                "add_exec_algorithms_from_configs",
            ),
            runs=("run", "end"),
            resets=("reset", "dispose"),
        ),
    ]
    # A release without a node still has its engine traced.
    node = getattr(native.backtest, "BacktestNode", None)
    if node is not None:
        found.append(
            EngineKind(
                node,
                "BacktestNode",
                id,  # it has no name, and cannot be referred to weakly
                _parts_of_backtest_node,
                _ONE_BY_ONE,
                _BY_CONFIG,
                runs=("run",),
                is_disposing=True,
            )
        )
    live = getattr(getattr(native, "live", None), "LiveNode", None)
    if live is not None:
        found.append(
            EngineKind(
                live,
                "LiveNode",
                lambda node: node.instance_id,
                _parts_of_live_node,
                _ONE_BY_ONE,
                _BY_CONFIG,
                runs=("run",),
                coroutines=("run_async",),
            )
        )
    return found


def _parts_of_engine(engine: Any) -> EngineParts:
    cache, venues = engine.cache, engine.list_venues()
    return EngineParts(engine.trader_id, cache, engine.portfolio, _accounts_at(cache, venues))


def _parts_of_backtest_node(node: Any) -> EngineParts | None:
    """Read the engine of a node of backtests; None before the node has built it."""
    (config, *_) = node.configs  # the engine takes no second one
    try:
        cache = node.get_engine_cache(config.id)
    except RuntimeError:
        return None
    venue = importlib.import_module("nautilus_trader.model").Venue
    return EngineParts(
        config.engine.trader_id,
        cache,
        node.get_engine_portfolio(config.id),
        _accounts_at(cache, [venue(one.name) for one in config.venues]),
    )


def _parts_of_live_node(node: Any) -> EngineParts:
    cache = node.cache

    def ids() -> list[Any]:
        venues = {one.venue.value: one.venue for one in cache.instrument_ids()}
        return list(_accounts_at(cache, venues.values())())

    return EngineParts(node.trader_id, cache, node.portfolio, ids, since=time.time_ns())


def _accounts_at(cache: Any, venues: Iterable[Any]) -> Callable[[], Iterable[Any]]:
    def ids() -> list[Any]:
        found = {one.value: one for one in map(cache.account_id, venues) if one is not None}
        return list(found.values())

    return ids
