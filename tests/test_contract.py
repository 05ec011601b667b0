"""Spec, Segment and State: what they refuse, and that they come back unchanged."""

from __future__ import annotations

import dataclasses
import json

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import (
    ContractError,
    Control,
    Segment,
    Sensor,
    Spec,
    State,
    UnsupportedError,
    WorldModel,
    mix,
    row_keys,
)

quick = settings(max_examples=25, deadline=None)
# Strategies draw plain JSON: building our classes inside one would call the run-time type checker's own random draws.
names = st.text("abcxyz_", min_size=1, max_size=6)
sizes = st.integers(1, 9)
bounds = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=4)
sensors = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["image", "range"]), "shape": st.tuples(sizes, sizes, sizes)}),
    st.fixed_dictionaries({"kind": st.just("vector"), "shape": st.tuples(sizes), "unit": st.just("m")}),
)
given_json = st.one_of(
    sizes.map(lambda n: {"kind": "discrete", "n": n, "names": [str(i) for i in range(n)]}),
    bounds.map(lambda low: {"kind": "continuous", "shape": [len(low)], "low": low, "high": [x + 1 for x in low]}),
    st.just({"kind": "map", "shape": [2, 4, 4]}),
    st.just({"kind": "tokens", "shape": [7], "n": 9, "per": "once"}),
)
specs = st.fixed_dictionaries(
    {
        "shown": st.dictionaries(names, sensors, min_size=1, max_size=3),
        "given": st.dictionaries(names, given_json, max_size=3),
        "fps": st.floats(1, 120),
    }
)


# --------------------------------------------------------------------------------------- spec


@quick
@given(specs)
def test_a_spec_survives_json(data):
    spec = Spec.from_json(data)
    assert list(spec.shown) == list(data["shown"])
    assert all(spec.given[name].kind == control["kind"] for name, control in data["given"].items())
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "data", [{}, {"shown": {}}, {"shown": 3}, {"shown": {"a": {"kind": "vector", "shape": [2], "extra": 1}}}]
)
def test_json_that_is_no_spec_is_refused(data):
    with pytest.raises(ContractError):
        Spec.from_json(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sensor("image", (32, 32)),
        lambda: Sensor("vector", (0,)),
        lambda: Control("discrete"),
        lambda: Control("discrete", (1,), n=2),
        lambda: Control("continuous", (2,), low=(0.0,)),
        lambda: Control("map", (2, 3, 3), high=(1.0,)),
        lambda: Spec({}),
        lambda: Spec({"x": Sensor("vector", (1,))}, fps=0.0),
    ],
)
def test_specs_that_make_no_sense_are_refused(make):
    with pytest.raises(ContractError):
        make()


