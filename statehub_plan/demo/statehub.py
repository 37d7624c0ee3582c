"""A small but real State Hub: work plans, tasks, decisions and progress events over HTTP, kept in PostgreSQL.

Run as `python -m statehub_plan.demo.statehub --name wsl2 --port 8000`; the DSN comes from STATEHUB_DSN, never from the
command line, where every user of the machine could read it. Listens on loopback only.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, NoReturn

import psycopg
import uvicorn
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from statehub_plan.demo.hub import RESOURCES, TASKS, Hub, Resource, TaskChange
from statehub_plan.demo.pool import Problem, Refused, problem_of
from statehub_plan.demo.process import end_with_owner

DSN_VARIABLE = "STATEHUB_DSN"
SERVED_BY = "State-Hub-Endpoint"

RowId = Annotated[int, Path(ge=1, lt=2**63)]
Limit = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=1, lt=2**63)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200)]


def create_app(dsn: str, name: str) -> FastAPI:
    """The State Hub of one endpoint; `name` is told in every answer's State-Hub-Endpoint header."""
    hub = Hub(dsn)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        hub.close()

    app = FastAPI(title="State Hub", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def say_who(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call(request)
        response.headers[SERVED_BY] = name
        return response

    @app.exception_handler(psycopg.Error)
    def database_error(_: Request, error: psycopg.Error) -> JSONResponse:
        return _answer(problem_of(error))

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> JSONResponse:
        return _answer(error.problem)

    @app.get("/state/health")
    def health() -> dict[str, Any]:
        return {**hub.health(), "endpoint": name}

    @app.patch("/tasks/{row_id}")
    def change_task(row_id: RowId, change: TaskChange) -> dict[str, Any]:
        return hub.change_task(row_id, change) or _missing(TASKS, row_id)

    for resource in RESOURCES:
        _add_routes(app, hub, resource)
    return app


def _add_routes(app: FastAPI, hub: Hub, resource: Resource) -> None:
    def newest(limit: Limit = 50, before: Before = None, work_plan_id: Before = None) -> list[Any]:
        return hub.newest(resource, limit, before, work_plan_id)

    def one(row_id: RowId) -> dict[str, Any]:
        return hub.one(resource, row_id) or _missing(resource, row_id)

    def create(new: Any, response: Response, idempotency_key: IdempotencyKey = None) -> dict[str, Any]:
        row, replayed = hub.create(resource, new, idempotency_key)
        if replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return row

    create.__annotations__["new"] = resource.model  # the one thing in which the four routes differ
    app.get(f"/{resource.path}", name=f"list {resource.path}")(newest)
    app.get(f"/{resource.path}/{{row_id}}", name=f"get {resource.path}")(one)
    app.post(f"/{resource.path}", name=f"create {resource.path}", status_code=201)(create)


def _missing(resource: Resource, row_id: int) -> NoReturn:
    raise Refused(Problem(404, "not-found", f"there is no {row_id} among {resource.path}"))


def _answer(problem: Problem) -> JSONResponse:
    headers = {} if problem.retry_after_s is None else {"Retry-After": str(problem.retry_after_s)}
    return JSONResponse({"error": problem.reason, "detail": problem.detail}, problem.status, headers)


def main() -> int:
    """Serve until SIGTERM or SIGINT, or until the owner ends where --with-owner is given."""
    parser = argparse.ArgumentParser(prog="python -m statehub_plan.demo.statehub", description=create_app.__doc__)
    parser.add_argument("--name", required=True, help="the endpoint's name")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--with-owner", action="store_true", help="end when standard input closes")
    arguments = parser.parse_args()
    dsn = os.environ.pop(DSN_VARIABLE, "")
    if not dsn:
        print(f"{DSN_VARIABLE} is not set; it holds the database's connection string", file=sys.stderr)
        return 64
    if arguments.with_owner:
        end_with_owner()
    app = create_app(dsn, arguments.name)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=60,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
