"""Everything that the demo needs, built and taken away: two endpoints, access paths, keys, a plan, a writing client."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from statehub_plan.components import PgInstallation, find_ssh_keygen, server_installations
from statehub_plan.demo import reload, seed
from statehub_plan.demo.cluster import Cluster, scratch_directory
from statehub_plan.demo.ledger import LedgerVerdict, verify
from statehub_plan.demo.process import Child
from statehub_plan.demo.site import APP, READER, Site, answers, free_ports, restore
from statehub_plan.errors import StatehubError

APPROVER = "operator@state-hub.demo"
AUTHOR = "developer@state-hub.demo"
SOURCE = "wsl2"
TARGET = "railiance01"

_LANES = ("cust-wp-0011.yaml", "cust-wp-0038.yaml", "rail-bs-wp-0007.yaml")
_IMAGE_DIGEST = "sha256:" + hashlib.sha256(b"state-hub " + seed.REVISION.encode()).hexdigest()


class DemoWorld:
    """The demo as a context manager: built on entry in about ten seconds, gone on exit, however that comes about.

    `sites` by endpoint name, `directory` with everything in files, `env` with what a command of the tool needs.
    """

    def __init__(
        self,
        *,
        rows: int = 200_000,
        stabilization: str = "3s",
        rate: float = 40.0,
        writers: int = 4,
        settings: Mapping[str, str] | None = None,
        installations: tuple[PgInstallation, PgInstallation] | None = None,
        method: str = "replication",
        fallback: str = "following",
    ) -> None:
        """`rows` to begin with on the source, `rate` events a second from `writers` threads once the client is started;
        `settings` for the clusters beside their own, `method` and `fallback` for the plan. The installations default to
        the lowest and the highest major."""
        self._rows = rows
        self._stabilization = stabilization
        self._rate = rate
        self._writers = writers
        self._settings = dict(settings or {})
        self._transfer = {"method": method, "fallback": fallback}
        found = server_installations()
        self._installations = dict(zip((SOURCE, TARGET), installations or (found[0], found[-1]), strict=True))
        self._stack = ExitStack()
        self._client: Child | None = None

    def __enter__(self) -> Self:
        """Built: the source seeded, an earlier restore on the target, hubs and bridge answering; no client yet."""
        with ExitStack() as building:
            self._build(building)
            self._stack = building.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every process ended, every file removed."""
        self._stack.close()

    @property
    def plan_file(self) -> Path:
        """The plan that moves the hub."""
        return self.directory / "plans" / "cust-wp-0011.yaml"

    @property
    def ledger_file(self) -> Path:
        """What the client was told is safe."""
        return self.directory / "ledger.jsonl"

    @property
    def key_file(self) -> Path:
        """The approver's private SSH key."""
        return self.directory / "keys" / "approver"

    @property
    def bridge_url(self) -> str:
        """The local port that clients keep, whatever is behind it."""
        return f"http://127.0.0.1:{self._bridge_port}"

    @property
    def env(self) -> dict[str, str]:
        """What has to be exported for the tool's commands to work on this world."""
        variables = {"STATEHUB_PLAN_HOME": str(self.directory / "state"), "STATEHUB_PLAN_AUTHOR": AUTHOR}
        for name, site in self.sites.items():
            variables[f"STATEHUB_{name.upper()}_DSN"] = site.dsn()
            variables[f"STATEHUB_{name.upper()}_APP_DSN"] = site.dsn(APP)
            variables[f"STATEHUB_{name.upper()}_SUBSCRIBER_DSN"] = site.subscriber_dsn
        return variables

    def command(self, *arguments: str) -> list[str]:
        """A command of the tool as a process's argument list; run it in `directory` with `command_env`."""
        return [sys.executable, "-m", "statehub_plan", *arguments]

    @property
    def command_env(self) -> dict[str, str]:
        """This process's environment without PG* variables, and `env`."""
        return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | self.env

    def start_client(self) -> Child:
        """The writing client, through both access paths; it goes on until `stop_client`."""
        arguments = ["--ledger", str(self.ledger_file), "--url", self.bridge_url]
        arguments += ["--mcp-config", str(self.directory / "mcp" / "config.json")]
        arguments += ["--rate", str(self._rate), "--writers", str(self._writers)]
        child = Child("client", "statehub_plan.demo.ledger", tuple(arguments), log_file=self._log("client"))
        self._client = self._stack.enter_context(child)
        child.wait_until(lambda: self.ledger_file.exists() and self.ledger_file.stat().st_size > 0)
        return child

    def stop_client(self) -> int:
        """Let the client finish what is under way; 0 when every one of its writes was acknowledged."""
        return 0 if self._client is None else self._client.stop(timeout_s=30.0)

    def verify(self, primary: str) -> LedgerVerdict:
        """What became of the acknowledged writes, by the database of the endpoint that is primary now."""
        return verify(self.ledger_file, self.sites[primary].dsn(READER))

    def _build(self, stack: ExitStack) -> None:
        self.directory = stack.enter_context(scratch_directory("statehub-plan-demo-"))
        for name in ("plans", "keys", "bridge", "mcp", "evidence", "backups", "docs", "state", "logs"):
            (self.directory / name).mkdir(mode=0o700)
        *api_ports, self._bridge_port = free_ports(3)
        self.sites = self._start_sites(stack, dict(zip((SOURCE, TARGET), api_ports, strict=True)))
        hubs = [stack.enter_context(site.start_api(self._log(name))) for name, site in self.sites.items()]
        self._write_access_paths()
        bridge = stack.enter_context(self._start_bridge())
        self._write_keys()
        self._fill()
        self._write_evidence()
        self._write_plans()
        for hub, site in zip(hubs, self.sites.values(), strict=True):
            hub.wait_until(site.is_healthy)
        bridge.wait_until(lambda: answers(f"{self.bridge_url}/state/health"))

    def _start_sites(self, stack: ExitStack, api_ports: Mapping[str, int]) -> dict[str, Site]:
        def start(name: str) -> Site:
            cluster = Cluster.create(
                self.directory,
                name,
                self._installations[name],
                settings={"max_slot_wal_keep_size": "8GB", **self._settings},
            )
            stack.callback(cluster.destroy)
            cluster.start()
            site = Site(name, cluster, api_ports[name])
            site.prepare()
            return site

        with ThreadPoolExecutor(2) as pool:
            return dict(zip(api_ports, pool.map(start, api_ports), strict=True))

    def _fill(self) -> None:
        source, target = self.sites[SOURCE], self.sites[TARGET]
        with source.connect_as_owner() as conn:
            seed.create_schema(conn)
            seed.seed(conn, self._rows)
        restore(source, target)

    def _start_bridge(self) -> Child:
        arguments = ("serve", str(self._tunnels_file), "--status", str(self._tunnels_status))
        return Child("bridge", "statehub_plan.demo.tunnel", arguments, log_file=self._log("bridge"))

    @property
    def _tunnels_file(self) -> Path:
        return self.directory / "bridge" / "tunnels.yaml"

    @property
    def _tunnels_status(self) -> Path:
        return self.directory / "bridge" / "status.json"

    def _write_access_paths(self) -> None:
        self._tunnels_file.write_text(
            "# ops-bridge: what each local port leads to\n"
            "tunnels:\n"
            "  state-hub:\n"
            f"    local: 127.0.0.1:{self._bridge_port}\n"
            f"    target: {self.sites[SOURCE].address}   # moved by statehub-plan\n"
        )
        server = {"command": "state-hub-mcp", "args": [], "env": {"API_BASE": self.sites[SOURCE].api, "LOG": "warning"}}
        config = {"mcpServers": {"state-hub": server, "other": {"command": "other-mcp", "env": {}}}}
        (self.directory / "mcp" / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def _write_keys(self) -> None:
        command = [str(find_ssh_keygen()), "-q", "-t", "ed25519", "-N", "", "-C", APPROVER, "-f", str(self.key_file)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        kind, key, _ = self.key_file.with_suffix(".pub").read_text().split()
        namespaces = ",".join(f"statehub-plan-{what}@v1" for what in ("approval", "backup", "drill"))
        line = f'{APPROVER} namespaces="{namespaces}" {kind} {key}\n'
        (self.directory / "keys" / "allowed_signers").write_text(line)

    def _write_evidence(self) -> None:
        evidence = self.directory / "evidence"
        (evidence / "image.json").write_text(json.dumps({"image": "state-hub", "digest": _IMAGE_DIGEST}) + "\n")
        (evidence / "state-hub.yaml").write_text(f"kind: Deployment\nimage: registry.local/state-hub@{_IMAGE_DIGEST}\n")
        counts = {name: row_counts(site) for name, site in self.sites.items()}
        tables = sorted(counts[SOURCE].keys() | counts[TARGET].keys())
        different = [table for table in tables if counts[SOURCE].get(table) != counts[TARGET].get(table)]
        document = {"different": len(different), "rows": counts[SOURCE]}
        (evidence / "counts.json").write_text(json.dumps(document, indent=2) + "\n")

    def _write_plans(self) -> None:
        values = {
            "approver": APPROVER,
            "bridge_url": self.bridge_url,
            "image_digest": _IMAGE_DIGEST,
            "revision": seed.REVISION,
            "stabilization": self._stabilization,
            "work_plans": str(seed.Shares.of(self._rows).work_plans),
            "reload": json.dumps(self._reload_command()),
            **self._transfer,
        }
        for name, site in self.sites.items():
            free = f"df --output=avail -B1 {shlex.quote(str(site.cluster.data_dir.parent))} | tail -n 1"
            values[f"{name}_disk_free"] = json.dumps(["sh", "-c", free])
            values |= {f"{name}_api": site.api, f"{name}_address": site.address, f"{name}_major": str(site.major)}
        values["endpoints"] = _filled("endpoints.yaml", values).rstrip()
        for name in _LANES:
            (self.plan_file.parent / name).write_text(_filled(name, values))
        shutil.copytree(_policies(), self.directory / "policies")

    def _reload_command(self) -> list[str]:
        return [sys.executable, "-I", "-S", reload.__file__, str(self._tunnels_status)]

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"


def _filled(name: str, values: Mapping[str, str]) -> str:
    template = resources.files(__package__).joinpath("plans", name).read_text(encoding="utf-8")
    return string.Template(template).substitute(values)


def row_counts(site: Site) -> dict[str, int]:
    """The exact number of rows of each of the hub's tables."""
    with psycopg.connect(site.dsn(READER), autocommit=True) as conn:
        return {f"{schema}.{table}": _count(conn, schema, table) for schema, table in hub_tables(conn)}


def hub_tables(conn: psycopg.Connection) -> Iterable[tuple[str, str]]:
    """Schema and name of each of the hub's tables, sorted."""
    return conn.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'audit') ORDER BY 1, 2"
    ).fetchall()


def _count(conn: psycopg.Connection, schema: str, table: str) -> int:
    row = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))).fetchone()
    assert row is not None  # an aggregate without GROUP BY
    return int(row[0])


def _policies() -> Path:
    folder = Path(__file__).resolve().parents[2] / "policies"
    if not folder.is_dir():
        raise StatehubError(
            code="policies-missing",
            what=f"{folder} holds no policies",
            hint="run the demo from a checkout of statehub-plan",
        )
    return folder
