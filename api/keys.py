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
_VALID_KEYS = sa.select(api_key).where(
    api_key.c.prefix.in_(sa.bindparam("prefixes", expanding=True)), api_key.c.revoked.is_(None)
)


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


class _Known(NamedTuple):
    """A valid key that was looked up."""

    prefix: str
    principal: Principal
    until: float
    """Time until which it is trusted."""

    def is_trusted(self, now: float) -> bool:
        """Return whether it need not be looked up; a clock that is set back ends it, too."""
        return now < self.until <= now + TRUSTED_S


Found = dict[str, Principal]
"""Hash of a valid key → who sends requests with it."""


class KeyVerifier:
    """Verifies keys, and looks those in use up again after `TRUSTED_S`, so that a revocation takes effect then.

    Only valid keys are remembered, by their hash: wrong ones neither fill the memory nor are trusted. One query looks
    up all that are not trusted any more, and requests with the same key wait for the same query.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, _Known] = {}
        self._pending: dict[str, asyncio.Task[Found]] = {}

    async def verify(self, key: str) -> Principal | None:
        """Return whose key it is; None if it is unknown, wrong, expired or revoked."""
        name, now = _hash(key), time.time()
        known = self._known.get(name)
        if known is not None and known.is_trusted(now):
            return known.principal
        if name not in self._pending:
            match = FORMAT.fullmatch(key)
            if match is None:
                return None
            prefixes = self._untrusted(now) if known is not None else {}
            prefixes[name] = match[1]
            self._pending |= dict.fromkeys(prefixes, asyncio.create_task(self._look_up(prefixes, now)))
        found = await asyncio.shield(self._pending[name])
        return found.get(name)

    def _untrusted(self, now: float) -> dict[str, str]:
        known = self._known.items()
        return {name: one.prefix for name, one in known if name not in self._pending and not one.is_trusted(now)}

    async def _look_up(self, prefixes: dict[str, str], now: float) -> Found:
        """Return those of the keys, given by hash and prefix, that are valid, and remember them."""
        try:
            rows = await asyncio.to_thread(self._database.read, _VALID_KEYS, {"prefixes": [*prefixes.values()]})
        finally:
            for name in prefixes:
                del self._pending[name]
        by_prefix = {row.prefix: row for row in rows}
        found: Found = {}
        for name, prefix in prefixes.items():
            self._known.pop(name, None)
            row = by_prefix.get(prefix)
            if row is None or not hmac.compare_digest(name, row.sha256):
                continue
            until = min(now + TRUSTED_S, row.expires or math.inf)
            if until > now:
                granted = set(row.scopes.split())
                found[name] = Principal(row.owner, frozenset(scope for scope in SCOPES if scope in granted))
                self._remember(name, _Known(prefix, found[name], until))
        return found

    def _remember(self, name: str, known: _Known) -> None:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[name] = known


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
