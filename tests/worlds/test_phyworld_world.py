"""PhyWorld's scenarios on our discs: ranges, laws, holes, and which frames count."""

from __future__ import annotations

import numpy as np
import pytest

from worldloom.contract import WorldloomError
from worldloom.data.collect import collect
from worldloom.evaluation.exact import find_exact
from worldloom.worlds import make_world
from worldloom.worlds.phyworld import (
    FRAMES,
    GAP,
    HOLE,
    PROMPT,
    STEP,
    TEST_SPLITS,
    UNIT,
    PhyWorld,
    PhyWorldConfig,
    counted,
)

SCENARIOS = ("uniform", "collision", "parabola")
EVERY = [
    (s, split)
    for s in SCENARIOS
    for split in ("in", "speed", "size", "both", "bands", "gap", "wedge", "inside", "outside")
    if s == "collision" or split not in ("wedge", "inside", "outside")
]


def clips(scenario: str, split: str = "in", count: int = 64, seed: int = 0) -> dict[str, np.ndarray]:
    """Truth of whole clips, name to (count, 32, ...)."""
    world = PhyWorld(PhyWorldConfig(scenario, split), count, seed)  # type: ignore[arg-type]
    frames = [world.reset()] + [world.step() for _ in range(FRAMES - 1)]
    return {name: np.stack([f.truth[name] for f in frames], 1) for name in frames[0].truth}


def within(values: np.ndarray, ranges) -> np.ndarray:
    return np.any([(values >= low - 1e-9) & (values <= high + 1e-9) for low, high in ranges], axis=0)


@pytest.mark.parametrize(("scenario", "split"), EVERY)
def test_starts_come_from_their_splits_ranges_and_leave_frames_to_judge(scenario, split):
    truth, config = clips(scenario, split), PhyWorldConfig(scenario, split)
    speed = np.abs(truth["velocity"][:, 0, :, 0]) / (UNIT * STEP)
    radius = truth["radius"][:, 0] / UNIT
    assert within(speed, config.speeds).all()
    assert within(radius, config.radii).all()
    for values, ranges in ((speed, config.speeds), (radius, config.radii)):
        for one in ranges:  # every part of the range is drawn from
            assert within(values, (one,)).any()
    assert (counted(truth)[:, PROMPT:].sum(1) >= 5).all()
    assert (truth["velocity"][:, 0, 0, 0] >= 0).all()
    assert (truth["velocity"][:, 0, :, 1] == 0).all()


def test_out_of_distribution_lies_out_of_what_is_trained_on():
    for scenario in SCENARIOS:
        trained = PhyWorldConfig(scenario)
        for split, name in (("speed", "speeds"), ("size", "radii"), ("both", "speeds"), ("both", "radii")):
            other = np.array(getattr(PhyWorldConfig(scenario, split), name)).ravel()
            inner = np.array(getattr(trained, name)).ravel()
            assert not ((other > inner[0]) & (other < inner[1])).any(), (scenario, split)
    bands, gap = PhyWorldConfig("uniform", "bands"), PhyWorldConfig("uniform", "gap")
    assert gap.speeds == GAP
    assert {low for low, _ in gap.speeds} | {high for _, high in gap.speeds} <= set(np.ravel(bands.speeds).tolist())


def test_the_laws_are_theirs():
    uniform = clips("uniform")
    assert np.ptp(np.where(counted(uniform)[..., None], uniform["velocity"][:, :, 0], np.nan)[0, :5, 0]) == 0
    parabola = clips("parabola")
    free = counted(parabola)[:, 10]
    fallen = parabola["velocity"][free, 10, 0, 1] / (UNIT * STEP)
    np.testing.assert_allclose(fallen, 2.5, atol=1e-9)  # units/s after one second
    meeting = clips("collision")
    after = counted(meeting)
    last = np.array([np.flatnonzero(row)[-1] for row in after])
    rows = np.arange(len(after))
    mass = meeting["radius"][:, 0] ** 2
    v0, v1 = meeting["velocity"][:, 0, :, 0], meeting["velocity"][rows, last, :, 0]
    np.testing.assert_allclose((mass * v1).sum(1), (mass * v0).sum(1), atol=1e-9)
    np.testing.assert_allclose((mass * v1**2).sum(1), (mass * v0**2).sum(1), atol=1e-9)
    np.testing.assert_allclose(v1[:, 1] - v1[:, 0], v0[:, 0] - v0[:, 1], atol=1e-9)
    assert (meeting["ball_hits"][:, :PROMPT].sum((1, 2, 3)) == 0).all()  # never within what is given


