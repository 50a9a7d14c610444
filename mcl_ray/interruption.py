"""Signals that interrupt a command: Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 end it in order, at any moment and once.

A thread waits for all but Ctrl-C, which are blocked in every thread where Ray may be used: libraries replace handlers,
and those of Ray's C++ code abort the process. The thread passes them on as Ctrl-C. The first signal raises
KeyboardInterrupt in the main thread, or calls what ends the work at hand; further ones are ignored while the state is
recorded.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

WAITED_FOR = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
IGNORED_FOR_S = 30.0
"""Time after a signal for which further ones are ignored; a later one interrupts again, for what hangs at its end."""


@dataclass
class _State:
    """Signals of this process so far, and how the next one is handled."""

    pid: int = 0
    """Process whose signals are handled; 0: none."""
    number: int | None = None
    """The first signal."""
    at: float = 0.0
    """Time of the newest signal that was not ignored, of the monotonic clock."""
    is_passed_on: bool = False
    """Whether the next SIGINT is another signal, which the thread has noted."""
    ignores_ctrl_c: bool = False
    """Whether SIGINT was ignored when the command started, as that of a script's background process is."""
    end: Callable[[], bool] | None = None
    """Ends the work at hand in order; returns whether it could."""
    may_raise: bool = False
    """Whether KeyboardInterrupt is handled; before and after, a process has nothing to record, and exits."""


_state = _State()


def handle_signals() -> None:
    """Handle the signals of this process, a command, before it starts threads; a second call does nothing.

    A signal that is ignored already, as SIGHUP under `nohup`, stays ignored.
    """
    if _state.pid == os.getpid():
        return
    _state.pid = os.getpid()
    _state.ignores_ctrl_c = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    waited_for = [number for number in WAITED_FOR if signal.getsignal(number) != signal.SIG_IGN]
    for number in (signal.SIGINT, *waited_for):
        signal.signal(number, _on_signal)
    signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    threading.Thread(target=_wait_for, args=(waited_for,), name="signals", daemon=True).start()


def unblock() -> None:
    """Unblock the signals in this thread, as a command does that starts no Ray.

    Child processes inherit what is blocked, and one that inherited a blocked SIGTERM could not be ended by it. From now
    on the handler here has the signals.
    """
    if _state.pid == os.getpid():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED_FOR)


@contextmanager
def unblocked() -> Iterator[None]:
    """Start child processes in this context, which is left with the signals blocked that were before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    unblock()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def raised() -> Iterator[None]:
    """Raise signals as KeyboardInterrupt in this context."""
    _state.may_raise = True
    try:
        yield
    finally:
        _state.may_raise = False
        if _state.pid and _state.number is not None:
            # The interpreter's end would set the default handlers, which end the process by the signal.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)


def exit_code() -> int:
    """Return the exit code of this command, which was interrupted: 128 + the number of the first signal."""
    return 128 + (_state.number or signal.SIGINT)


def note(number: signal.Signals) -> None:
    """Note a signal that a library has handled, so that further ones are ignored."""
    _state.number, _state.at, _state.is_passed_on = _state.number or number, time.monotonic(), False


@contextmanager
def ended_by(end: Callable[[], bool]) -> Iterator[None]:
    """Call `end` at the first signal of this context, instead of raising KeyboardInterrupt.

    Off the main thread, where Python handles no signals, this does nothing. In a process that is no command, Ctrl-C
    alone is handled, inside this context.

    Args:
        end: Returns whether it ends the work; if not, KeyboardInterrupt is raised.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler == signal.SIG_IGN:
        yield
        return
    if (is_command := handler == _on_signal) is False:
        _state.number, _state.may_raise = None, True
        signal.signal(signal.SIGINT, _on_signal)
    _state.end = end
    try:
        yield
    finally:
        _state.end = None
        if not is_command and handler is not None:
            signal.signal(signal.SIGINT, handler)


def _wait_for(numbers: list[signal.Signals]) -> None:
    """Pass signals on to the main thread, for ever."""
    while True:
        _pass_on(signal.sigwait(numbers))


def _pass_on(number: int) -> None:
    """Have the main thread handle a signal as Ctrl-C, whose handler is of the library that works there."""
    main = threading.main_thread().ident
    if _takes(number) and main is not None:
        _state.is_passed_on = True
        signal.pthread_kill(main, signal.SIGINT)


def _takes(number: int) -> bool:
    """Note a signal; return whether it interrupts, as no earlier one does."""
    now = time.monotonic()
    if _state.number is not None and now - _state.at < IGNORED_FOR_S:
        return False
    _state.number, _state.at = _state.number or number, now
    if not _state.may_raise:
        os._exit(exit_code())
    return True


def _on_signal(number: int, _: FrameType | None) -> None:
    """Interrupt the main thread: at Ctrl-C, or at a signal that was passed on."""
    if number != signal.SIGINT:  # a library has unblocked it, as Python's multiprocessing does
        _pass_on(number)
        return
    is_passed_on, _state.is_passed_on = _state.is_passed_on, False
    if not is_passed_on and (_state.ignores_ctrl_c or not _takes(number)):
        return
    end, _state.end = _state.end, None
    if end is None or not end():
        raise KeyboardInterrupt


def _leave_to_default() -> None:
    """Have a process that was forked from a command end by the signals."""
    if _state.pid:
        _state.pid = 0
        for number in (signal.SIGINT, *WAITED_FOR):
            if signal.getsignal(number) == _on_signal:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED_FOR)


os.register_at_fork(after_in_child=_leave_to_default)
