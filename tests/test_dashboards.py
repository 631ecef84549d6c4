"""Every query of Grafana's dashboards, run against a Postgres as docker compose makes it.

Grafana itself is not run: what it does to a query before it sends it (macros, variables) is done
here, as its manual says. The queries of metrics are run in test_stack.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

sys.path.append(str(Path(__file__).parent))

from compose_postgres import compose_postgres
from real_backends import ROOT
from recorded_market import HOSTILE, Market

from fillpath.analytics.postgres import open_results_database
from fillpath.analytics.results_loading import load_results
from fillpath.analytics.results_manager import ResultsManager
from fillpath.instrumentation import Tracing
from fillpath.instrumentation.settings import ENV_POSTGRES_DSN, DataFolder

GRAFANA = ROOT / "deploy/grafana"
BOARDS = {path.stem: json.loads(path.read_text()) for path in GRAFANA.glob("dashboards/*.json")}
RESULTS = "grafana-postgresql-datasource"
# What is recorded here drops nothing.
MAY_BE_EMPTY = {"Drops by reason"}
NOT_RECORDED = {"other", "engine", "version"}
RUN, ODD_RUN = "market-1", "odd-names"
RUNS = (RUN, ODD_RUN)
FROM, TO = "2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"


def panels(kind: str) -> list[tuple[str, str, str]]:
    """Give board, panel and query of every panel that asks a data source of this kind."""
    return [
        (name, panel["title"], target["rawSql" if kind == RESULTS else "expr"])
        for name, board in sorted(BOARDS.items())
        for panel in board["panels"]
        for target in panel.get("targets", ())
        if target["datasource"]["type"] == kind
    ]


def sql_string(value: str) -> str:
    """Quote as Grafana's variable format `sqlstring` does."""
    return "'" + value.replace("'", "''") + "'"


def expanded(query: str, run: str, portfolios: list[str]) -> str:
    """Do what Grafana does to a query of Postgres."""
    query = query.replace("${run:sqlstring}", sql_string(run))
    query = query.replace("${portfolio:sqlstring}", ",".join(map(sql_string, portfolios)))
    query = query.replace("$__interval", "1d")
    column = "floor(extract(epoch from {0})/86400)*86400"
    for macro, meaning in (
        (r"\$__timeFilter\((.*?)\)", r"\1 BETWEEN '" + FROM + "' AND '" + TO + "'"),
        (r"\$__timeGroupAlias\((.*?),\s*1d\)", column.format(r"\1") + ' AS "time"'),
        (r"\$__timeGroup\((.*?),\s*1d\)", column.format(r"\1")),
        (r"\$__timeFrom\(\)", f"'{FROM}'"),
        (r"\$__timeTo\(\)", f"'{TO}'"),
    ):
        query = re.sub(macro, meaning, query)
    assert "$" not in query, query
    return query


@dataclass(frozen=True)
class Results:
    """The loaded database, and how to log in."""

    folder: DataFolder
    owner: str
    dashboards: str

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.dashboards) as connection:
            cursor = connection.execute(query.encode())
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def record(folder: DataFolder, run: str, **names: Any) -> None:
    """Record some trades, an order that is denied, and a position that is open at the end."""
    with Tracing(run, data=folder.path, writer="inline") as tracing:
        market = Market(tracing, **names)
        for _ in range(3):
            market.trade(others=2)
        market.deny(market.bar("98"), "notional 98,000,000 is more than 1,000,000")
        submitted, named = market.order(market.signal(market.bar("98.25"), "1"), "BUY", "7")
        market.fill(submitted, named, "98.25")
        market.bar("103.5")
        market.finish()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    root = tmp_path_factory.mktemp("results")
    (root / "deploy").mkdir()
    script = root / "deploy/make_secrets.py"
    script.write_bytes((ROOT / "deploy/make_secrets.py").read_bytes())
    subprocess.run([sys.executable, "-I", script], check=True, capture_output=True)
    secrets = root / ".fillpath-secrets"
    with (
        compose_postgres(root / "postgres", secrets) as port,
        pytest.MonkeyPatch.context() as patch,
    ):
        # As docs/stack.md has it: the password stays in its file.
        owner = f"postgresql://fillpath@127.0.0.1:{port}/fillpath?passfile={secrets / 'pgpass'}"
        password = (secrets / "dashboards_password").read_text()
        reader = f"postgresql://fillpath_dashboards:{password}@127.0.0.1:{port}/fillpath"
        patch.setenv(ENV_POSTGRES_DSN, owner)
        folder = DataFolder(root / "data")
        record(folder, RUN)
        record(folder, ODD_RUN, portfolio=HOSTILE, strategy=HOSTILE, symbol=HOSTILE)
        for run in RUNS:
            load_results(folder, run)
        yield Results(folder, owner, reader)


