"""What all front doors share: how a command becomes a program, and how errors become one line and an exit code.

Exit codes: 0 done, 1 a run that failed, 2 bad input, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from mcl_ray import __version__
from mcl_ray.errors import MclError, UserError

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
OVERRIDES_HELP = "Fields to replace, as field=value: alpha=0.3, cohort.size=4, networks=[resnet32,wrn_16_2]."


def new_app(name: str, help_text: str) -> App:
    """A program that leaves errors to `main`."""
    return App(
        name=name,
        help=help_text,
        version=__version__,
        default_parameter=Parameter(negative=()),
        result_action="return_value",
    )


def main(app: App) -> None:
    """Run a program with the arguments of this process, and exit."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with exit_codes():
        app(exit_on_error=False, print_error=False)


def door(command: Callable[..., None]) -> None:
    """Run one command as a program of its own: `python -m mcl_ray.train`."""
    app = new_app(f"python -m mcl_ray.{command.__name__}", "")
    app.default(command)
    main(app)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn every error that a user can meet into one line on stderr and an exit code."""
    try:
        yield
    except CycloptsError as error:
        _leave(f"{error}".strip(), EXIT_BAD_INPUT)
    except UserError as error:
        _leave(str(error), EXIT_BAD_INPUT)
    except MclError as error:
        _leave(str(error), EXIT_FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def at_least_one(_: object, value: int) -> None:
    """What a count on the command line must be."""
    if value < 1:
        raise ValueError(f"must be 1 or more, but got {value}")


def stdout() -> Console:
    """Where results are printed; as wide as they need where nobody watches."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def _leave(message: str, code: int) -> None:
    Console(stderr=True, soft_wrap=True).print(f"error: {message}", style="red", markup=False, highlight=False)
    sys.exit(code)