def test_frames_count_before_the_first_wall_and_after_the_collision():
    hits, walls = np.zeros((1, 6, 2, 2), int), np.zeros((1, 6, 2, 2), int)
    hits[0, 2, 0, 1] = hits[0, 2, 1, 0] = 1
    walls[0, 4, 1, 0] = 1
    assert counted({"ball_hits": hits, "wall_hits": walls})[0].tolist() == [False, False, True, True, False, False]
    one = {"ball_hits": hits[..., :1, :1] * 0, "wall_hits": walls[:, :, 1:]}
    assert counted(one)[0].tolist() == [True] * 4 + [False] * 2


def test_the_trained_wedge_has_a_hole_and_a_hull():
    def pairs(split: str) -> np.ndarray:
        return np.abs(clips("collision", split, 200)["velocity"][:, 0, :, 0]) / (UNIT * STEP)

    wedge, inside, outside = pairs("wedge"), pairs("inside"), pairs("outside")
    assert (wedge.sum(1) <= 5 + 1e-9).all()
    assert not ((wedge >= HOLE[0]) & (wedge <= HOLE[1])).all(1).any()
    assert ((inside >= HOLE[0]) & (inside <= HOLE[1])).all()
    assert (inside.sum(1) <= 5 + 1e-9).all()
    assert (outside.sum(1) > 5).all()
    for k in range(2):  # each ball's speeds alone were all seen
        assert wedge[:, k].min() <= outside[:, k].min() + 0.2
        assert outside[:, k].max() <= wedge[:, k].max() + 0.2


def test_a_start_is_a_function_of_seed_and_place():
    few, many = clips("collision", count=2, seed=3), clips("collision", count=4, seed=3)
    for name, x in few.items():
        np.testing.assert_array_equal(x, many[name][:2])
    assert (clips("collision", count=2, seed=4)["position"] != few["position"]).any()


def test_one_world_begins_anew_while_the_other_goes_on():
    world = PhyWorld(PhyWorldConfig("parabola"), 2, 0)
    world.reset()
    before = world.step()
    after = world.reset(mask=np.array([True, False]))
    assert (after.truth["position"][1] == before.truth["position"][1]).all()
    assert after.truth["velocity"][0, 0, 1] == 0


def test_splits_of_two_balls_are_refused_for_one():
    with pytest.raises(WorldloomError, match="collision"):
        PhyWorldConfig("uniform", "wedge")
    for trained, tested in TEST_SPLITS.items():
        assert tested[0] == trained


def test_by_name_and_found_again_behind_its_data(tmp_path):
    world = make_world("phyworld", 2, seed=5, scenario="collision", split="size")
    assert isinstance(world, PhyWorld)
    assert world.reset().obs["camera"].shape == (2, 3, 64, 64)
    described = {"env": "phyworld", "config": {"scenario": "collision", "split": "size"}}
    dataset = collect(world, tmp_path / "data", 2, FRAMES, info={"world": described})
    exact = find_exact(dataset.info)
    assert exact is not None
    assert exact.phyworld == PhyWorldConfig("collision", "size")
    fresh = exact.fresh(8, PROMPT, FRAMES - PROMPT, 0)
    assert fresh.segment.length == FRAMES
    assert within(fresh.truth["radius"] / UNIT, exact.phyworld.radii).all()
    episode = dataset.episode(0)
    played = exact.play({n: episode.truth[n][:1] for n in ("position", "velocity", "radius")}, None, FRAMES - 1)
    np.testing.assert_array_equal(played.frames[0], episode.obs["camera"])  # the stored clip is the exact one
    small = exact.changed(radius=1.0).fresh(4, PROMPT, 5, 0)  # a changed world draws starts by what was changed
    assert (small.truth["radius"] == 1).all()
    assert find_exact({"world": {"env": "phyworld", "config": {"scenario": "sideways"}}}) is None
