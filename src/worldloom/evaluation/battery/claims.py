"""What each figure must detect."""

from __future__ import annotations

CLAIMS: dict[str, tuple[str, ...]] = {}
"""Figure to the bad worlds that it tells from the true one, in at least one of the worlds of the detection table."""

__all__ = ["CLAIMS"]
