"""`python -m benchmarks.distances`: the distances against closed forms, and what they detect.

Writes docs/results/distances.json and .md: the Fréchet distance at n = ∞ against the closed form on pairs of normal
distributions, the kernel distance on equal ones, and the detection table, every extractor against every bad world.
`python -m benchmarks distances` measures the same and writes nothing.
"""

from __future__ import annotations

import platform
import time
from typing import Any

import numpy as np
import torch

from benchmarks.__main__ import RESULTS
from worldloom.evaluation.battery import BATTERY, dreamer
from worldloom.evaluation.distances import (
    Calibrated,
    Embedded,
    Random3D,
    State,
    extrapolated,
    features,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
)
from worldloom.evaluation.distances.clips import FRAMES, LEARNT, LEARNT_SEED
from worldloom.evaluation.exact import ExactWorld
from worldloom.files import write_atomic, write_json
from worldloom.worlds.balls import BallsConfig

Gaussian = tuple[np.ndarray, np.ndarray]
SETTINGS = ((400, 2048, 8), (50, 256, 40), (50, 100, 40))
"""d, n and how many samples of each pair."""
WORLD = BallsConfig(balls=3, radius=5.0, speed=3.0, gravity=(0.0, 0.1))
CLIPS, PROMPT, SEED = 256, 4, 0


def pairs(d: int) -> dict[str, tuple[Gaussian, Gaussian]]:
    """Normal distributions (mean, covariance) whose distance is known."""
    random = np.random.default_rng(d)
    falling = 1 / np.sqrt(np.arange(1, d + 1))
    falling *= 50.4 * d / 400 / falling.sum()
    turned = np.linalg.qr(random.normal(size=(d, d)))[0]
    zero, one, spread = np.zeros(d), np.eye(d), np.diag(falling)
    steep = np.diag(falling[0] * np.exp(-6 * np.arange(d) / d))
    return {
        "equal": ((zero, spread), (zero, spread)),
        "mean off by 0.1 sd": ((zero, spread), (0.1 * np.sqrt(falling), spread)),
        "mean off by 0.3 sd": ((zero, spread), (0.3 * np.sqrt(falling), spread)),
        "spread × 1.2": ((zero, spread), (zero, 1.44 * spread)),
        "turned axes": ((zero, spread), (zero, turned @ spread @ turned.T)),
        "steeper spectrum": ((zero, spread), (zero, steep)),
        "flat, mean off": ((zero, one), (np.full(d, 0.2), one)),
        "flat, spread × 1.3": ((zero, one), (zero, 1.69 * one)),
    }


def least_error(one: Gaussian, other: Gaussian, n: int) -> float:
    """Standard deviation that the n samples of each side alone bring, to first order in 1/n, to whatever unbiased
    estimate: of the mean of the distance's influence function 2 (μ₁ - μ₂)ᵀx + xᵀ(I - T)x, T the optimal map."""
    total = 0.0
    for (mean, cov), (mean2, cov2) in ((one, other), (other, one)):
        values, vectors = np.linalg.eigh(cov)
        root, back = (vectors * values**p @ vectors.T for p in (0.5, -0.5))
        values, vectors = np.linalg.eigh(root @ cov2 @ root)
        bent = (np.eye(len(mean)) - back @ (vectors * np.sqrt(values) @ vectors.T) @ back) @ cov
        shift = mean - mean2
        total += float(4 * shift @ cov @ shift + 2 * np.trace(bent @ bent)) / n
    return float(np.sqrt(total))


