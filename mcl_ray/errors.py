"""The exceptions a user can meet.

MclError
├── UserError               the input breaks a rule; the front doors print it and exit with 2
│   ├── SpecError           a field, a value or a combination of values
│   ├── DataError           a data set that is missing, damaged or hostile
│   ├── CheckpointError     a checkpoint that is damaged or of another architecture
│   └── StoreError          results that cannot be written, read or resumed
└── TrainingError           a run that started and cannot go on; exit code 1
    ├── NonFiniteLossError  a loss became NaN or infinite: names the step and the term
    ├── OutOfMemoryError    the run does not fit into the device's memory
    ├── BackboneChangedError  what linear classification freezes did not stay as it was
    ├── UnreadableImagesError  more images do not decode than the spec allows
    └── WorkerDiedError     the process of a trial went away: killed, out of memory, or its node lost
"""

from __future__ import annotations

from collections.abc import Iterable


class MclError(Exception):
    """Base of everything this project raises on purpose."""


class UserError(MclError):
    """The input breaks a rule; the message states the rule and the values."""


class SpecError(UserError):
    """A field, a value or a combination of values that no run can have."""


class DataError(UserError):
    """A data set that is missing, damaged or hostile."""


class CheckpointError(UserError):
    """A checkpoint that is damaged or belongs to another architecture."""


class StoreError(UserError):
    """Results that cannot be written, read or resumed."""


class TrainingError(MclError):
    """A run that started and cannot go on."""


class NonFiniteLossError(TrainingError):
    """A loss became NaN or infinite."""

    def __init__(self, term: str, value: float, epoch: int, step: int) -> None:
        self.term, self.value, self.epoch, self.step = term, value, epoch, step
        super().__init__(f"every loss must be finite, but {term} = {value} at step {step} of epoch {epoch}")

    def __reduce__(self) -> tuple[type, tuple[str, float, int, int]]:
        return type(self), (self.term, self.value, self.epoch, self.step)


class OutOfMemoryError(TrainingError):
    """The run does not fit into the device's memory."""


class BackboneChangedError(TrainingError):
    """What linear classification freezes did not stay as it was."""


class UnreadableImagesError(TrainingError):
    """More images do not decode than the spec allows."""

    def __init__(self, names: list[str], bound: int) -> None:
        self.names, self.bound = names, bound
        super().__init__(
            f"data.unreadable >= images that do not decode must hold, but got {bound} and {len(names)}: "
            f"{'; '.join(names[:5])}"
        )

    def __reduce__(self) -> tuple[type, tuple[list[str], int]]:
        return type(self), (self.names, self.bound)


class WorkerDiedError(TrainingError):
    """The process of a trial went away: killed, out of memory, or its node lost."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known, with the nearest one that is."""
    import difflib  # costs a tenth of a command's start, and is needed by errors alone

    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}; {hint}"
