"""The token by which a Ray tells its users from others. Ray says where it is looked for; a first one is made here."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from ray._raylet import (  # type: ignore[attr-defined]  # compiled
    AuthenticationMode,
    AuthenticationTokenLoader,
    get_authentication_mode,
)
from ray.exceptions import AuthenticationError

from mcl_ray.errors import UserError

PLACES = "it is looked for in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, and in ~/.ray/auth_token"


def ensure_token() -> None:
    """Make a token for this user's local Rays, if they ask for one and there is none.

    Ray would do so, too. But of two that start together for the first time each makes one, and the first then turns its
    own processes away; and everybody on the machine may read Ray's.
    """
    loader = AuthenticationTokenLoader.instance()
    if get_authentication_mode() != AuthenticationMode.TOKEN or loader.has_token(ignore_auth_mode=True):
        return
    file = Path("~/.ray/auth_token").expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=file.parent) as whole:  # for its owner alone
        whole.write(secrets.token_hex(32).encode())
        whole.flush()
        with suppress(OSError):  # somebody was first; or it is left to Ray
            os.link(whole.name, file)
    loader.reset_cache()


def credentials() -> list[tuple[str, str]]:
    """What Ray itself would show a cluster, as gRPC wants it.

    Raises:
        UserError: there is no token, or not where it is said to be.
    """
    loader = AuthenticationTokenLoader.instance()
    try:
        headers = loader.get_token_for_http_header() if loader.has_token() else {}
    except AuthenticationError as error:
        raise UserError(f"a Ray cluster asks for its token, but this process has none: {PLACES}") from error
    return [(name.lower(), value) for name, value in headers.items()]
