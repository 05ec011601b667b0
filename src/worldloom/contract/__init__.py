"""The one page that every world model, world, planner, probe and server agrees on.

A world *shows* sensors and is *given* controls (:class:`Spec`). Sequences of both are a
:class:`Segment`; what a model carries from frame to frame is a :class:`State`; a
:class:`WorldModel` is trained by ``loss`` and dreams through ``start``, ``observe``, ``step`` and
``decode``. In the field's words: encoder z = E(o), dynamics z' ~ f(z, a), decoder o' = D(z'),
reward r = g(z').

Conventions, which every part of the library relies on:

* ``action[t]`` led to frame ``t``. At the start of an episode ``first`` is true and the action is
  null: index n for n discrete actions, zeros for continuous ones.
* ``control[name][t]`` describes frame ``t``; ``reward[t]`` and ``terminal[t]`` belong to arriving at
  frame ``t``. A time limit is not terminal.
* Images rest as uint8 ``(..., C, H, W)`` and become floats only inside a model.
* A random draw is a pure function of (row's key, frame, place of the draw), never of the batch.

It is in five files, in the order in which they build on each other: ``errors``, ``spec``, ``segment``, ``state``,
``model``. They import nothing else of the library; everybody imports from here.
"""

from __future__ import annotations

from worldloom.contract.errors import ContractError, UnsupportedError, WorldloomError
from worldloom.contract.model import CAPABILITIES, Loss, WorldModel
from worldloom.contract.segment import Segment
from worldloom.contract.spec import Control, Controls, Sensor, Spec, check_covers
from worldloom.contract.state import State, mix, row_keys

__all__ = [
    "CAPABILITIES",
    "ContractError",
    "Control",
    "Controls",
    "Loss",
    "Segment",
    "Sensor",
    "Spec",
    "State",
    "UnsupportedError",
    "WorldModel",
    "WorldloomError",
    "check_covers",
    "mix",
    "row_keys",
]
