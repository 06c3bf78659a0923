"""The node's page: only users, only their own requests, everything audited, nothing from outside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodes import config_for, peer, quick_workers, running, send, states, wait_for
from starlette.testclient import TestClient
from synthetic import axial, write_stack

from contour_ai.errors import ConfigError
from contour_ai.node.config import Rule, Web
from contour_ai.node.passwords import fits, hashed
from contour_ai.node.service import Node
from contour_ai.node.web import security
from contour_ai.node.web.app import Page, PageServer

TOKEN = re.compile(r'name="token" value="([^"]+)"')


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return write_stack(tmp_path / "ct", axial(6, patient_id="phantom-headneck-01"))


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: list[Path]) -> Iterator[Node]:
    """A node with one contoured patient whose name tries to be markup."""
    quick_workers(monkeypatch)
    with peer() as tps, running(config_for(tmp_path, tps, hold=True)) as one:
        send(one, slices, edit=lambda d: setattr(d, "PatientName", "<script>alert(1)</script>"))
        wait_for(lambda: states(one) == ["held"])
        one.database.execute(
            "UPDATE jobs SET summary = ?",
            json.dumps(
                {
                    "rois": {
                        "Brainstem": {
                            "name_in_file": "Brainstem",
                            "volume_cm3": 24.0,
                            "verdict": "look",
                            "findings": [{"code": "x", "reason": "ends early"}],
                        }
                    }
                }
            ),
        )
        yield one


def client(node: Node) -> TestClient:
    return TestClient(Page(node).application(), follow_redirects=True)


def post(browser: TestClient, page: str, action: str, **form: str) -> str:
    found = TOKEN.search(browser.get(page).text)
    assert found is not None
    answer = browser.post(action, data={"token": found[1], **form})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_worklist_and_the_pages_show_what_there_is_and_escape_it(node: Node) -> None:
    browser = client(node)
    page = browser.get("/")
    assert page.status_code == 200 and "phantom-headneck-01" in page.text and "held" in page.text
    assert "<script>alert" not in page.text and "&lt;script&gt;alert" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    job = browser.get("/jobs/1").text
    assert "Brainstem" in job and "ends early" in job and "not usable" in job
    assert "phantom-headneck-01" in browser.get("/series/1").text
    assert browser.get("/jobs/99").status_code == browser.get("/series/99").status_code == 404
    assert browser.get("/jobs/1/montage.png").status_code == 404
    outside = re.findall(r'(?:src|href)="(https?:|//)', page.text + job)
    assert outside == []
    log = node.audit.path.read_text(encoding="utf-8")
    assert '"saw job"' in log and '"saw worklist"' in log


def test_confirming_rating_and_sending_again(node: Node) -> None:
    browser = client(node)
    assert "Brainstem: minor" in post(
        browser, "/jobs/1", "/jobs/1/rate", roi="Brainstem", rating="minor", reason="end"
    )
    assert node.database.rows("SELECT rating, reason FROM ratings")[0]["reason"] == "end"
    assert "choose none" in post(browser, "/jobs/1", "/jobs/1/rate", roi="Brainstem", rating="great")
    assert "confirmed" in post(browser, "/jobs/1", "/jobs/1/confirm")
    wait_for(lambda: states(node) == ["sent"])
    assert "not done" in post(browser, "/jobs/1", "/jobs/1/confirm")
    assert "sent again to TPS" in post(browser, "/jobs/1", "/jobs/1/resend")
    wait_for(lambda: states(node) == ["sent"])
    assert "job 2 was made" in post(browser, "/jobs/1", "/jobs/1/again", model="phantom-pelvis")
    wait_for(lambda: states(node)[0] == "superseded")
    assert "phantom-pelvis" in node.database.rows("SELECT settings FROM jobs WHERE id = 2")[0]["settings"]


def test_requests_without_the_sessions_token_are_refused(node: Node) -> None:
    browser = client(node)
    browser.get("/")
    assert browser.post("/jobs/1/confirm").status_code == 403
    assert browser.post("/jobs/1/confirm", data={"token": "x" * 32}).status_code == 403
    assert TestClient(Page(node).application(), base_url="http://evil.example").get("/").status_code == 400
    assert states(node) == ["held"]


def test_users_log_in_and_others_see_nothing(node: Node) -> None:
    node.config = node.config.__class__(
        **{**node.config.__dict__, "web": Web(port=0, users={"anna": hashed("right")})}
    )
    browser = client(node)
    assert "Log in" in browser.get("/").text
    assert browser.get("/jobs/1").url.path == "/login"
    assert TestClient(Page(node).application()).post("/jobs/1/confirm").status_code == 401
    token = TOKEN.search(browser.get("/login").text)
    assert token is not None
    wrong = browser.post("/login", data={"token": token[1], "user": "anna", "password": "wrong"})
    assert wrong.status_code == 401 and "do not fit" in wrong.text
    token = TOKEN.search(browser.get("/login").text)
    assert token is not None
    right = browser.post("/login", data={"token": token[1], "user": "anna", "password": "right"})
    assert right.status_code == 200 and "phantom-headneck-01" in right.text
    assert "Log in" in post(browser, "/", "/logout")
    log = node.audit.path.read_text(encoding="utf-8")
    assert '"wrong password"' in log and '"logged in"' in log
    assert browser.get("/health").json()["status"] in ("ok", "degraded")


def test_too_many_wrong_passwords_lock_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = security.Logins(Web(users={"anna": hashed("right")}))
    assert not any(logins.check("anna", "wrong") for _ in range(security.FAILURES))
    assert not logins.check("anna", "right")
    monkeypatch.setattr(security, "LOCKED_S", 0.0)
    assert logins.check("anna", "right") and not logins.check("nobody", "right")


def test_passwords_are_hashed_with_salt() -> None:
    one, two = hashed("secret"), hashed("secret")
    assert one != two and fits("secret", one) and not fits("Secret", one)
    assert not fits("secret", "plain") and not fits("secret", "scrypt$!$!")


def test_a_page_for_other_machines_needs_users() -> None:
    with pytest.raises(ConfigError, match="needs users"):
        config_for(Path(), web=Web(host="0.0.0.0"))


def test_a_series_without_a_rule_can_be_contoured_by_hand_or_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: list[Path]
) -> None:
    from contour_ai.node.config import When

    quick_workers(monkeypatch)
    rules = (Rule(when=When(series_description="no such series"), model="phantom-headneck"),)
    with running(config_for(tmp_path, rules=rules)) as one:
        send(one, slices)
        wait_for(lambda: states(one, "series") == ["unmatched"])
        browser = client(one)
        assert "no rule fits" in browser.get("/series/1").text
        assert "a job was made" in post(browser, "/series/1", "/series/1/contour", model="phantom-headneck")
        wait_for(lambda: states(one) == ["done"])
        assert "set aside" in post(browser, "/series/1", "/series/1/set-aside")
        assert states(one, "series") == ["set aside"]


def test_the_page_is_served_and_ends(tmp_path: Path) -> None:
    import urllib.request

    with running(config_for(tmp_path, rules=(), web=Web(port=8104))) as one:
        one.config = one.config.__class__(**{**one.config.__dict__, "web": Web(port=0)})
        server = PageServer(one)
        try:
            with urllib.request.urlopen(f"{server.address}/health") as answer:
                assert json.load(answer)["status"] in ("ok", "degraded")
        finally:
            server.stop()
