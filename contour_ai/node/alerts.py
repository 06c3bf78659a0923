"""Tells somebody: a command, or mail, for failures, a full disk and drift. No alert names a patient."""

from __future__ import annotations

import logging
import smtplib
import subprocess
from email.message import EmailMessage

from contour_ai.node.config import Alerts
from contour_ai.node.database import Database, now

logger = logging.getLogger(__name__)

COMMAND_LIMIT_S = 60
MAIL_LIMIT_S = 30


def alert(settings: Alerts, database: Database, subject: str, text: str) -> bool:
    """Gives an alert, unless the same subject was alerted within `repeat_h`; True where it was given."""
    if settings.command is None and settings.mail is None:
        return False
    with database.transaction() as connection:
        row = connection.execute("SELECT at FROM alerts WHERE subject = ?", (subject,)).fetchone()
        if row is not None and abs(now() - row["at"]) < settings.repeat_h * 3600:
            return False
        connection.execute("INSERT OR REPLACE INTO alerts (subject, at) VALUES (?, ?)", (subject, now()))
    if settings.command is not None:
        _run(settings.command, subject, text)
    if settings.mail is not None:
        _mail(settings, subject, text)
    return True


def _run(command: tuple[str, ...], subject: str, text: str) -> None:
    try:
        subprocess.run(
            list(command), input=f"{subject}\n\n{text}\n".encode(), timeout=COMMAND_LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.error("the alert command failed: %s", error)


def _mail(settings: Alerts, subject: str, text: str) -> None:
    assert settings.mail is not None
    message = EmailMessage()
    message["Subject"] = f"contour-ai: {subject}"
    message["From"], message["To"] = settings.mail.sender, ", ".join(settings.mail.to)
    message.set_content(text)
    try:
        with smtplib.SMTP(settings.mail.host, settings.mail.port, timeout=MAIL_LIMIT_S) as server:
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        logger.error("the alert could not be mailed: %s", error)
