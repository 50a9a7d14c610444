"""Third-party packages that are installed with an extra only, and the message where one is missing."""

from __future__ import annotations

EXTRAS = {
    **dict.fromkeys(("PIL", "safetensors", "sklearn", "tensorboardX", "torch", "torchvision"), "train"),
    **dict.fromkeys(("optuna", "pandas", "ray", "scipy", "sqlalchemy"), "ray"),
    **dict.fromkeys(("a2wsgi", "alembic", "anyio", "fastapi", "obstore", "optuna_dashboard"), "service"),
    **dict.fromkeys(
        ("prometheus_client", "psycopg", "pydantic_settings", "starlette", "structlog", "uvicorn"), "service"
    ),
    **dict.fromkeys(("IPython", "ipykernel", "tqdm"), "notebook"),
}
"""Top-level module → the extra of this project that installs it."""


def missing_extra(error: ModuleNotFoundError, user: str) -> str | None:
    """Return the message that `user`, a command or a feature, requires an extra; None if the module is of no extra."""
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    return extra and f"`{user}` requires the extra `{extra}`: pip install 'mcl-ray[{extra}]'"
