"""The application: worklist, series, jobs, their pictures and reports, and what can be done with them."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from contour_ai import __version__
from contour_ai.errors import ConfigError
from contour_ai.node.database import Row
from contour_ai.node.service import Node
from contour_ai.node.web import security
from contour_ai.node.web.actions import ACTIONS, RefusedError
from contour_ai.node.web.job_lists import GROUPS, Line, is_phantom, roi_lines, today, when, worklist

HERE = Path(__file__).parent
RATINGS = ("none", "minor", "major", "not usable")
"""What a physician had to change."""


class Page:
    """The routes, bound to a node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.templates = Jinja2Templates(HERE / "templates")
        self.logins = security.Logins(node.config.web)
        self._seen: dict[str, set[str]] = {}

    def application(self) -> Starlette:
        """The ASGI application."""
        web = self.node.config.web
        hosts = ["*"] if web.host in ("0.0.0.0", "::") else [web.host, "127.0.0.1", "localhost", "testserver"]
        return Starlette(
            routes=[
                Route("/", self._worklist),
                Route("/health", self._health),
                Route("/login", self._login_form),
                Route("/login", self._login, methods=["POST"]),
                Route("/logout", self._logout, methods=["POST"]),
                Route("/reload", self._reload, methods=["POST"]),
                Route("/series/{number:int}", self._series),
                Route("/series/{number:int}/{action}", self._series_action, methods=["POST"]),
                Route("/jobs/{number:int}", self._job),
                Route("/jobs/{number:int}/montage.png", self._montage),
                Route("/jobs/{number:int}/report.html", self._report),
                Route("/jobs/{number:int}/log", self._log),
                Route("/jobs/{number:int}/{action}", self._job_action, methods=["POST"]),
                Mount("/static", StaticFiles(directory=HERE / "static")),
            ],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
                Middleware(
                    SessionMiddleware,
                    secret_key=security.session_secret(self.node.storage),
                    session_cookie="contour_ai_node",
                    max_age=security.SESSION_S,
                    same_site="strict",
                ),
                Middleware(security.Guard, web=web),
            ],
        )

    # -- pages ----------------------------------------------------------------------------------------------

    def _show(self, request: Request, template: str, **values: object) -> Response:
        common = {
            "user": security.user_of(request, self.node.config.web),
            "token": security.token_of(request),
            "ae_title": self.node.config.ae_title,
            "version": __version__,
            "when": when,
            "told": request.query_params.get("told", "")[:300],
        }
        return self.templates.TemplateResponse(request, template, {**common, **values})

    def _user(self, request: Request) -> str:
        return security.user_of(request, self.node.config.web)

    def _worklist(self, request: Request) -> Response:
        group = request.query_params.get("show", "all")
        search = request.query_params.get("search", "")[:100]
        lines = worklist(self.node.database, group, search)
        self._audit_worklist(request, group, lines)
        return self._show(
            request,
            "worklist.html",
            lines=lines,
            groups=list(GROUPS),
            group=group,
            search=search,
            today=today(self.node.database),
            health=self.node.health(),
        )

    def _audit_worklist(self, request: Request, group: str, lines: list[Line]) -> None:
        """Whose lines a user saw. The list is read anew every few seconds: then only those that are new to the user."""
        user = self._user(request)
        patients = {line.patient_id for line in lines}
        again = request.headers.get("X-Refresh") == "1"
        fresh = patients - self._seen.get(user, set()) if again else patients
        if fresh or not again:
            self.node.audit.write(user, "saw worklist", show=group, patients=sorted(fresh))
        self._seen[user] = patients

    def _health(self, request: Request) -> Response:
        health = self.node.health()
        return JSONResponse(health, status_code=200 if health["status"] == "ok" else 503)

    def _series(self, request: Request) -> Response:
        row = self._series_row(request)
        if row is None:
            return PlainTextResponse("no such series", status_code=404)
        self.node.audit.write(
            self._user(request), "saw series", series=row["series_uid"], patient=row["patient_id"]
        )
        jobs = self.node.database.rows(
            "SELECT * FROM jobs WHERE series_uid = ? ORDER BY id DESC", row["series_uid"]
        )
        return self._show(
            request,
            "series.html",
            series=row,
            facts={k: v for k, v in json.loads(row["facts"]).items() if v},
            slices=len(self.node.store.paths(row["series_uid"])),
            jobs=jobs,
            aside=self.node.database.rows(
                "SELECT aside.* FROM aside JOIN instances USING (sop_uid) WHERE series_uid = ?",
                row["series_uid"],
            ),
            models=_models(),
        )

    def _job(self, request: Request) -> Response:
        job = self._job_row(request)
        if job is None:
            return PlainTextResponse("no such job", status_code=404)
        series = self.node.database.row(
            "SELECT rowid AS number, * FROM series WHERE series_uid = ?", job["series_uid"]
        )
        assert series is not None
        self.node.audit.write(self._user(request), "saw job", job=job["id"], patient=series["patient_id"])
        folder = self.node.book.results / job["folder"] if job["folder"] else None
        database = self.node.database
        return self._show(
            request,
            "job.html",
            job=job,
            series=series,
            settings=json.loads(job["settings"]),
            rois=roi_lines(job, database),
            phantom=is_phantom(job),
            ratings=RATINGS,
            deliveries=database.rows(
                "SELECT * FROM deliveries WHERE job = ? ORDER BY destination", job["id"]
            ),
            returned=database.rows("SELECT * FROM returned WHERE job = ? ORDER BY received_at", job["id"]),
            has_montage=folder is not None and (folder / "montage.png").is_file(),
            has_report=folder is not None and (folder / "report.html").is_file(),
            has_log=self._log_path(job["id"]).is_file(),
            models=_models(),
        )

    # -- files ----------------------------------------------------------------------------------------------

    def _montage(self, request: Request) -> Response:
        return self._file(request, "montage.png", "image/png")

    def _report(self, request: Request) -> Response:
        response = self._file(request, "report.html", "text/html")
        response.headers["Content-Security-Policy"] = security.REPORT_POLICY
        return response

    def _file(self, request: Request, name: str, media_type: str) -> Response:
        job = self._job_row(request)
        path = None if job is None or not job["folder"] else self.node.book.results / job["folder"] / name
        if job is None or path is None or not path.is_file():
            return PlainTextResponse("no such file", status_code=404)
        self._audit_file(request, job["id"], name)
        return FileResponse(path, media_type=media_type)

    def _audit_file(self, request: Request, job: int, name: str) -> None:
        row = self.node.database.row(
            "SELECT patient_id FROM jobs JOIN series USING (series_uid) WHERE id = ?", job
        )
        patient = "" if row is None else row["patient_id"]
        self.node.audit.write(self._user(request), f"saw {name}", job=job, patient=patient)

    def _log_path(self, job: int) -> Path:
        return self.node.book.results / f"job-{job:06d}.log"

    def _log(self, request: Request) -> Response:
        path = self._log_path(request.path_params["number"])
        if not path.is_file():
            return PlainTextResponse("no log", status_code=404)
        self._audit_file(request, request.path_params["number"], "log")
        return PlainTextResponse(path.read_text(encoding="utf-8", errors="replace"))

    # -- actions --------------------------------------------------------------------------------------------

    async def _series_action(self, request: Request) -> Response:
        return await self._act(request, "series", self._series_row(request))

    async def _job_action(self, request: Request) -> Response:
        return await self._act(request, "jobs", self._job_row(request))

    async def _act(self, request: Request, kind: str, row: Row | None) -> Response:
        action = ACTIONS.get((kind, request.path_params["action"]))
        if action is None or row is None:
            return PlainTextResponse("no such action", status_code=404)
        form = {key: str(value) for key, value in (await request.form()).items()}
        user = self._user(request)
        try:
            told = await asyncio.to_thread(action, self.node, row, form, user)
        except RefusedError as refused:
            told = f"not done: {refused}"
        number = request.path_params["number"]
        return _back(f"/{kind}/{number}", told)

    async def _reload(self, request: Request) -> Response:
        told = await asyncio.to_thread(self.node.reload)
        self.node.audit.write(self._user(request), "asked for the configuration to be read")
        return _back("/", f"configuration {told}")

    # -- users ----------------------------------------------------------------------------------------------

    def _login_form(self, request: Request) -> Response:
        return self._show(request, "login.html", failed=False)

    async def _login(self, request: Request) -> Response:
        form = await request.form()
        name = str(form.get("user", ""))[:100]
        good = await asyncio.to_thread(self.logins.check, name, str(form.get("password", ""))[:1000])
        host = request.client.host if request.client else "?"
        self.node.audit.write(name or "?", "logged in" if good else "wrong password", host=host)
        if not good:
            response = self._show(request, "login.html", failed=True)
            response.status_code = 401
            return response
        request.session.clear()
        request.session["user"] = name
        security.token_of(request)
        return RedirectResponse("/", status_code=303)

    def _logout(self, request: Request) -> Response:
        self.node.audit.write(self._user(request), "logged out")
        request.session.clear()
        return RedirectResponse("/login", status_code=303)

    # -- rows -----------------------------------------------------------------------------------------------

    def _series_row(self, request: Request) -> Row | None:
        return self.node.database.row(
            "SELECT rowid AS number, * FROM series WHERE rowid = ?", request.path_params["number"]
        )

    def _job_row(self, request: Request) -> Row | None:
        return self.node.database.row("SELECT * FROM jobs WHERE id = ?", request.path_params["number"])