@pytest.fixture(scope="module")
def portfolios(results: Results) -> dict[str, list[str]]:
    """Give the portfolios of each run as the variable of the dashboards does."""
    query = variable(BOARDS["pnl"], "portfolio")["query"]
    return {
        run: [row["coalesce"] for row in results.rows(expanded(query, run, []))] for run in RUNS
    }


def variable(board: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(dict(one) for one in board["templating"]["list"] if one["name"] == name)


def test_variables_list_the_runs_and_their_portfolios(
    results: Results, portfolios: Mapping[str, list[str]]
) -> None:
    for board in BOARDS.values():
        runs = [row["run_id"] for row in results.rows(variable(board, "run")["query"])]
        assert runs == list(reversed(RUNS)), "the newest first"
        assert variable(board, "portfolio") == variable(BOARDS["pnl"], "portfolio")
    assert portfolios[RUN] == ["fund/desk"]
    assert portfolios[ODD_RUN] == [HOSTILE]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("board", "title", "query"), panels(RESULTS))
def test_every_query_gives_rows(
    board: str,
    title: str,
    query: str,
    run: str,
    results: Results,
    portfolios: Mapping[str, list[str]],
) -> None:
    rows = results.rows(expanded(query, run, portfolios[run]))
    assert bool(rows) != (title in MAY_BE_EMPTY)
    for name in rows[0] if rows else ():
        assert any(row[name] is not None for row in rows) or name in NOT_RECORDED, name


def query_of(board: str, title: str) -> str:
    return next(sql for name, panel, sql in panels(RESULTS) if (name, panel) == (board, title))


@pytest.mark.parametrize("run", RUNS)
def test_profit_is_what_fillpath_reports(
    run: str, results: Results, portfolios: Mapping[str, list[str]]
) -> None:
    with ResultsManager(results.owner) as manager:
        expected = {
            (one.names["portfolio"], one.names["strategy"] or "", one.currency): {
                "realized": one.amounts.get("realized"),
                "commission": one.amounts.get("commission"),
                "unrealized": one.amounts.get("unrealized"),
                "total": one.total,
            }
            for one in manager.pnl_by(run, "portfolio", "strategy")
        }
        totals = {one.currency: one.total for one in manager.pnl_by(run)}
        trades = manager.read("largest_trades", run_id=run, most=50)
    assert expected
    assert any(totals.values())

    def rows_of(board: str, title: str) -> list[dict[str, Any]]:
        return results.rows(expanded(query_of(board, title), run, portfolios[run]))

    shown = rows_of("pnl", "By portfolio and strategy")
    assert {
        (row["portfolio"], row["strategy"], row["currency"]): {
            name: row[name] for name in ("realized", "commission", "unrealized", "total")
        }
        for row in shown
    } == expected
    for board, title, column in (
        ("run_overview", "What it came to", "P&L"),
        ("pnl", "By portfolio", "total"),
        ("pnl", "By symbol", "total"),
    ):
        sums: dict[str, Decimal] = {}
        for row in rows_of(board, title):
            sums[row["currency"]] = sums.get(row["currency"], Decimal()) + row[column]
        assert sums == totals, title
    for title in ("P&L over time, by strategy", "P&L over time, by portfolio"):
        last: dict[str, Decimal] = {}
        for row in rows_of("pnl", title):
            last[row["metric"]] = row["P&L"]
        assert sum(last.values()) == sum(totals.values()), title
    assert [row["net"] for row in rows_of("run_overview", "Largest trades")] == [
        trade["net"] for trade in trades
    ]
    assert len(trades) == 4


def test_what_became_of_events_is_what_the_run_says(
    results: Results, portfolios: Mapping[str, list[str]]
) -> None:
    query = query_of("latency_and_drops", "What became of events")
    rows = results.rows(expanded(query, RUN, portfolios[RUN]))
    with ResultsManager(results.owner) as manager:
        run = manager.run(RUN)
    for name in ("published", "kept", "sampled_out", "dropped"):
        assert sum(row[name] for row in rows) == getattr(run, name), name