def against_closed_form() -> list[dict[str, Any]]:
    rows = []
    for d, n, samples in SETTINGS:
        for k, (name, ((mean, cov), (mean2, cov2))) in enumerate(pairs(d).items()):
            truth = gaussian_distance(mean, cov, mean2, cov2)
            roots = [np.linalg.cholesky(c) for c in (cov, cov2)]
            found, began = [], time.process_time()
            for seed in range(samples):
                random = np.random.default_rng((seed, d, n, k))
                x, y = (random.normal(size=(n, d)) @ r.T + m for r, m in zip(roots, (mean, mean2), strict=True))
                found.append(extrapolated(x, y, seed=seed))
            values = np.array([f.value for f in found])
            rows.append(
                {
                    "pair": name, "d": d, "n": n, "samples": samples, "truth": truth,
                    "raw": float(np.mean([f.raw for f in found])), "value": float(values.mean()),
                    "values": values.tolist(), "sd": float(values.std(ddof=1)),
                    "half_width": float(np.mean([(f.high - f.low) / 2 for f in found])),
                    "covered": sum(f.low <= truth <= f.high for f in found),
                    "within_5_percent": int((np.abs(values - truth) < 0.05 * truth).sum()) if truth > 1e-9 else None,
                    "least_sd": least_error((mean, cov), (mean2, cov2), n),
                    "seconds": (time.process_time() - began) / samples,
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def on_equal_samples(samples: int = 200, d: int = 64) -> list[dict[str, Any]]:
    rows = []
    for n in (64, 256):
        found = []
        for seed in range(samples):
            random = np.random.default_rng((seed, n))
            x, y = random.normal(size=(2, n, d))
            found.append(kernel_distance(x, y, seed=seed, resamples=200, permutations=199))
        values = np.array([f.value for f in found])
        rows.append(
            {
                "n": n, "d": d, "samples": samples, "mean": float(values.mean()),
                "standard_error": float(values.std(ddof=1) / np.sqrt(samples)),
                "covered": sum(f.low <= 0 <= f.high for f in found), "p_below_0.05": sum(f.p <= 0.05 for f in found),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def detection() -> dict[str, Any]:
    world = ExactWorld(WORLD)
    both = world.fresh(2 * CLIPS, PROMPT, FRAMES, SEED)
    learnt = world.fresh(LEARNT, PROMPT, FRAMES, SEED + LEARNT_SEED)
    a, b = both.rows(slice(0, CLIPS)), both.rows(slice(CLIPS, 2 * CLIPS))
    frames = [held.segment.obs["camera"].numpy()[:, PROMPT:] for held in (a, b, learnt)]
    state = State.of(frames[2], learnt.truth["position"][:, PROMPT:])
    ours = [Calibrated(Random3D(), frames[2]), Calibrated(Embedded(), frames[2])]
    ours.append(Calibrated(state, frames[2], state.least))
    real = {e.name: features(e, frames[1]) for e in ours}
    followed = {e.name: features(e, frames[0]) for e in ours}
    floor = {n: frechet_distance(followed[n], real[n]) for n in real}
    rows: dict[str, dict[str, Any]] = {}
    for name, bad in BATTERY.items():
        if not bad.fits(world):
            continue
        dreamed = dreamer(name, world).dream(a, a.control, FRAMES, seed=SEED, sensors=["camera"])["camera"].numpy()
        rows[name] = {"about": bad.about}
        for e in ours:
            x = features(e, dreamed)
            found = kernel_distance(x, real[e.name], seed=SEED, resamples=200)
            ratio = frechet_distance(x, real[e.name]) / floor[e.name]
            rows[name][e.name] = {"z": found.value / found.null, "p": found.p, "frechet_ratio": ratio}
        print(name, rows[name], flush=True)
    return {"rows": rows, "hashes": {e.name: e.hash for e in ours}, "extractors": [e.name for e in ours]}


def measure() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {
        "seed": SEED, "clips": CLIPS, "frames": FRAMES, "torch": torch.__version__, "numpy": np.__version__,
        "machine": platform.machine(), "detection": detection(), "frechet": against_closed_form(),
        "kernel": on_equal_samples(),
    }  # fmt: skip


def page(found: dict[str, Any]) -> str:
    lines = [
        "# Distances between distributions",
        "",
        "Written by `python -m benchmarks.distances`. What is measured: [the Fréchet distance](../probes/frechet.md), "
        "[the kernel distance](../probes/kernel.md), [the extractors](../extractors.md).",
        "",
        "## The Fréchet distance at n = ∞ against the closed form",
        "",
        "Normal distributions with known moments; other samples for each pair. Raw: the usual distance at n. Error: of "
        "the mean over the samples. Sd: of a single sample's value; least: what the samples alone bring to any "
        "estimate, to first order. Covered: samples whose interval of 95 % holds the truth.",
        "",
        "| pair | d | n | truth | raw | n = ∞ | error | sd (least) | within 5 % | ± half width | covered | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in found["frechet"]:
        truth = r["truth"] if r["truth"] > 1e-9 else 0.0

        def share(x: float, whole: float = truth) -> str:
            return f"{100 * x / whole:.1f} %" if whole else f"{x:.2g}"

        within = "" if r["within_5_percent"] is None else f"{r['within_5_percent']} of {r['samples']}"
        lines.append(
            f"| {r['pair']} | {r['d']} | {r['n']} | {truth:.4g} | {r['raw']:.4g} | {r['value']:.4g} | "
            f"{share(r['value'] - truth)} | {share(r['sd'])} ({share(r['least_sd'])}) | {within} | "
            f"{r['half_width']:.2g} | {r['covered']} of {r['samples']} | {r['seconds']:.1f} |"
        )
    lines += ["", "## The kernel distance of equal distributions", ""]
    lines += ["| n | d | mean ± standard error | interval holds 0 | p ≤ 0.05 | samples |", "|---|---|---|---|---|---|"]
    for r in found["kernel"]:
        lines.append(
            f"| {r['n']} | {r['d']} | {r['mean']:.2g} ± {r['standard_error']:.2g} | {r['covered']} | "
            f"{r['p_below_0.05']} | {r['samples']} |"
        )
    names = found["detection"]["extractors"]
    lines += [
        "",
        "## What is detected",
        "",
        f"Three elastic discs under gravity, 64 × 64, {found['clips']} clips of {found['frames']} frames on each side, "
        f"seed {found['seed']}. The kernel distance over its standard deviation under permutations; **bold** where "
        "p ≤ 0.01. In brackets the Fréchet distance over that of real clips to others (1: blind). The extractor "
        "`embedded` was trained, on other worlds, to tell clips that are shuffled, frozen, blurred or noisy, where a "
        "ball vanishes or balls pass through each other; all other rows are new to it.",
        "",
        f"| world | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for name, row in found["detection"]["rows"].items():
        cells = []
        for e in names:
            z = f"{row[e]['z']:.1f}" if abs(row[e]["z"]) < 10 else f"{row[e]['z']:,.0f}"
            ratio = (
                f"{row[e]['frechet_ratio']:.2f}" if row[e]["frechet_ratio"] < 10 else f"{row[e]['frechet_ratio']:,.0f}"
            )
            cells.append(f"{f'**{z}**' if row[e]['p'] <= 0.01 else z} ({ratio})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def run() -> list[dict[str, Any]]:
    """For `python -m benchmarks distances`."""
    found = measure()
    rows = []
    for r in found["frechet"]:
        note = f"truth {r['truth']:.4g}, raw {r['raw']:.4g}, interval covers it in {r['covered']} of {r['samples']}"
        what = f"Fréchet distance at n = ∞, {r['pair']}, d = {r['d']}, n = {r['n']}"
        rows.append({"what": what, "value": r["value"], "unit": "", "n": r["samples"], "note": note})
    return rows


def main() -> None:
    found = measure()
    write_json(RESULTS / "distances.json", found)
    write_atomic(RESULTS / "distances.md", page(found).encode())


if __name__ == "__main__":
    main()
