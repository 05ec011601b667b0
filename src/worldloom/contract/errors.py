"""The errors that a user can mend."""

from __future__ import annotations


class WorldloomError(Exception):
    """A mistake the user can mend. The message says what was found, expected, and what to do."""


class ContractError(WorldloomError):
    """A tensor, control or model does not fit the :class:`Spec` or the contract."""


class UnsupportedError(WorldloomError):
    """A capability was asked of a model that does not have it."""
