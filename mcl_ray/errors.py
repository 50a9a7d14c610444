"""The exceptions that this project raises on purpose.

MclError
├── UserError                  the input breaks a rule; the commands print it and exit with 2
│   ├── SpecError              an invalid field, value or combination of values
│   ├── DataError              a data set that is missing, damaged or malicious
│   ├── CheckpointError        a checkpoint that is damaged or of another architecture
│   └── StoreError             results that cannot be written, read or resumed
└── TrainingError              a run that started and cannot continue; the commands exit with 1
    ├── NonFiniteLossError     a loss is NaN or infinite; names the step and the term
    ├── OutOfMemoryError       the run does not fit into the device's memory
    ├── BackboneChangedError   frozen tensors of a linear classification changed
    ├── UnreadableImagesError  more images failed to decode than the spec allows
    ├── WorkerDiedError        the process of a trial or a reader ended: killed, out of memory, or its node failed
    └── ClusterLostError       Ray ended; what trained can be resumed
"""

from __future__ import annotations

from collections.abc import Iterable


class MclError(Exception):
    """Base class of the exceptions of this project."""


class UserError(MclError):
    """Input breaks a rule; the message states the rule and the values."""


class SpecError(UserError):
    """A field, value or combination of values is invalid."""


class DataError(UserError):
    """A data set is missing, damaged or malicious."""


class CheckpointError(UserError):
    """A checkpoint is damaged or belongs to another architecture."""


class StoreError(UserError):
    """Results cannot be written, read or resumed."""


class TrainingError(MclError):
    """A run started and cannot continue."""


class NonFiniteLossError(TrainingError):
    """A loss is NaN or infinite.

    Args:
        term: name of the loss term.
        value: value of the loss.
        epoch: epoch, from 1.
        step: step within the epoch, from 1.
    """

    def __init__(self, term: str, value: float, epoch: int, step: int) -> None:
        self.term, self.value, self.epoch, self.step = term, value, epoch, step
        super().__init__(f"every loss must be finite, but {term} = {value} at step {step} of epoch {epoch}")

    def __reduce__(self) -> tuple[type, tuple[str, float, int, int]]:
        return type(self), (self.term, self.value, self.epoch, self.step)


class OutOfMemoryError(TrainingError):
    """A run does not fit into the device's memory."""


class BackboneChangedError(TrainingError):
    """Frozen tensors of a linear classification changed."""


class UnreadableImagesError(TrainingError):
    """More images failed to decode than the spec allows.

    Args:
        names: names of the images.
        bound: the maximum, `data.unreadable`.
    """

    def __init__(self, names: list[str], bound: int) -> None:
        self.names, self.bound = names, bound
        super().__init__(
            f"`data.unreadable >= images that fail to decode` must hold, but got {bound} and {len(names)}: "
            f"{'; '.join(names[:5])}"
        )

    def __reduce__(self) -> tuple[type, tuple[list[str], int]]:
        return type(self), (self.names, self.bound)


class WorkerDiedError(TrainingError):
    """The process of a trial or a reader ended: killed, out of memory, or its node failed."""


class ClusterLostError(TrainingError):
    """Ray, or its head, ended while a run or a sweep used it; what trained can be resumed."""


OUT_OF_MEMORY_SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "alloc_failed",
    "bad_alloc",
    "failed to map segment",
)
"""Phrases by which the CPU's allocator, CUDA and its libraries, the system and its loader of libraries report it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, of whichever class, says that there is too little memory."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in OUT_OF_MEMORY_SIGNS)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the error message for an unknown name, with the nearest known one."""
    import difflib  # costs a tenth of a command's start, and is needed by errors alone

    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}; {hint}"
