"""One endpoint of the demo: a cluster with the hub's database and roles, and the hub in front of it."""

from __future__ import annotations

import os
import random
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from statehub_plan.components import client_tool
from statehub_plan.demo.cluster import SUPERUSER, Cluster
from statehub_plan.demo.process import Child
from statehub_plan.errors import StatehubError

DATABASE = "statehub"
OWNER = "statehub_owner"
TOOL = "statehub_cutover"
APP = "statehub_app"
READER = "statehub_reader"
SUBSCRIBERS_SINCE = 16
"""Before, PostgreSQL lets superusers only subscribe."""

# Below the range that outgoing connections take their ports from, so that none is taken between choosing and listening.
_PORTS = range(20_000, 32_000)
_PORT_ATTEMPTS = 200


class Site:
    """A place where the State Hub can live. `start` first, then `prepare`; the API may be started any time after."""

    def __init__(self, name: str, cluster: Cluster, api_port: int) -> None:
        self.name = name
        self.cluster = cluster
        self.api_port = api_port
        self._passwords = {role: secrets.token_urlsafe(18) for role in (TOOL, APP, READER)}

    @property
    def major(self) -> int:
        """PostgreSQL's major version here."""
        return self.cluster.installation.major

    @property
    def address(self) -> str:
        """Where the hub listens, as host:port."""
        return f"127.0.0.1:{self.api_port}"

    @property
    def api(self) -> str:
        """The hub's base URL."""
        return f"http://{self.address}"

    def dsn(self, role: str = TOOL) -> str:
        """A connection URI of the hub's database; `role` may also be the superuser."""
        password = None if role == SUPERUSER else self._passwords[role]
        return self.cluster.dsn(DATABASE, role, password)

    @property
    def subscriber_dsn(self) -> str:
        """For a role that may subscribe: the tool's own where PostgreSQL lets others than superusers do it."""
        return self.dsn() if self.major >= SUBSCRIBERS_SINCE else self.dsn(SUPERUSER)

    def prepare(self) -> None:
        """Roles and an empty database. The hub's objects belong to a role that nobody logs in as; the tool is a member
        of it and may see and end other sessions: no superuser."""
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(OWNER)))
            for role, password in self._passwords.items():
                conn.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
                )
            for group in (OWNER, "pg_signal_backend", "pg_monitor"):
                conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(TOOL)))
            conn.execute(sql.SQL("ALTER ROLE {} REPLICATION").format(sql.Identifier(TOOL)))
            database = sql.Identifier(DATABASE)
            conn.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, sql.Identifier(OWNER)))
            conn.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            for role in self._passwords:
                conn.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(role)))
            if self.major >= SUBSCRIBERS_SINCE:
                conn.execute(sql.SQL("GRANT pg_create_subscription TO {}").format(sql.Identifier(TOOL)))
        with psycopg.connect(self.cluster.dsn(DATABASE), autocommit=True) as conn:
            # EXECUTE is looked up in the database at hand: pg_proc belongs to it.
            advance = "GRANT EXECUTE ON FUNCTION pg_replication_origin_advance(text, pg_lsn) TO {}"
            conn.execute(sql.SQL(advance).format(sql.Identifier(TOOL)))

    def connect_as_owner(self) -> psycopg.Connection:
        """A session that creates what the owner role then owns."""
        conn = psycopg.connect(self.dsn(), autocommit=True)
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(OWNER)))
        return conn

    def start_api(self, log_file: Path) -> Child:
        """The hub, as a process of its own; not waited for."""
        arguments = ("--name", self.name, "--port", str(self.api_port))
        env = {"STATEHUB_DSN": self.dsn(APP)}
        return Child(f"State Hub {self.name}", "statehub_plan.demo.statehub", arguments, log_file=log_file, env=env)

    def is_healthy(self) -> bool:
        """Whether the hub answers its health check with 200."""
        return answers(f"{self.api}/state/health")


def answers(url: str) -> bool:
    """Whether a GET is answered with 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def restore(source: Site, target: Site) -> None:
    """Load a dump of the source's database into the target's empty one, ownership and grants included."""
    major = max(source.major, target.major)
    dump = [str(client_tool("pg_dump", major)), "--format=custom", "--compress=0", _without_password(source)]
    load = [str(client_tool("pg_restore", major)), "--exit-on-error", "--single-transaction", "--dbname"]
    with subprocess.Popen(dump, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_env(source)) as dumping:
        loading = subprocess.run(
            [*load, _without_password(target)], stdin=dumping.stdout, env=_env(target), capture_output=True, check=False
        )
        complaint = dumping.stderr.read() if dumping.stderr else b""
    if dumping.returncode or loading.returncode:
        raise StatehubError(
            code="demo-restore-failed",
            what=f"the dump of {source.name} could not be loaded into {target.name}",
            hint="see the last lines above",
            details=tuple((complaint + loading.stderr).decode(errors="replace").splitlines()[-10:]),
        )


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody listens on, all different."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, _PORT_ATTEMPTS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise StatehubError(
        code="no-free-port",
        what=f"fewer than {count} of {_PORT_ATTEMPTS} ports between {_PORTS.start} and {_PORTS.stop} are free",
        hint="end what listens there",
    )


def _without_password(site: Site) -> str:
    # Command lines are public; the password goes by the environment.
    return f"postgresql://{quote(SUPERUSER)}@127.0.0.1:{site.cluster.port}/{DATABASE}"


def _env(site: Site) -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PGPASSWORD": site.cluster.password}