def test_controls_of_numpys_numbers_and_lists_are_plain_ones(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users do not check types
    button = Control("discrete", n=np.int64(2), names=["left", "right"])
    assert button == Control("discrete", n=2, names=("left", "right"))
    stick = Control("continuous", (1,), low=[np.float32(-1)], high=(np.float64(1),))
    spec = Spec({"x": Sensor("vector", (np.int64(1),))}, {"action": button, "stick": stick}, fps=np.float32(10))
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@quick
@given(st.integers(1, 5), st.integers(-3, 8))
def test_a_discrete_control_takes_its_choices_and_none(n, choice):
    control = Control("discrete", n=n)
    value = torch.tensor([0, choice])
    if 0 <= choice <= control.n:
        control.check(value, (2,), "action")
    else:
        with pytest.raises(ContractError, match=str(choice)):
            control.check(value, (2,), "action")


@quick
@given(bounds, st.floats(0, 1), st.integers(0, 3), st.sampled_from([-1, 1]))
def test_a_continuous_control_takes_its_bounds_and_zeros(low, share, entry, side):
    control = Control("continuous", (len(low),), low=tuple(low), high=tuple(x + 1 for x in low))
    low, high = torch.tensor(control.low), torch.tensor(control.high)
    inside = low + share * (high - low)
    control.check(torch.stack([inside, torch.zeros_like(inside)]), (2,), "action")
    outside = inside.clone()
    outside[entry % len(low)] = high.max() + 20 if side > 0 else low.min() - 20
    with pytest.raises(ContractError, match="outside its bounds"):
        control.check(outside[None], (1,), "action")
    control.check(outside[None], (1,), "action", values=False)
    with pytest.raises(ContractError, match="NaN"):
        control.check(torch.full((1, len(low)), torch.nan), (1,), "action")


def test_rest_is_what_does_nothing_and_not_the_null_value():
    moves = Control("discrete", n=3, names=("left", "Stay ", "right"))
    assert moves.rest(2, 4).tolist() == [[1] * 4] * 2
    assert moves.null().item() == 3
    assert Control("discrete", n=2, names=("left", "right")).rest() is None
    assert Control("discrete", n=2).rest() is None
    pull = Control("continuous", (3,), low=(-1.0, 0.2, -3.0), high=(1.0, 1.0, -2.0))
    assert pull.rest(2).tolist() == [[0.0, pytest.approx(0.2), -2.0]] * 2
    pull.check(pull.rest(5), (5,), "action")
    assert Control("continuous", (2,)).rest().tolist() == [0.0, 0.0]
    assert Control("tokens", (4,), n=9).rest() is None


def test_the_null_value_passes_every_check():
    for control in (
        Control("discrete", n=3),
        Control("continuous", (2,), low=(1.0, 1.0), high=(2.0, 2.0)),
        Control("map", (1, 2, 2)),
        Control("tokens", (4,), n=5),
    ):
        null = control.null(2, 3)
        assert null.shape == (2, 3, *control.shape)
        assert null.dtype == control.dtype
        control.check(null, (2, 3), "x")


def test_controls_are_read_from_a_tensor_a_mapping_or_nothing():
    spec = Spec(
        {"x": Sensor("vector", (1,))},
        {"action": Control("discrete", n=2), "task": Control("tokens", (3,), n=4, per="once")},
    )
    action = torch.tensor([0, 2])
    assert torch.equal(spec.controls(action, 2)["action"], action)
    out = spec.controls({"action": action.to(torch.int32)}, 2)
    assert out.keys() == {"action"}
    assert out["action"].dtype == torch.int64
    for wrong in (None, {}, {"action": action, "acton": action}, action.float(), action[None], action.bool()):
        with pytest.raises(ContractError):
            spec.controls(wrong, 2)
    plain = Spec({"x": Sensor("vector", (1,))})
    assert plain.controls(None, 2) == {}
    with pytest.raises(ContractError, match="Unknown"):
        plain.controls(action, 2)


def test_observations_must_fit():
    spec = Spec({"x": Sensor("image", (1, 2, 2)), "y": Sensor("vector", (3,))})
    good = {"x": torch.zeros(4, 1, 2, 2, dtype=torch.uint8), "y": torch.zeros(4, 3), "more": torch.zeros(1)}
    spec.check_obs(good, 4)
    for name, value in (
        ("x", good["x"].float()),
        ("x", good["x"][:2]),
        ("y", good["y"].double()),
        ("y", torch.zeros(4, 2)),
    ):
        with pytest.raises(ContractError, match=name):
            spec.check_obs({**good, name: value}, 4)
    with pytest.raises(ContractError, match="Missing"):
        spec.check_obs({"x": good["x"]}, 4)


# ------------------------------------------------------------------------------------ segment


def _segment(batch=3, length=5):
    lead = (batch, length)
    return Segment(
        {"x": torch.arange(batch * length).reshape(*lead, 1).float()},
        {"action": torch.arange(batch * length).reshape(lead), "task": torch.arange(batch)[:, None]},
        torch.zeros(lead, dtype=torch.bool),
        torch.ones(lead, dtype=torch.bool),
        reward=torch.arange(batch * length).reshape(lead).float(),
        once=frozenset({"task"}),
    )


def test_a_segment_is_cut_by_rows_and_by_time():
    segment = _segment()
    part = segment.time(slice(1, 3)).rows([2, 0])
    assert (part.batch, part.length) == (2, 2)
    assert part.action.tolist() == [[11, 12], [1, 2]]
    assert part.obs["x"][..., 0].tolist() == part.action.tolist() == part.reward.tolist()
    assert part.control["task"].tolist() == [[2], [0]]
    assert part.terminal is None
    assert part.first.shape == part.valid.shape == (2, 2)


def test_what_is_given_once_is_known_by_its_name_and_not_by_its_shape():
    """Of 5 entries in sequences of 5 frames: cut by rows, never by time."""
    task = torch.arange(15).reshape(3, 5)
    segment = dataclasses.replace(_segment(3, 5), control={"action": task * 2, "task": task})
    part = segment.time(slice(1, 3))
    assert torch.equal(part.control["task"], task)
    assert part.action.shape == (3, 2)
    assert torch.equal(part.time(slice(0, 1)).rows([2]).to("cpu").control["task"], task[2:])
    unnamed = dataclasses.replace(segment, control={"task": task[:, :4]}, once=frozenset())
    with pytest.raises(ContractError, match=r"'task' has shape \(3, 4\).*Segment.once"):
        unnamed.time(slice(0, 2))


# -------------------------------------------------------------------------------------- state


def _state(batch, seed=0):
    return State(
        {
            "key": row_keys(batch, seed),
            "frame": torch.arange(batch),
            "h": torch.randn(batch, 3),
            "ring": torch.randint(0, 9, (batch, 2, 2)),
        }
    )


def _equal(a: State, b: State) -> bool:
    return a.tensors.keys() == b.tensors.keys() and all(torch.equal(a[n], b[n]) for n in a.tensors)


@quick
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 5))
def test_stack_and_split_are_inverse(sizes, size):
    parts = [_state(n, seed) for seed, n in enumerate(sizes)]
    whole = State.stack(parts)
    assert whole.batch == sum(sizes)
    assert _equal(State.stack(whole.split(size)), whole)
    start = 0
    for part in parts:
        assert _equal(whole[start : start + part.batch], part)
        start += part.batch


