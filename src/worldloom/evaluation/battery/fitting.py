"""From a few true frames to the state behind them: positions and velocities by fitting the true law to what is seen."""

from __future__ import annotations

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.evaluation.battery.laws import push_of
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.tracker import background, calibrate, detect, match_clip
from worldloom.worlds.balls.dynamics import advance

STEP = 1e-4
"""px and px/frame by which the state is moved to see what that changes."""
ROUNDS = 6
"""Steps of Levenberg's method."""


def seen_positions(held: HeldOut, count: int) -> np.ndarray:
    """(B, count, K, 2) px where the tracker sees each object in the first true frames; NaN where it does not. Which of
    them is which is told by the truth, where they are is not."""
    frames = held.segment.obs["camera"].numpy()
    ground = background(frames)
    frames, position = frames[:, :count], held.truth["position"][:, :count]
    rows = []
    for clip, where in zip(frames, position, strict=True):
        try:
            scene = calibrate(
                clip[: held.prompt], where.shape[1], ground, position=np.asarray(where[: held.prompt], np.float64)
            )
        except WorldloomError:  # nothing shows in this prompt: behind an occluder, say
            rows.append(np.full(where.shape, np.nan))
            continue
        rows.append(match_clip(detect(clip, scene), np.asarray(where, np.float64))[0])
    return np.stack(rows)


def fit_states(world: ExactWorld, held: HeldOut, first: np.ndarray, row: np.ndarray) -> dict[str, np.ndarray]:
    """``position`` and ``velocity`` (m, K, 2) at the last of P true frames, ``first`` (m,) frames into start ``row``
    (m,), as many as the prompt has: the states whose exact motion comes closest to what the tracker sees in them.

    Levenberg's least squares (1944) over the state at the first of them, begun at the best of the states that two
    neighbouring frames give. A ball that the tracker sees in fewer than two of them (hidden, or not to be
    parted from another) begins at its true state: the ceiling is then a little too high, never too low. Raises
    :class:`WorldloomError` for a prompt of one frame.
    """
    if held.prompt < 2:
        raise WorldloomError(f"A velocity takes at least 2 frames of prompt, found {held.prompt}.")
    index = first[:, None] + np.arange(held.prompt)
    seen = seen_positions(held, int(index.max()) + 1)[row[:, None], index]
    true = {n: np.asarray(held.truth[n], np.float64)[row, index[:, 0]] for n in ("position", "velocity")}
    radius = np.asarray(held.truth["radius"], np.float64)[row[:, None], index][:, 0]
    action = held.segment.control["action"].numpy()[row[:, None], index] if world.null is not None else None
    kicks = [
        push_of(world.config, action[:, t]) if action is not None else np.zeros_like(seen[:, 0])
        for t in range(held.prompt)
    ]
    fit = _Fit(world, seen, radius, kicks, true)
    best = fit.guess()
    x, v = fit.refine(*best)
    path = fit.play(x, v)
    return {"position": path[-1][0], "velocity": path[-1][1]}


class _Fit:
    """m clips of P frames: what is seen (m, P, K, 2), and the pushes (m, K, 2) that led to each frame."""

    def __init__(
        self,
        world: ExactWorld,
        seen: np.ndarray,
        radius: np.ndarray,
        kicks: list[np.ndarray],
        true: dict[str, np.ndarray],
    ) -> None:
        self.config, self.seen, self.radius, self.kicks = world.config, seen, radius, kicks
        self.known, self.true = np.isfinite(seen), true
        self.unseen = self.known.all(-1).sum(1) < 2  # (m, K)

    def _flow(self, x: np.ndarray, v: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moved = advance(x, v, radius, (float(self.config.width), float(self.config.height)), self.config.gravity)
        return moved[0], moved[1]

    def play(self, x: np.ndarray, v: np.ndarray, copies: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
        """States at the P frames, of states (m * copies, K, 2) at the first."""
        radius = np.repeat(self.radius, copies, 0)
        out = [(x, v)]
        for kick in self.kicks[1:]:
            x, v = self._flow(x, v + np.repeat(kick, copies, 0), radius)
            out.append((x, v))
        return out

    def residual(self, x: np.ndarray, v: np.ndarray, copies: int = 1) -> np.ndarray:
        """(m * copies, P * K * 2) px, 0 where nothing is seen."""
        path = np.stack([p for p, _ in self.play(x, v, copies)], 1)
        seen, known = np.repeat(self.seen, copies, 0), np.repeat(self.known, copies, 0)
        return np.where(known, path - np.where(known, seen, 0.0), 0.0).reshape(len(x), -1)

    def guess(self) -> tuple[np.ndarray, np.ndarray]:
        """The best of the states that two neighbouring frames give, played back to the first frame."""
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        g = np.asarray(self.config.gravity)
        filled = _filled(self.seen)
        lost = self.unseen[:, :, None]
        for t in range(self.seen.shape[1] - 1):
            x = self._inside(filled[:, t])
            v = filled[:, t + 1] - filled[:, t] - self.kicks[t + 1] - 0.5 * g
            for back in range(t, 0, -1):  # the laws are those of the film run back
                x, turned = self._flow(x, -v, self.radius)
                v = -turned - self.kicks[back]
            x, v = np.where(lost, self.true["position"], x), np.where(lost, self.true["velocity"], v)
            found.append((np.square(self.residual(x, v)).sum(1), x, v))
        best = np.argmin(np.stack([f[0] for f in found]), 0)
        rows = np.arange(len(best))
        return np.stack([f[1] for f in found])[best, rows], np.stack([f[2] for f in found])[best, rows]

    def refine(self, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levenberg's steps, each row with its own damping; a step that does not help is not taken."""
        m, k, _ = x.shape
        size = 4 * k
        state = np.concatenate([x.reshape(m, -1), v.reshape(m, -1)], 1)
        damping = np.full(m, 1e-3)

        def parts(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self._inside(s[:, : 2 * k].reshape(-1, k, 2)), s[:, 2 * k :].reshape(-1, k, 2)

        now = self.residual(*parts(state))
        for _ in range(ROUNDS):
            moved = (state[:, None] + STEP * np.eye(size)).reshape(m * size, size)
            change = (self.residual(*parts(moved), size).reshape(m, size, -1) - now[:, None]) / STEP
            normal = change @ change.transpose(0, 2, 1) + damping[:, None, None] * np.eye(size)
            step = np.linalg.solve(normal, (change @ now[:, :, None]))[:, :, 0]
            tried = state - step
            then = self.residual(*parts(tried))
            better = np.square(then).sum(1) < np.square(now).sum(1)
            state, now = np.where(better[:, None], tried, state), np.where(better[:, None], then, now)
            damping = np.where(better, damping / 10, damping * 10)
        return parts(state)

    def _inside(self, x: np.ndarray) -> np.ndarray:
        radius = np.repeat(self.radius, len(x) // len(self.radius), 0)[:, :, None]
        return np.clip(x, radius, np.array([self.config.width, self.config.height]) - radius)


def _filled(seen: np.ndarray) -> np.ndarray:
    """For the first guess alone: between frames in which a ball is seen, on a line; 1 where it hardly ever is."""
    out = seen.copy()
    frames = np.arange(seen.shape[1])
    for i, k in np.argwhere(~np.isfinite(seen).all((1, 3))):
        there = np.isfinite(seen[i, :, k]).all(-1)
        if there.sum() < 2:
            out[i, :, k] = 1.0
            continue
        for axis in range(2):
            out[i, :, k, axis] = np.interp(frames, frames[there], seen[i, there, k, axis])
    return out


__all__ = ["fit_states", "seen_positions"]
