"""Who may see the page: users with passwords, sessions, tokens against forged requests, headers."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from pathlib import Path

from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from contour_ai.node.config import Web
from contour_ai.node.passwords import fits, hashed

LOCAL_USER = "local"
"""Who works where no users are configured: the page is on this machine's own address then."""

SESSION_S = 12 * 3600
OPEN_PATHS = ("/health", "/login", "/static/")
FAILURES, LOCKED_S = 5, 60.0
"""After so many wrong passwords in a row a user waits."""

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; frame-src 'self';"
    " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:;"
    " frame-ancestors 'self'; sandbox allow-scripts"
)
"""A patient's report is one file with its own scripts; it is shut off from the page that shows it."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def session_secret(storage: Path) -> str:
    """The key that signs sessions, kept in the storage so that a new start logs nobody out."""
    path = storage / "session.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), encoding="ascii")
    return path.read_text(encoding="ascii").strip()


class Logins:
    """Checks passwords; a user with too many wrong ones waits."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self._failures: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._nobody = hashed(secrets.token_hex(8))

    def check(self, user: str, password: str) -> bool:
        """Whether user and password fit. An unknown user takes as long as a known one."""
        with self._lock:
            count, since = self._failures.get(user, (0, 0.0))
            if count >= FAILURES and time.monotonic() - since < LOCKED_S:
                return False
        good = fits(password, self.web.users.get(user, self._nobody)) and user in self.web.users
        with self._lock:
            if good:
                self._failures.pop(user, None)
            else:
                self._failures[user] = (count + 1, time.monotonic())
                if len(self._failures) > 10_000:
                    self._failures.clear()
        return good


class Guard(BaseHTTPMiddleware):
    """Lets only users in, and only their own requests; sets the headers of every answer."""

    def __init__(self, app: ASGIApp, web: Web) -> None:
        super().__init__(app)
        self.web = web

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answers with the login page, a refusal, or what the application says."""
        response = self._refusal(request) or await self._token_refusal(request) or await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    def _refusal(self, request: Request) -> Response | None:
        if request.url.path.startswith(OPEN_PATHS) or user_of(request, self.web):
            return None
        if request.method == "GET":
            return RedirectResponse("/login", status_code=303)
        return PlainTextResponse("log in first", status_code=401)

    async def _token_refusal(self, request: Request) -> Response | None:
        if request.method in ("GET", "HEAD"):
            return None
        await request.body()  # kept, so that the application can read the form, too
        form = await request.form()
        given = str(form.get("token", ""))
        expected = str(request.session.get("token", ""))
        if expected and hmac.compare_digest(given, expected):
            return None
        return PlainTextResponse("this request did not come from the page; load it again", status_code=403)


def user_of(request: Request, web: Web) -> str:
    """The user's name; empty for nobody. A user who was taken out of the configuration is nobody."""
    if not web.users:
        return LOCAL_USER
    name = str(request.session.get("user", ""))
    return name if name in web.users else ""


def token_of(request: Request) -> str:
    """The session's token for forms, made where there is none."""
    if "token" not in request.session:
        request.session["token"] = secrets.token_urlsafe(24)
    return str(request.session["token"])
