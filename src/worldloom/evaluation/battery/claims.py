"""What each figure must detect. A claim is made in one world of the table, where the figure has most to see."""

from __future__ import annotations

CLAIMS: dict[str, tuple[str, ...]] = {
    # pictures
    "pictures/psnr_db": ("blur", "noise", "shuffle", "freeze", "nearest", "speed", "vanish", "shrink", "recolour"),
    "pictures/ssim": ("noise", "stretch", "grow"),
    "objects/position_error_px": ("shuffle", "copy_last", "nearest", "speed", "gravity", "damped", "curved"),
    "objects/object_count_ok": ("vanish", "appear"),
    # objects that last
    "permanence/survival": ("vanish", "teleport"),
    "permanence/lost": ("vanish", "teleport"),
    "permanence/vanish": ("vanish", "collapse"),
    "permanence/appear": ("appear", "collapse"),
    "permanence/merge": ("collapse",),
    "permanence/swap": ("recolour",),
    "permanence/whole": ("vanish", "appear", "teleport", "recolour", "nearest"),
    "occlusion/came_out": ("swallowed",),
    "occlusion/late_frames": ("slowed",),
    "occlusion/speed_error": ("slowed",),
    # motion between events
    "inertia/velocity_change": ("noise", "shuffle", "gravity", "curved", "heating"),
    "inertia/speed_change": ("noise", "gravity", "heating"),
    "inertia/heading_change_deg": ("noise", "shuffle", "curved"),
    "inertia/jitter_px": ("noise", "shuffle"),
    "inertia/takeover": ("copy_last", "nearest", "speed", "backwards"),
    "inertia/speed_ratio_error": ("copy_last", "nearest", "speed"),
    "gravity/error": ("gravity", "curved", "heating"),
    # events
    "walls/restitution_error": ("damped", "curved", "heating"),
    "walls/along": ("curved", "heating"),
    "walls/turn_px": ("sinking", "damped", "curved"),
    "contacts/penetration_px": ("ghosts",),
    "contacts/ghosts": ("ghosts",),
    "contacts/momentum_error": ("noise", "curved", "heating"),
    "contacts/energy_error": ("noise", "curved", "heating"),
    # what objects are
    "constancy/size": ("shrink", "grow", "stretch"),
    "constancy/shape": ("stretch",),
    "constancy/colour": ("recolour", "blur"),
    # causes
    "causality/unexplained": ("shuffle", "freeze", "teleport", "apart"),
    "causality/clean": ("shuffle", "freeze"),
    "causality/pushes": ("ignored", "delayed", "mirrored"),
    "reversal/backwards_px": ("noise", "gravity", "damped", "curved", "heating"),
    "reversal/asymmetry_px": ("noise", "gravity", "damped", "curved", "heating"),
    "physics/worst": ("shuffle", "freeze", "speed", "gravity", "damped", "curved", "vanish", "shrink"),
    # actions
    "action_gain/psnr_db": ("ignored", "delayed", "mirrored"),
    "action_gain/state_px": ("ignored", "delayed", "mirrored"),
    "counterfactual/sign_right": ("ignored", "mirrored"),
    "counterfactual/sign_right_at_once": ("ignored", "delayed", "mirrored"),
    "counterfactual/size_ratio": ("ignored",),
    "counterfactual/action_told": ("ignored", "mirrored"),
    "counterfactual/obeyed": ("ignored", "mirrored"),
    "undo/done_and_undone": ("ignored", "mirrored"),
    "undo/went_ratio": ("ignored", "mirrored"),
    # the long run
    "regimes/position_teacher_px": ("ignored", "delayed", "mirrored"),
    "regimes/position_free_px": ("ignored", "delayed", "mirrored"),
    "prediction_time/mean_frames": ("ignored", "delayed", "mirrored"),
    "half_life/position_mean_frames": ("ignored", "delayed", "mirrored"),
}
"""Figure to the bad worlds that it tells from the true one."""

TABLE_ONLY = (
    "pictures",
    "objects",
    "regimes",
    "prediction_time",
    "half_life",
    "action_gain",
    "counterfactual",
    "undo",
    "contacts/ghosts",
    "contacts/momentum_error",
)
"""Probes that take long, and figures that need more events than a few starts hold: the tests leave these claims to the
table."""

_PUSHED = (
    "action_gain",
    "counterfactual",
    "undo",
    "noop",
    "inverse_dynamics",
    "regimes",
    "prediction_time",
    "half_life",
)


def claimed_in(figure: str) -> str:
    """The world (of :data:`~worldloom.evaluation.battery.table.WORLDS`) in which a figure's claims are made."""
    probe = figure.split("/")[0]
    if probe == "occlusion":
        return "hidden"
    return "pushed" if probe in _PUSHED or figure == "causality/pushes" else "free"


def asserted(figure: str) -> bool:
    """Whether the tests assert its claims, not the table alone."""
    return figure not in TABLE_ONLY and figure.split("/")[0] not in TABLE_ONLY


__all__ = ["CLAIMS", "TABLE_ONLY", "asserted", "claimed_in"]
