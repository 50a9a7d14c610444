"""Leaves Ray's generator of ids to be seeded in each forked process: one that imports an actor's class draws from it.

Imported before ray's other modules by a process of `tests.support.fork_server`. Processes forked from one that has
drawn an id would all have the same ids.
"""

import os

from ray import actor

import trainables.ray_environment  # noqa: F401  # before ray is imported

_class_id = actor.ActorClassID


class ActorClassID:
    """Draws ids of classes from the system instead."""

    @staticmethod
    def from_random() -> object:
        return _class_id(os.urandom(_class_id.size()))


actor.ActorClassID = ActorClassID