def test_the_role_of_the_dashboards_reads_and_does_nothing_else(results: Results) -> None:
    with psycopg.connect(results.dashboards, autocommit=True) as connection:
        for statement in (
            "DELETE FROM runs",
            "CREATE TABLE mine (id integer)",
            "SET default_transaction_read_only = off; UPDATE runs SET mode = 'live'",
            "SET ROLE fillpath",
            "COPY runs TO PROGRAM 'cat'",
            "SELECT pg_read_file('/etc/passwd')",
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(statement.encode())
        found = connection.execute("SHOW statement_timeout").fetchone()
        assert found == ("30s",)


def test_a_table_of_a_later_migration_can_be_read_too(results: Results) -> None:
    with psycopg.connect(results.owner, autocommit=True) as connection:
        connection.execute("CREATE TABLE later (id integer)")
        try:
            assert results.rows("SELECT * FROM later") == []
        finally:
            connection.execute("DROP TABLE later")


def test_a_password_is_asked_for(results: Results) -> None:
    for dsn in (results.owner.partition("?")[0], re.sub(":[^:@]+@", "@", results.dashboards)):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(dsn, passfile="/dev/null")


def test_the_schema_is_brought_up_to_date_by_the_first_command(results: Results) -> None:
    with (
        open_results_database(results.folder, results.owner) as database,
        database.connect() as connection,
    ):
        assert not database.embedded
        found = connection.execute("SELECT count(*) FROM schema_migrations").fetchone()
        assert found is not None
        assert found[0] >= 1


def lost(before: object, after: object, path: str = "") -> Iterator[str]:
    """Name what is not the same after Grafana's own library has read it and written it."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{path}.{key}"
            else:
                yield from lost(value, after[key], f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{path}: {len(after)} of {len(before)}"
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from lost(one, other, f"{path}[{number}]")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def through_grafanas_library(board: dict[str, Any]) -> list[str]:
    plugins.register_default_plugins()
    read = Dashboard.from_json(deepcopy(board))
    return list(lost(board, json.loads(json.dumps(read, cls=JSONEncoder))))


@pytest.mark.parametrize("board", sorted(BOARDS))
def test_grafanas_own_library_knows_every_word_of_a_dashboard(board: str) -> None:
    assert not through_grafanas_library(BOARDS[board])


@pytest.mark.parametrize("word", ["gridPos", "options", "templating", "targets", "overrides"])
def test_grafanas_own_library_misses_a_word_misspelt(word: str) -> None:
    text = json.dumps(BOARDS["run_overview"]).replace(f'"{word}"', f'"{word}s"', 1)
    if word == "options":
        text = json.dumps(BOARDS["run_overview"]).replace('"showHeader"', '"showHeaders"', 1)
    assert through_grafanas_library(json.loads(text))


def test_dashboards_have_names_of_their_own_and_panels_that_do_not_overlap() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 3
    for board in BOARDS.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            across = range(place["x"], place["x"] + place["w"])
            cells = {(x, place["y"] + y) for x in across for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            assert max(across) < 24
            taken |= cells


def provisioned(kind: str) -> dict[str, Any]:
    path = GRAFANA / f"provisioning/{kind}/fillpath.yaml"
    return dict(yaml.safe_load(path.read_text()))


def test_every_data_source_that_a_dashboard_names_is_provisioned() -> None:
    sources = {one["uid"]: one for one in provisioned("datasources")["datasources"]}
    assert {source["type"] for source in sources.values()} == {RESULTS, "prometheus", "jaeger"}
    named = set(re.findall(r'"uid": "(fillpath-(?:results|metrics|traces))"', json.dumps(BOARDS)))
    assert named <= sources.keys()
    for board in BOARDS.values():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                asked = target["datasource"]
                assert sources[asked["uid"]]["type"] == asked["type"], panel["title"]
    traces = sources["fillpath-traces"]["jsonData"]["tracesToMetrics"]
    assert traces["datasourceUid"] in sources


def test_provisioning_reads_what_compose_gives_and_holds_no_secret() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    text = "".join(path.read_text() for path in GRAFANA.glob("provisioning/*/*.yaml"))
    # $$ is a dollar sign.
    read = set(re.findall(r"(?<!\$)\$\{(\w+)\}", text))
    given = {name for name in compose["environment"] if name.startswith("FILLPATH_")}
    assert read == given
    [results] = [
        one for one in provisioned("datasources")["datasources"] if one["uid"] == "fillpath-results"
    ]
    assert results["user"] == "fillpath_dashboards"
    assert results["secureJsonData"] == {"password": "$__file{/run/secrets/dashboards_password}"}
    assert "dashboards_password" in compose["secrets"]
    mounts = {volume.split(":")[1] for volume in compose["volumes"]}
    [provider] = provisioned("dashboards")["providers"]
    assert provider["options"]["path"] == "${FILLPATH_GRAFANA_DASHBOARDS}"
    assert compose["environment"]["FILLPATH_GRAFANA_DASHBOARDS"] in mounts


def test_every_trace_in_a_table_links_to_jaeger_and_to_grafanas_own_view(
    results: Results, portfolios: Mapping[str, list[str]]
) -> None:
    linked = 0
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            if panel["type"] != "table" or panel["datasource"]["type"] != RESULTS:
                continue
            query = query_of(name, panel["title"])
            rows = results.rows(expanded(query, RUN, portfolios[RUN]))
            traces = [column for column in rows[0] if "trace" in column] if rows else []
            links = {
                override["matcher"]["options"]: [link["url"] for link in one["value"]]
                for override in panel["fieldConfig"]["overrides"]
                for one in override["properties"]
                if one["id"] == "links"
            }
            for column in traces:
                assert links[column][0] == "${jaeger:raw}/trace/${__value.raw}"
                assert links[column][1].startswith("/explore?schemaVersion=1&panes=%7B")
                ids = {row[column] for row in rows if row[column] is not None}
                assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
                linked += len(ids)
    assert linked > 0
