"""The physics probes: at their floor on the true world, and away from it on the world with the fault they claim."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from worldloom.contract import Spec
from worldloom.evaluation.battery import Simulated, dreamer, make_dreams
from worldloom.evaluation.battery.laws import Law
from worldloom.evaluation.events import Contact
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.invariants import Invariant, overall
from worldloom.evaluation.probes import NotMeasurableError, contacts, find_probes, measure_all
from worldloom.evaluation.probes.constancy import lab
from worldloom.evaluation.probes.permanence import Fates, lives
from worldloom.evaluation.probes.physics import laws
from worldloom.evaluation.survival import survival
from worldloom.worlds.balls import BallsConfig

OURS = "permanence,inertia,gravity,walls,contacts,constancy,causality,reversal,physics"
DUO = BallsConfig(balls=2, radius=(4.0, 6.0), gravity=(0.0, 0.1), action="discrete", push=0.5)
SETTING = (12, 4, 36, 0)


@pytest.fixture(scope="module")
def world():
    return ExactWorld(DUO)


@pytest.fixture(scope="module")
def held(world):
    return world.fresh(*SETTING)


@pytest.fixture(scope="module")
def ask(world, held):
    """Last value of every figure of some probes, of a world of the battery or under a law; each is dreamed once."""
    made = {}

    def look(fault, probes=OURS):
        key = fault if isinstance(fault, str) else repr(fault)
        if key not in made:
            who = dreamer(fault, world) if isinstance(fault, str) else Simulated(world, fault)
            made[key] = make_dreams(world, who, *SETTING, held=held)
        found = measure_all(find_probes(probes), made[key], lambda _: None)
        assert not found.failures
        return {name: last(f.value) for name, f in found.figures.items()}, found

    return look


def last(value):
    return list(value.values())[-1] if isinstance(value, dict) else value


def test_the_true_world_is_at_its_floor(ask):
    values, found = ask("truth")
    assert not found.unmeasured
    for name, figure in found.figures.items():
        if name.startswith("physics/"):
            assert values[name] == 1
        elif not name.endswith("worst"):
            assert values[name] == last(figure.floor), name
        assert figure.n > 0
    limits = {
        "inertia/velocity_change": 0.001, "inertia/takeover": 0.01, "gravity/error": 0.001,
        "walls/restitution_error": 0.003, "walls/along": 0.01, "walls/turn_px": 0.01, "walls/ignored": 0,
        "contacts/restitution_error": 0.01, "contacts/momentum_error": 0.01, "contacts/energy_error": 0.01,
        "contacts/ghosts": 0, "contacts/penetration_px": 0.02, "constancy/size": 0.01, "constancy/shape": 0.01,
        "causality/unexplained": 0, "reversal/backwards_px": 0.03, "permanence/lost": 0, "permanence/swap": 0,
    }  # fmt: skip
    for name, limit in limits.items():
        assert values[name] <= limit, name
    either = {name for name, figure in found.figures.items() if figure.better == "neither"}  # of which one is right
    assert either == {
        "gravity/vertical", "gravity/horizontal", "walls/restitution", "contacts/restitution", "causality/pushes",
    }  # fmt: skip
    assert values["gravity/vertical"] == pytest.approx(0.1, rel=0.001)
    assert abs(values["gravity/horizontal"]) < 1e-4
    assert values["causality/pushes"] == pytest.approx(1, abs=0.002)


CLAIMS = [
    ("gravity", "gravity/vertical", 0.05, 0.002),
    ("gravity", "gravity/error", 0.05, 0.002),
    ("speed", "gravity/vertical", 0.144, 0.003),
    ("speed", "inertia/speed_ratio_error", 0.2, 0.05),
    ("damped", "walls/restitution", 0.7, 0.005),
    ("sinking", "walls/turn_px", 3.0, 0.05),
    ("curved", "inertia/velocity_change", 0.09, 0.05),
    ("heating", "inertia/speed_change", 0.035, 0.02),
    ("ghosts", "contacts/ghosts", 1.0, 0.01),
    ("ignored", "causality/pushes", 0.0, 0.02),
    ("mirrored", "causality/pushes", -1.0, 0.02),
    ("shrink", "constancy/size", 0.32, 0.06),
    ("vanish", "permanence/lost", 0.5, 0.01),
    ("vanish", "permanence/survival", 0.5, 0.01),
]


@pytest.mark.parametrize(("fault", "figure", "expected", "within"), CLAIMS)
def test_a_fault_is_measured_at_its_size(ask, fault, figure, expected, within):
    values, _ = ask(fault)
    assert values[figure] == pytest.approx(expected, abs=within)


FOUND = [
    ("ghosts", "contacts/penetration_px", 0.5),
    ("ghosts", "causality/unanswered", 0.02),
    ("speed", "inertia/takeover", 0.2),
    ("backwards", "inertia/takeover", 1.0),
    ("teleport", "causality/unexplained", 1.0),
    ("damped", "reversal/backwards_px", 0.02),
    ("gravity", "reversal/forwards_px", 0.2),
    ("stretch", "constancy/shape", 0.1),
    ("recolour", "constancy/colour", 10.0),
    ("recolour", "permanence/swap", 1.0),
    ("appear", "permanence/appear", 1.0),
    ("vanish", "permanence/vanish", 1.0),
]


@pytest.mark.parametrize(("fault", "figure", "least"), FOUND)
def test_a_fault_is_found(ask, fault, figure, least):
    values, _ = ask(fault)
    true, _ = ask("truth")
    assert values[figure] > least > 2 * true[figure]


@pytest.mark.parametrize(
    ("fault", "silent"),
    [
        ("gravity", ["walls/restitution_error", "walls/along", "contacts/momentum_error", "constancy/size"]),
        ("ghosts", ["walls/restitution_error", "inertia/velocity_change", "gravity/error", "constancy/size"]),
        ("damped", ["inertia/velocity_change", "gravity/error", "contacts/restitution_error", "walls/turn_px"]),
        ("shrink", ["inertia/velocity_change", "gravity/error", "walls/restitution_error", "permanence/lost"]),
        ("backwards", ["inertia/velocity_change", "gravity/error", "walls/restitution_error", "reversal/backwards_px"]),
        ("recolour", ["inertia/velocity_change", "gravity/error", "constancy/size", "permanence/lost"]),
    ],
)
def test_a_fault_is_not_taken_for_another(ask, fault, silent):
    values, _ = ask(fault)
    limits = {"walls/turn_px": 0.05, "walls/along": 0.02, "reversal/backwards_px": 0.05}
    for name in silent:
        assert values[name] <= limits.get(name, 0.02), name


def test_the_score_falls_with_the_size_of_a_fault_and_names_the_worst(ask):
    scores = [ask(fault, "physics")[0] for fault in ("truth", Law(growth=0.002), "heating")]
    parts = [s["physics/inertia_velocity_change"] for s in scores]
    assert parts == sorted(parts, reverse=True)
    assert parts[0] == 1
    assert 0.5 < parts[1] < 0.95
    assert parts[-1] < 0.3
    assert scores[-1]["physics/score"] < scores[0]["physics/score"]
    _, found = ask("ghosts", "physics")
    assert "contacts_ghosts" in found.figures["physics/worst"].meaning
    assert found.figures["physics/worst"].value < 0.01
    for name, figure in found.figures.items():
        assert 0 <= figure.value <= 1, name
        if figure.n:
            low, high = figure.interval
            assert 0 <= low <= figure.value <= high <= 1
        else:
            assert figure.value == 0
            assert "the dreams show none of these" in figure.meaning


def test_a_contact_that_no_frame_shows_has_no_depth():
    seen = Contact(0, 9.0, True, True, 2.0, 2.0, 0.0, 2.0, 0.0, 0.1, 0.3)
    hidden = dataclasses.replace(seen, deepest=float("nan"))
    values, rows = contacts._column([seen, hidden], lambda c: contacts._above(c.deepest))
    assert values.tolist() == [0.3]  # and not 0 for the other
    assert rows.tolist() == [0]


def test_standing_still_is_not_lawful(ask):
    values, _ = ask("copy_last")
    for name in ("restitution_error", "along", "turn_px", "ignored"):
        assert values[f"walls/{name}"] is None
        assert values[f"physics/walls_{name}"] == 0
    assert values["physics/constancy_size"] == 1
    assert values["physics/score"] < 0.5


def test_a_world_without_gravity_has_none_and_one_ball_no_contacts():
    one = ExactWorld(BallsConfig())
    dreams = make_dreams(one, dreamer("truth", one), 8, 4, 30, 1)
    found = measure_all(find_probes(OURS + ",occlusion"), dreams, lambda _: None)
    assert not found.failures
    assert abs(last(found.figures["gravity/vertical"].value)) < 1e-3
    assert found.unmeasured.keys() == {"contacts", "occlusion"}
    assert "one object" in found.unmeasured["contacts"]
    assert "no occluder" in found.unmeasured["occlusion"]
    assert found.figures["physics/score"].value == 1
    short = make_dreams(one, dreamer("truth", one), 4, 4, 5, 1)
    with pytest.raises(NotMeasurableError, match="5 frames; motion is measured over at least 6"):
        find_probes("inertia")[0].measure(short)


def test_where_all_are_lost_there_is_no_certainty():
    one = ExactWorld(BallsConfig(height=40, width=40))
    dreams = make_dreams(one, Simulated(one, Law(event="vanish", at=3)), 8, 4, 12, 1)
    figure = find_probes("permanence")[0].measure(dreams)["permanence/survival"]
    assert figure.value["10"] == 0
    low, high = figure.interval["10"]
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 8))


def test_what_actions_do_elsewhere_is_not_known(ask, world, held):
    dreams = make_dreams(world, dreamer("truth", world), *SETTING, held=held)
    (probe,) = find_probes("inertia")
    with pytest.raises(NotMeasurableError, match="is known only of our own worlds"):
        probe.measure(dataclasses.replace(dreams, world=None))


def test_true_frames_are_understood_by_what_was_done_also_for_a_model_that_is_not_told(world, held):
    told = make_dreams(world, dreamer("ignored", world), *SETTING, held=held)
    film = dataclasses.replace(told, spec=Spec(told.spec.shown, {}, told.spec.fps), control={})
    found = measure_all(find_probes("inertia,causality,prediction_time"), film, lambda _: None)
    assert not found.failures
    assert (
        found.figures["inertia/velocity_change"].floor < 0.001
    )  # the pushes of the true frames are no fault of theirs
    assert found.figures["causality/unexplained"].floor == 0
    assert found.figures["inertia/velocity_change"].value < 0.001  # and what was not given moves nothing
    assert found.figures["prediction_time/mean_frames"].ceiling > 30


class Elsewhere:
    """The true world, in which what goes behind the occluder stays there, or comes out wrong."""

    def __init__(self, world, fault):
        from worldloom.worlds.balls.world import spec_of

        self.spec, self.world, self.fault = spec_of(world.config), world, fault

    def dream(self, held, control, frames, *, seed, sensors, mode="free", every=1, say=lambda _: None):
        import torch

        from worldloom.worlds.balls.render import Renderer

        box = np.array(self.world.config.occluder)
        true = held.truth["position"][:, held.prompt :]
        shown = true.copy()
        for row in shown:
            inside = (row[:, 0] > box[:2]).all(-1) & (row[:, 0] < box[2:]).all(-1)
            if not inside.any():
                continue
            first = int(inside.argmax())
            if self.fault == "gone":
                row[first:] = row[first]
            if self.fault == "late":
                row[first + 3 :] = row[first:-3].copy()
                row[first : first + 3] = row[first]
        draw = Renderer(self.world.config).draw
        radius = held.truth["radius"][:, 0]
        frames = [draw(shown[:, t], radius) for t in range(frames)]
        return {"camera": torch.from_numpy(np.stack(frames, 1))}


@pytest.mark.parametrize("fault", ["none", "gone", "late"])
def test_behind_an_occluder(fault):
    world = ExactWorld(BallsConfig(occluder=(26.0, 0.0, 40.0, 64.0), speed=2.5, radius=3.0))
    who = Elsewhere(world, fault)
    found = measure_all(find_probes("occlusion"), make_dreams(world, who, 24, 4, 40, 2), lambda _: None).figures
    out, late = found["occlusion/came_out"], found["occlusion/late_frames"]
    assert out.floor == 1
    assert out.n >= 4
    assert late.floor < 0.05
    if fault == "none":
        assert out.value == 1
        assert late.value == late.floor
        assert found["occlusion/speed_error"].value < 0.01
    elif fault == "gone":
        assert out.value == 0
        assert late.value is None
    else:
        assert out.value == 1
        assert late.value == pytest.approx(3, abs=0.1)
        assert found["occlusion/speed_error"].value < 0.02
        assert found["occlusion/aside_px"].value < 0.2


def test_survival_takes_what_is_out_of_sight_as_censored():
    end, died = np.array([[5, 40], [10, 20]]), np.array([[True, False], [False, True]])
    share = survival(lives(Fates(end, died, {})), 40)[0]
    np.testing.assert_allclose(share[[4, 5, 18, 20, 39]], [1, 0.75, 0.75, 0.375, 0.375])


def test_scores_are_one_at_the_floor_and_never_reciprocals(ask, world, held):
    dreams = make_dreams(world, dreamer("truth", world), *SETTING, held=held)
    rows = np.arange(12)

    def law(error, floor, tolerance=0.1):
        return Invariant("x", "X", "X.", np.full(12, error), rows, np.full(12, floor), "things", tolerance=tolerance)

    assert law(0.02, 0.02).scored(dreams).value == 1
    assert law(0.0, 0.02).scored(dreams).value == 1
    assert law(0.12, 0.02).scored(dreams).value == pytest.approx(np.exp(-1))
    assert law(0.5, 0.2).allowed == pytest.approx(0.6)  # three floors, where the instrument is coarser than the law
    assert overall([law(0.0, 0.0), law(0.1, 0.0), law(9.0, 0.0)], dreams)[0] == pytest.approx(np.exp(-1))


def test_colours_in_lab():
    known = lab(np.array([[255.0, 255.0, 255.0], [0.0, 0.0, 0.0], [255.0, 0.0, 0.0]]))
    np.testing.assert_allclose(known, [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2]], atol=0.05)
    np.testing.assert_allclose(lab(np.array([[255.0]])), [[100, 0, 0]], atol=0.05)


def test_the_page_names_the_tolerances_that_hold(world, held):
    from pathlib import Path

    dreams = make_dreams(world, dreamer("truth", world), *SETTING, held=held)
    page = (Path(__file__).parents[2] / "docs/probes/physics.md").read_text("utf-8")
    stated = dict(line.split(" | ") for line in page.splitlines() if line.startswith("| `"))
    stated = {name[3:-1]: float(value.split()[0]) for name, value in stated.items()}
    assert stated == {name: law.tolerance for name, law in laws(dreams).items()}
