"""Common code of all commands: programs made of functions, and errors as one line and an exit code.

Exit codes: 0 success, 1 failed run or too little memory, 2 bad input; interrupted: 130 by Ctrl-C, 143 by SIGTERM, 129
by SIGHUP, 138 by SIGUSR1.
"""

from __future__ import annotations

import logging
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.help import DefaultFormatter, HelpPanel
from rich.console import Console, ConsoleOptions
from rich.text import Text

from mcl_ray import __version__, interruption
from mcl_ray.config.environment import let_waiting_threads_sleep
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.errors import ClusterLostError, MclError, UserError, is_out_of_memory
from mcl_ray.extras import missing_extra
from mcl_ray.garbage import rarely_collected_process

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2
LEAST_ADDRESS_SPACE = 1 << 29
"""Bytes that can be mapped at the start of a command, far fewer than its libraries take."""
Options = Annotated[ExecutionOptions, Parameter(name="*")]
"""Execution options, with a command-line option for each field."""
OVERRIDES_HELP = "Fields to replace, as field=value: alpha=0.3, cohort.size=4, networks=[resnet32,wrn_16_2]."


class _HelpFormatter(DefaultFormatter):
    """The default format of help, with line breaks inside a description removed."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        for entry in panel.entries:
            text = getattr(entry.description, "primary_renderable", None)
            if isinstance(text, Text):
                text.plain = " ".join(text.plain.split())
        super().__call__(console, options, panel)


def new_app(name: str, help_text: str | None = None) -> App:
    """Return a program that leaves errors to `main`; without `help_text`, its help is that of its only command."""
    return App(
        name=name,
        help=help_text,
        help_format="plaintext",  # the other formats import a parser of theirs
        help_formatter=_HelpFormatter(),
        version=__version__,
        default_parameter=Parameter(negative=()),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )


def main(app: App, output: AbstractContextManager[None] | None = None) -> None:
    """Run a program with the arguments of this process, and exit.

    Args:
        app: the program.
        output: context in which it writes; if it is not given, every process writes for itself.
    """
    let_waiting_threads_sleep()
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with rarely_collected_process(), output or nullcontext(), interruption.raised(), exit_codes(app):
        _check_address_space()
        app(exit_on_error=False, print_error=False)


def _check_address_space() -> None:
    """Check that some memory can be mapped: with less, libraries of C and C++ abort the process while they load.

    Raises:
        MemoryError: `ulimit -v` or the like leaves too little.
    """
    try:
        mmap.mmap(-1, LEAST_ADDRESS_SPACE).close()
    except OSError as error:
        raise MemoryError(f"{LEAST_ADDRESS_SPACE >> 20} MiB cannot be mapped: {error.strerror}") from error


def run_command(command: Callable[..., None], output: AbstractContextManager[None] | None = None) -> None:
    """Run one command as a program of its own: `python -m mcl_ray.train`; `output` as of `main`."""
    main(program(command), output)


def program(command: Callable[..., None]) -> App:
    """Return the program of one command, such as `python -m mcl_ray.train`."""
    app = new_app(f"python -m mcl_ray.{command.__name__}")
    app.default(command)
    return app


@contextmanager
def exit_codes(app: App | None = None) -> Iterator[None]:
    """Print every expected error as one line on stderr, and exit with its code."""
    try:
        yield
    except ClusterLostError as error:
        _print_error(str(error))
        sys.stdout.flush()
        os._exit(EXIT_FAILED)  # threads of a Ray that has died would hold up the interpreter's end
    except CycloptsError as error:
        _exit_with(_broken_rule(error), EXIT_BAD_INPUT)
    except UserError as error:
        _exit_with(str(error), EXIT_BAD_INPUT)
    except MclError as error:
        _exit_with(str(error), EXIT_FAILED)
    except (OSError, ImportError, MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            _exit_for_want_of_memory(error)
        message = _explained(error, app)
        if message is None:
            raise
        _exit_with(message, EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(interruption.exit_code())


def _explained(error: Exception, app: App | None) -> str | None:
    """Return the message for a file that cannot be used or a package that is missing; None for anything else."""
    if isinstance(error, ModuleNotFoundError):
        return missing_extra(error, _command_line(app))
    if not isinstance(error, OSError) or error.filename is None:
        return None
    return f"{error.filename} cannot be used: {error.strerror}"


def _command_line(app: App | None) -> str:
    """Return the words that name the running command, such as `mcl sweep extend`."""
    if app is None:
        return "this command"
    words, _, _ = app.parse_commands(sys.argv[1:])
    return " ".join([*app.name, *words])


def at_least_one(_: object, value: int) -> None:
    """Check that a count on the command line is 1 or more; a validator of cyclopts."""
    if value < 1:
        raise ValueError("It must be 1 or more.")


def stdout() -> Console:
    """Return the console for results; wide enough not to wrap tables if stdout is not a terminal."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=200)


def _broken_rule(error: CycloptsError) -> str:
    """Return the message for words of the command line that break a rule of their command."""
    match error:
        case UnknownOptionError():
            return _unknown_option(error)
        case UnusedCliTokensError():
            return f"this command takes no further words, but got {' '.join(error.unused_tokens or ())}"
        case MissingArgumentError():
            return f"{str(error).rstrip('.')}{_meaning(error)}"
    from pydantic import BaseModel, ValidationError

    from mcl_ray.config.overrides import explained

    if isinstance(error.__cause__, ValidationError):  # of options that are the fields of a model
        return explained(BaseModel, error.__cause__)
    return str(error)


def _meaning(error: MissingArgumentError) -> str:
    """Return the first sentence of the help of the argument that is missing, after a colon."""
    if error.app is None or error.argument is None:
        return ""
    known = error.app.assemble_argument_collection(parse_docstring=True)
    helps = [one.parameter.help or "" for one in known if one.names == error.argument.names]
    return "".join(f": {' '.join(text.split()).partition('. ')[0].rstrip('.')}" for text in helps[:1] if text)


def _unknown_option(error: UnknownOptionError) -> str:
    """Return the message for an unknown option, which is most likely a field written with dashes."""
    known = {name for argument in error.argument_collection for name in argument.names}
    if "OVERRIDES" not in known:
        return str(error)
    name, _, value = (error.token.keyword or error.token.value).partition("=")
    options = ", ".join(sorted(name for name in known if name.startswith("--")))
    field = f"{name.lstrip('-')}={value or 'VALUE'}"
    return f"unknown option {name}; a field is given without dashes, as {field}, and the options are {options}"


def _exit_for_want_of_memory(error: Exception) -> None:
    """Print the error without rich, which would need some memory."""
    line = " ".join(f"error: the command does not fit into memory: {str(error) or type(error).__name__}".split())
    os.write(sys.stderr.fileno(), f"{line}\n".encode())
    sys.exit(EXIT_FAILED)


def _exit_with(message: str, code: int) -> None:
    _print_error(message)
    sys.exit(code)


def _print_error(message: str) -> None:
    one_line = " ".join(f"error: {message}".split())
    Console(stderr=True, soft_wrap=True).print(one_line, style="red", markup=False, highlight=False)
