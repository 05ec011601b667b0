"""Extractors: what they are given and give, what they see, and a user's own."""

from __future__ import annotations

import dataclasses
import hashlib
import sys

import numpy as np
import pytest
import torch

from worldloom.contract import WorldloomError
from worldloom.evaluation.battery import dreamer, make_dreams
from worldloom.evaluation.distances import Calibrated, Embedded, ExtractorError, Own, Random3D, State, features
from worldloom.evaluation.distances import clips as clips_module
from worldloom.evaluation.distances.embedded import WEIGHTS
from worldloom.evaluation.distances.extractors import colour
from worldloom.evaluation.distances.random3d import draw_weights
from worldloom.evaluation.distances.state import TOLERANCES
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.probes import find_probes
from worldloom.worlds.balls import BallsConfig

NAMES = list(TOLERANCES)


def some(shape=(4, 16, 3, 64, 64), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def balls(count=24, frames=16, seed=0, **config):
    held = ExactWorld(BallsConfig(**{"balls": 2, "radius": 4.0, **config})).fresh(count, 1, frames - 1, seed)
    return held.segment.obs["camera"].numpy(), held.truth["position"]


@pytest.mark.parametrize("make", [Random3D, Embedded])
@pytest.mark.parametrize("shape", [(3, 8, 3, 32, 32), (2, 16, 1, 64, 64), (2, 9, 5, 40, 56), (1, 8, 3, 256, 256)])
def test_ours_take_any_size_length_and_channels(make, shape):
    extractor = make()
    found = features(extractor, some(shape))
    assert found.shape == (shape[0], {"random3d": 128, "embedded": 64}[extractor.name])
    assert np.isfinite(found).all()


@pytest.mark.parametrize("make", [Random3D, Embedded])
def test_a_clip_does_not_depend_on_its_company_and_grey_is_grey(make):
    clips = some((5, 10, 1, 32, 32))
    extractor = make()
    alone = np.concatenate([features(extractor, clips[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(features(extractor, clips), alone, atol=1e-4)
    np.testing.assert_allclose(features(extractor, clips.repeat(3, 2)), alone, atol=1e-4)


def test_large_frames_are_averaged_over_whole_pixels():
    clips = torch.from_numpy(some((1, 2, 3, 64, 64)))
    large = clips.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(colour(large), colour(clips))


def test_random_weights_are_the_same_bits_everywhere():
    digest = hashlib.sha256(b"".join(k.numpy().tobytes() for k in draw_weights())).hexdigest()
    assert digest == "989e6b7dc90e2c2e31b67f746dfbd0efb3fef2875830f7a4af873f23f9ab1247"
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(draw_weights(), draw_weights(), strict=True))
    assert not torch.equal(draw_weights(1)[0], draw_weights(2)[0])
    flat = torch.cat([k.flatten() for k in draw_weights()[2:3]])
    assert abs(float(flat.mean())) < 0.01
    assert float(flat.square().mean()) == pytest.approx(2 / (32 * 27), rel=0.05)


@pytest.mark.parametrize("make", [Random3D, Embedded])
def test_the_order_of_frames_matters(make):
    clips, _ = balls(12, speed=3.0)
    order = np.random.default_rng(0).permutation(16)
    extractor = Calibrated(make(), clips)
    straight, mixed = features(extractor, clips), features(extractor, clips[:, order])
    assert np.abs(straight - mixed).mean() > 0.2


def test_the_embedded_weights_are_small_and_their_hash_is_of_what_is_in_them():
    assert WEIGHTS.stat().st_size < 3e6
    assert Embedded().hash == Embedded().hash
    assert len(Embedded().hash) == 64


def test_the_embedded_network_was_trained_to_tell_speeds():
    clips, position = zip(*(balls(48, speed=speed, seed=4) for speed in (0.6, 1.5, 2.4, 3.3)), strict=True)
    found = features(Embedded(), np.concatenate(clips))
    speed = np.log(np.linalg.norm(np.diff(np.concatenate(position), axis=1), axis=-1).mean((1, 2)) + 0.2)
    directions = np.linalg.svd(found - found.mean(0), full_matrices=False)[0][:, :8]  # what varies most
    told = np.c_[directions, np.ones(len(found))]
    rest = speed - told @ np.linalg.lstsq(told, speed, rcond=None)[0]
    assert 1 - rest.var() / speed.var() > 0.9


# state


def test_state_measures_what_its_features_are_called():
    clips, position = balls(24, speed=2.0, gravity=(0.0, 0.15), height=96, width=96)
    state = State.of(clips, position)
    found = dict(zip(NAMES, features(state, clips).T, strict=True))
    assert np.abs(found["count"] - 2).max() < 0.2
    velocity = np.diff(position, axis=1)
    speed = np.linalg.norm(velocity, axis=-1).mean((1, 2))
    assert np.median(np.abs(found["speed"] - speed)) < 0.05
    assert np.median(found["pull_y"]) == pytest.approx(0.15, abs=0.03)
    assert abs(np.median(found["pull_x"])) < 0.03
    assert np.median(found["mass"]) == pytest.approx(2 * np.pi * 16, rel=0.03)
    assert np.abs(found["place_x"] - position[..., 0].mean((1, 2))).max() < 1


def test_state_sees_a_ball_vanish_and_an_empty_clip_is_no_failure():
    clips, position = balls(16)
    state = State.of(clips, position)
    empty = np.broadcast_to(state.scene.background.round().astype(np.uint8), clips.shape)
    found = dict(zip(NAMES, features(state, np.array(empty)).T, strict=True))
    assert (found["count"] == 0).all()
    assert (found["unseen"] == 1).all()
    assert (found["speed"] == 0).all()


def test_state_sees_two_balls_swap_their_colours():
    world = ExactWorld(BallsConfig(balls=2, radius=4.0, speed=2.0))
    held = world.fresh(24, 1, 15, 0)
    state = State.of(held.segment.obs["camera"].numpy()[:, 1:], held.truth["position"][:, 1:])
    true, swapped = (
        features(
            state, dreamer(name, world).dream(held, held.control, 15, seed=0, sensors=["camera"])["camera"].numpy()
        )
        for name in ("truth", "recolour")
    )
    column = NAMES.index("colour_change")
    assert np.median(true[:, column]) < 1
    assert np.median(swapped[:, column]) > 20


def test_what_is_constant_in_truth_is_scaled_by_what_the_tracker_can_tell():
    clips, position = balls(16, balls=1, gravity=(0.0, 0.0))
    state = State.of(clips, position)
    calibrated = Calibrated(state, clips, state.least)
    assert (calibrated.spread >= state.least).all()
    assert calibrated.spread[NAMES.index("count")] == TOLERANCES["count"]  # always one ball
    assert np.abs(features(calibrated, clips)).max() < 10


def test_calibration_is_in_the_hash_and_centres_true_clips():
    clips, other = balls(24)[0], balls(24, seed=1)[0]
    one = Calibrated(Random3D(), clips)
    assert one.hash == Calibrated(Random3D(), clips).hash
    assert one.hash != Calibrated(Random3D(), other).hash
    assert np.abs(np.sinh(features(one, clips)).mean(0)).max() < 1e-3
    assert np.abs(features(one, 255 - clips)).max() < 12  # grows slowly


# the user's own


OWN = """
import torch
from torch import nn

def flat(clips):
    return clips.float().mean((1, 3, 4))

class Made:
    name = "made"
    def __call__(self, clips):
        return clips.float().mean((1, 3, 4))

torch.manual_seed(0)
class Net(nn.Module):
    name = "mine"
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 2)
        self.drop = nn.Dropout()
    def forward(self, clips):
        return self.drop(self.lin(clips.float().mean((1, 3, 4)) / 255))

net = Net()
wide = lambda clips: torch.zeros(len(clips), 2, 2)
double = lambda clips: torch.zeros(len(clips), 2).double()
short = lambda clips: torch.zeros(len(clips) - 1, 2)
holes = lambda clips: torch.full((len(clips), 2), float("nan"))
array = lambda clips: clips.numpy()
words = lambda clips: ["cat"] * len(clips)
flat_array = lambda clips: flat(clips).numpy()
def breaks(clips):
    raise ValueError("no such layer")
def uneven(clips):
    return torch.zeros(len(clips), 2 + len(clips) % 2)
number = 3
state = flat
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_features.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_features", raising=False)
    return tmp_path / "my_features.py"


def test_functions_classes_and_modules_of_the_user(own):
    clips = some((20, 8, 3, 16, 16))
    want = clips.mean((1, 3, 4))
    np.testing.assert_allclose(features(Own("my_features:flat"), clips), want, rtol=1e-4)
    np.testing.assert_array_equal(
        features(Own("my_features:flat_array"), clips), features(Own("my_features:flat"), clips)
    )
    made = Own("my_features:Made")
    assert made.name == "made"
    np.testing.assert_allclose(features(made, clips), want, rtol=1e-4)
    net = Own("my_features:Net")
    assert net.name == "mine"
    np.testing.assert_array_equal(features(net, clips), features(net, clips))  # evaluation mode: nothing drops out


def test_the_hash_follows_the_source_and_the_weights(own):
    plain, net = Own("my_features:flat").hash, Own("my_features:net")
    assert plain == Own("my_features:flat").hash
    with torch.no_grad():
        net.made.lin.weight += 1
    assert Own("my_features:net").hash != net.hash
    own.write_text(OWN + "\n# changed\n")
    assert Own("my_features:flat").hash != plain


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wide", r"must return a tensor \(16, d\) float32 for 16 clips, found \(16, 2, 2\) float32"),
        ("double", r"found \(16, 2\) float64"),
        ("short", r"found \(15, 2\)"),
        ("holes", r"NaN or infinity in 16 of 16"),
        ("array", r"found \(16, 8, 3, 16, 16\) uint8"),
        ("words", r"must return a tensor \(16, d\) float32, found list"),
        ("breaks", r"'breaks' can't take clips of shape \(16, 8, 3, 16, 16\) uint8: ValueError: no such layer"),
        ("uneven", r"\(1, 2\) float32 for 1 clips, found \(1, 3\)"),
    ],
)
def test_what_is_wrong_with_an_extractor_is_told(own, name, said):
    with pytest.raises(ExtractorError, match=said):
        features(Own(f"my_features:{name}"), some((17, 8, 3, 16, 16)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_features:number", "is a int, not a callable"),
        ("my_features:state", "none of ours"),
        ("my_features:flatt", "Did you mean 'flat'"),
        ("my_featurs:flat", "no module"),
        ("my_features", "module:Class"),
    ],
)
def test_an_extractor_that_is_none_is_told(own, name, said):
    with pytest.raises(WorldloomError, match=said):
        Own(name)


def test_the_kernel_probe_measures_by_the_users_own(own, monkeypatch):
    monkeypatch.setattr(clips_module, "CLIPS", 32)
    monkeypatch.setattr(clips_module, "LEARNT", 16)
    monkeypatch.setattr(clips_module, "extractors", lambda dreams, found: [Own(dreams.extractor)])
    world = ExactWorld(BallsConfig(height=32, width=32, radius=3.0))
    dreams = dataclasses.replace(make_dreams(world, dreamer("noise", world), 4, 3, 8, 0), extractor="my_features:flat")
    (probe,) = find_probes("kernel")
    found = probe.measure(dreams)
    assert set(found) == {"kernel/flat", "kernel/flat_p"}
    assert found["kernel/flat"].hashes["extractor"] == Own("my_features:flat").hash


def test_one_that_fails_takes_no_other_with_it(own, monkeypatch):
    monkeypatch.setattr(clips_module, "CLIPS", 32)
    monkeypatch.setattr(clips_module, "LEARNT", 16)
    world = ExactWorld(BallsConfig(height=32, width=32, radius=3.0))
    dreams = dataclasses.replace(make_dreams(world, dreamer("noise", world), 4, 3, 8, 0), extractor="my_features:wide")
    found = clips_module.measured(dreams)
    assert set(found) == {"state", "embedded", "random3d"}
    assert set(clips_module.left_out(dreams)) == {"wide"}
    assert "must return a tensor (16, d) float32" in clips_module.left_out(dreams)["wide"]
    # where the tracker finds nothing at the places that the data call positions, there are no features of objects
    elsewhere = dataclasses.replace(dreams, cache={}, extractor=None)
    monkeypatch.setattr(
        clips_module.State, "of", staticmethod(lambda *_: (_ for _ in ()).throw(WorldloomError("None.")))
    )
    assert set(clips_module.measured(elsewhere)) == {"embedded", "random3d"}
    assert clips_module.left_out(elsewhere) == {"state": "None."}


def test_a_report_is_written_without_the_one_that_fails_and_the_failure_is_raised(own, monkeypatch, tmp_path):
    import toy_discs

    from worldloom import models
    from worldloom.evaluation import evaluate, load_report
    from worldloom.evaluation.probes import ProbeError

    monkeypatch.setitem(models.FAMILIES, "toy", ("toy_discs", "Toy"))
    monkeypatch.setattr(clips_module, "CLIPS", 32)
    monkeypatch.setattr(clips_module, "LEARNT", 16)
    run = toy_discs.write_run(tmp_path / "run", toy_discs.write_discs(tmp_path / "data", episodes=160, length=32))
    small = {"starts": 4, "prompt": 3, "horizon": 8, "count_horizon": 8, "other_actions": False, "progress": None}
    with pytest.raises(ProbeError, match=r"'wide' must return a tensor"):
        evaluate(run, **small, probes="kernel", extractor="my_features:wide")
    report = load_report(run)
    assert "kernel/embedded" in report.figures
    assert any("without the features of 'wide'" in note for note in report.notes)
    (run / "report.json").unlink()
    with pytest.raises(WorldloomError, match="Did you mean 'flat'"):  # told before anything is dreamed
        evaluate(run, **small, probes="none", extractor="my_features:flatt")
    assert not (run / "report.json").exists()


def test_clips_are_checked_at_the_door():
    with pytest.raises(ExtractorError, match=r"uint8, found float32 \(2, 8, 3, 16, 16\)"):
        features(Random3D(), some((2, 8, 3, 16, 16)).astype(np.float32))
