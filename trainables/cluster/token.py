"""The token by which a Ray cluster authenticates its users; Ray defines where it is stored."""

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
    """Create a token for this user's local Rays, if they require one and there is none.

    Ray would create one too. But two that start at the same time for the first time would each create one, and the
    first would then reject its own processes; and every user of the machine can read Ray's file.

    Raises:
        UserError: it cannot be written.
    """
    loader = AuthenticationTokenLoader.instance()
    if get_authentication_mode() != AuthenticationMode.TOKEN or loader.has_token(ignore_auth_mode=True):
        return
    file = Path("~/.ray/auth_token").expanduser()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=file.parent) as temporary:  # readable by its owner alone
            temporary.write(secrets.token_hex(32).encode())
            temporary.flush()
            with suppress(OSError):  # another process was first; or Ray creates it
                os.link(temporary.name, file)
    except OSError as error:
        raise UserError(
            f"the token of a local Ray must be writable, but {file} is not: {error.strerror or error}; "
            "RAY_AUTH_TOKEN_PATH may name a file with a token"
        ) from error
    loader.reset_cache()


def credentials() -> list[tuple[str, str]]:
    """Return the gRPC metadata by which Ray itself would authenticate.

    Raises:
        UserError: there is no token, or not where a variable says that it is.
    """
    loader = AuthenticationTokenLoader.instance()
    try:
        headers = loader.get_token_for_http_header() if loader.has_token() else {}
    except AuthenticationError as error:
        raise UserError(f"a Ray cluster asks for its token, but this process has none: {PLACES}") from error
    return [(name.lower(), value) for name, value in headers.items()]
