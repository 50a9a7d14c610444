"""API keys: made once, stored as a hash, and compared in constant time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from api.database import Database, api_key
from mcl_ray.jobs.messages import Scope

FORMAT = re.compile(r"mcl_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")
TRUSTED_S = 1.0
"""Time for which a valid key is not looked up again, in seconds."""
MOST_KNOWN = 1024
"""Valid keys that a process remembers."""
_VALID_KEY = sa.select(api_key).where(api_key.c.prefix == sa.bindparam("prefix"), api_key.c.revoked.is_(None))


class Principal(NamedTuple):
    """Sender of a request."""

    owner: str
    scopes: frozenset[Scope]

    @property
    def sees(self) -> str | None:
        """Owner whose jobs it sees; None for those of all."""
        return None if "admin" in self.scopes else self.owner

    def may(self, scope: str) -> bool:
        """Return whether a scope is granted; admin includes the others."""
        return bool({scope, "admin"} & self.scopes)


def create(database: Database, owner: str, scopes: Iterable[Scope], expires: float | None = None) -> str:
    """Add a key, and return it; it cannot be read again."""
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = f"mcl_{prefix}_{secret}"
    values = {"prefix": prefix, "sha256": _hash(key), "owner": owner, "scopes": " ".join(scopes), "expires": expires}
    with database.write_engine.begin() as connection:
        connection.execute(sa.insert(api_key).values(values))
    return key


def revoke(database: Database, prefix: str) -> bool:
    """Revoke a key; return whether there is such a key."""
    with database.write_engine.begin() as connection:
        same = sa.update(api_key).where(api_key.c.prefix == prefix).values(revoked=time.time())
        return connection.execute(same).rowcount == 1


def any_exist(database: Database) -> bool:
    """Return whether there is a key."""
    return bool(database.read(sa.select(api_key.c.prefix).limit(1)))


class KeyVerifier:
    """Verifies keys, and looks one that is in use up again after `TRUSTED_S`, so that a revocation takes effect then.

    Only valid keys are remembered, by their hash: wrong ones neither fill the memory nor are trusted.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[Principal, float]] = {}

    async def verify(self, key: str) -> Principal | None:
        """Return whose key it is; None if it is unknown, wrong, expired or revoked."""
        name, now = _hash(key), time.time()
        principal, until = self._known.get(name, (None, 0.0))
        if now < until <= now + TRUSTED_S:  # a clock that is set back ends it, too
            return principal
        self._known.pop(name, None)
        match = FORMAT.fullmatch(key)
        rows = await asyncio.to_thread(self._database.read, _VALID_KEY, {"prefix": match[1]}) if match else []
        if not rows or not hmac.compare_digest(name, rows[0].sha256):
            return None
        until = min(now + TRUSTED_S, rows[0].expires or math.inf)
        if until <= now:
            return None
        granted = set(rows[0].scopes.split())
        principal = Principal(rows[0].owner, frozenset(scope for scope in SCOPES if scope in granted))
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[name] = principal, until
        return principal


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