@quick
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_rows_are_picked_and_repeated(batch, n, data):
    state = _state(batch)
    rows = data.draw(st.lists(st.integers(0, batch - 1), min_size=1, max_size=5))
    assert _equal(state[rows], State.stack(state[i] for i in rows))
    assert _equal(state[torch.tensor(rows)], state[rows])
    assert _equal(state[rows[0] - batch], state[rows[0]])
    assert _equal(state.repeat(n), state[[i for i in range(batch) for _ in range(n)]])
    with pytest.raises(IndexError):
        state[batch]


def test_clone_shares_no_memory_and_detach_cuts_the_graph():
    state = _state(2)
    copy = state.clone()
    copy["h"].zero_()
    assert state["h"].any()
    graph = state.replace(h=state["h"].requires_grad_() * 2)
    assert graph["h"].requires_grad
    assert not graph.detach()["h"].requires_grad
    assert _equal(state.to("cpu"), state)


def test_states_that_make_no_sense_are_refused():
    good = _state(2).tensors
    for bad in (
        {"key": good["key"]},
        {**good, "frame": good["frame"].float()},
        {**good, "h": torch.zeros(3, 1)},
        {**good, "h": torch.zeros(())},
    ):
        with pytest.raises(ContractError):
            State(bad)
    with pytest.raises(ContractError):
        State.stack([])
    with pytest.raises(ContractError):
        State.stack([_state(1), _state(1).replace(more=torch.zeros(1))])


# ------------------------------------------------------------------------------ keys and hashes


@quick
@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5))
def test_a_row_has_the_key_it_would_have_alone(seeds):
    keys = row_keys(len(seeds), seeds)
    assert torch.equal(keys, torch.cat([row_keys(1, seed) for seed in seeds]))
    assert torch.equal(keys, row_keys(len(seeds), torch.tensor(seeds)))


def test_keys_do_not_depend_on_the_batch_and_differ_by_row_and_seed():
    assert torch.equal(row_keys(8, 3)[:5], row_keys(5, 3))
    many = torch.cat([row_keys(500, seed) for seed in range(20)])
    assert many.unique().numel() == many.numel()
    for wrong in ([1, 2], torch.tensor(1)):
        with pytest.raises(ContractError, match="one seed or one per row"):
            row_keys(3, wrong)


def test_reseeding_gives_independent_futures():
    branches = _state(3).repeat(8).reseed(1)
    assert branches.key.unique().numel() == 24
    assert torch.equal(branches.key, _state(3).repeat(8).reseed(1).key)
    assert not torch.equal(branches.key, _state(3).repeat(8).reseed(2).key)


def test_mix_is_splitmix64s_finaliser():
    """Against Python's unbounded integers, over numbers of both signs."""
    mask = 2**64 - 1

    def slow(a: int, b: int) -> int:
        z = (a * 0x9E3779B97F4A7C15 + b + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        return z - 2**64 if z >= 2**63 else z

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-(2**63), 2**63 - 1, (200,), generator=generator) for _ in range(2))
    expected = [slow(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    assert mix(a, b).tolist() == expected
    assert mix(a[:1], 5).tolist() == [slow(int(a[0]), 5)]


def test_mix_changes_half_the_bits():
    """Flipping any one input bit flips each output bit about every second time."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-(2**63), 2**63 - 1, (2000,), generator=generator)
    b = torch.randint(-(2**63), 2**63 - 1, (2000,), generator=generator)
    base, places = mix(a, b), torch.arange(64)
    for bit in (0, 1, 17, 40, 62):
        for flipped in (mix(a ^ (1 << bit), b), mix(a, b ^ (1 << bit))):
            changed = ((base ^ flipped)[:, None] >> places & 1).float().mean(0)
            assert float((changed - 0.5).abs().max()) < 0.07  # six standard errors


# -------------------------------------------------------------------------------------- model


def test_what_a_model_lacks_is_a_clear_error():
    class Bare(WorldModel):
        capabilities = frozenset({"reward"})

        def loss(self, segment, generator=None): ...
        def start(self, batch, seed=0, control=None): ...
        def observe(self, state, obs, control=None, *, first=None, donate=False): ...
        def step(self, state, control=None, *, donate=False): ...
        def features(self, state): ...

    model, state = Bare(Spec({"x": Sensor("vector", (1,))})), _state(1)
    with pytest.raises(UnsupportedError, match="decode"):
        model.decode(state)
    with pytest.raises(UnsupportedError, match="fill"):
        model.fill(_segment(), torch.ones(3, 5))
    with pytest.raises(ContractError, match=r"claims .*reward"):
        model.reward(state)
    model.require("reward")
    with pytest.raises(UnsupportedError, match="unprompted"):
        model.require("reward", "unprompted")
