"""`python -m benchmarks.tables`: a picture of the sampling tables, docs/media/tables.png. Nothing is measured."""

from __future__ import annotations

from benchmarks.__main__ import RESULTS
from benchmarks.pictures import _png, _pyplot
from worldloom.files import write_atomic
from worldloom.nn.tables import make, needs_future

FRAMES, STEPS = 9, 4
SHOWN = {
    "joint": ({}, "all frames together"),
    "autoregressive": ({}, "one after the other"),
    "pyramid": ({"lag": 1}, "each a step after the one before"),
    "keyframes": ({"every": 4}, "every fourth, then those between"),
}


def draw() -> bytes:
    """The four tables as heat maps, all on one scale of steps, as PNG."""
    built = {name: make(name, FRAMES, STEPS, **options) for name, (options, _) in SHOWN.items()}
    most = max(len(table) for table in built.values())
    figure, axes = _pyplot().subplots(1, len(built), figsize=(9.5, 5.2), layout="constrained", sharey=True)
    for axis, (name, table) in zip(axes, built.items(), strict=True):
        image = axis.imshow(table.numpy(), cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        who = "belongs to fill" if needs_future(table) else "step can play it"
        axis.set_title(f"{name}\n{SHOWN[name][1]}\n{len(table) - 1} steps; {who}", fontsize=8)
        axis.set_xlabel("frame", fontsize=8)
        axis.set_ylim(most - 0.5, -0.5)
        axis.set_xticks(range(FRAMES))
        axis.set_xticks([j + 0.5 for j in range(FRAMES - 1)], minor=True)
        axis.set_yticks([i + 0.5 for i in range(len(table) - 1)], minor=True)
        axis.grid(which="minor", color="white", linewidth=0.4)
        axis.tick_params(labelsize=7, length=0, which="both")
        axis.spines[:].set_visible(False)
    axes[0].set_ylabel("row of the table: times after so many steps", fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, ticks=(0, 0.25, 0.5, 0.75, 1), pad=0.01)
    bar.ax.set_yticklabels(("0 noise", "0.25", "0.5", "0.75", "1 clean"), fontsize=7)
    bar.outline.set_visible(False)
    return _png(figure)


def main() -> None:
    write_atomic(RESULTS.parent / "media" / "tables.png", draw())


if __name__ == "__main__":
    main()
