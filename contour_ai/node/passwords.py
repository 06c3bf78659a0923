"""Passwords of the page's users: kept as salted scrypt hashes, compared in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

N, R, P = 2**14, 8, 1
"""Cost of scrypt: about 50 ms and 16 MB for a try."""


def hashed(password: str, salt: bytes | None = None) -> str:
    """What `web.users` holds: scrypt$salt$hash in base64."""
    salt = secrets.token_bytes(16) if salt is None else salt
    digest = hashlib.scrypt(password.encode(), salt=salt, n=N, r=R, p=P)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def fits(password: str, stored: str) -> bool:
    """Whether a password is the one of a stored hash; False for a hash that cannot be read."""
    try:
        scheme, salt, _ = stored.split("$")
        again = hashed(password, base64.b64decode(salt, validate=True))
    except ValueError:
        return False
    return scheme == "scrypt" and hmac.compare_digest(again, stored)