class PageServer:
    """Serves the page from a thread.

    Raises:
        ConfigError: the port cannot be opened.
    """

    def __init__(self, node: Node) -> None:
        web = node.config.web
        settings = uvicorn.Config(
            Page(node).application(),
            host=web.host,
            port=web.port,
            log_level="warning",
            access_log=False,
            lifespan="off",
        )
        self._server = uvicorn.Server(settings)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()
        self._wait(web.host, web.port)
        self.port = int(self._server.servers[0].sockets[0].getsockname()[1])
        self.address = f"http://{web.host}:{self.port}"

    def _run(self) -> None:
        try:
            self._server.run()
        except (SystemExit, OSError) as error:
            self._failed.append(error)

    def _wait(self, host: str, port: int) -> None:
        while not self._server.started:
            self._thread.join(0.02)
            if not self._thread.is_alive():
                raise ConfigError(
                    "The page cannot be served on this address.",
                    where=f"{host}:{port}",
                    found=str(self._failed[0]) if self._failed else None,
                    fix="end the program that uses the port, or choose another `web.port`",
                )

    def stop(self) -> None:
        """Ends the page."""
        self._server.should_exit = True
        self._thread.join(timeout=10)


def _models() -> list[str]:
    from contour_ai.bundle import list_bundles

    return [bundle.name for bundle in list_bundles()]


def _back(path: str, told: str) -> Response:
    from urllib.parse import urlencode

    return RedirectResponse(f"{path}?{urlencode({'told': told})}", status_code=303)
