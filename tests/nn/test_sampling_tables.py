"""Sampling tables: what each promises, what is refused, and that every frame goes from noise to clean."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import ContractError
from worldloom.nn import tables

FRAMES, STEPS = st.integers(1, 12), st.integers(1, 6)
SHIFT = st.floats(0.1, 10.0)
quick = settings(max_examples=60, deadline=None)


@st.composite
def named(draw):
    """Any table of the registry: (name, frames, steps, options)."""
    name = draw(st.sampled_from(sorted(tables.TABLES)))
    options = {"shift": draw(SHIFT)}
    if name == "pyramid":
        options["lag"] = draw(st.integers(0, 8))
    if name == "keyframes":
        options["every"] = draw(st.integers(1, 15))
    return name, draw(FRAMES), draw(STEPS), options


@quick
@given(named())
def test_every_table_of_the_registry_is_one(one):
    name, frames, steps, options = one
    table = tables.make(name, frames, steps, **options)
    assert table.dtype == torch.float32
    tables.check_table(table, frames)
    assert torch.equal(table[0], torch.zeros(frames))
    for frame in table.T:  # each takes all its steps, the same times as every other
        assert torch.equal(frame.unique(), tables.times(steps, options["shift"]))


@quick
@given(FRAMES, STEPS, SHIFT)
def test_a_lag_of_nothing_is_joint_and_one_of_all_steps_autoregressive(frames, steps, shift):
    assert torch.equal(tables.pyramid(frames, steps, 0, shift), tables.joint(frames, steps, shift))
    assert torch.equal(tables.pyramid(frames, steps, steps, shift), tables.autoregressive(frames, steps, shift))
    assert torch.equal(tables.keyframes(frames, steps, 1, shift), tables.joint(frames, steps, shift))


def test_small_tables_written_out():
    n, h = 0.0, 0.5
    assert tables.joint(3, 2).tolist() == [[n, n, n], [h, h, h], [1, 1, 1]]
    assert tables.autoregressive(2, 2).tolist() == [[n, n], [h, n], [1, n], [1, h], [1, 1]]
    assert tables.pyramid(3, 2).tolist() == [[n, n, n], [h, n, n], [1, h, n], [1, 1, h], [1, 1, 1]]
    assert tables.keyframes(6, 1, 2).tolist() == [[n] * 6, [1, n, 1, n, 1, 1], [1] * 6]
    assert tables.keyframes(2, 1, 5).tolist() == [[n, n], [1, 1]]


@quick
@given(st.integers(2, 12), STEPS, st.integers(1, 8))
def test_in_a_pyramid_a_frame_is_never_cleaner_than_the_one_before(frames, steps, lag):
    table = tables.pyramid(frames, steps, lag)
    assert len(table) == steps + lag * (frames - 1) + 1
    assert bool((table[:, 1:] <= table[:, :-1]).all())
    under_way = ((table > 0) & (table < 1)).sum(1).max()
    assert int(under_way) <= -(-steps // lag)


@quick
@given(st.integers(1, 40), SHIFT)
def test_the_shift_is_that_of_the_papers_read_from_the_clean_end(steps, shift):
    found = tables.times(steps, shift)
    noise = torch.linspace(1, 0, steps + 1)
    torch.testing.assert_close(1 - found, shift * noise / (1 + (shift - 1) * noise), atol=1e-6, rtol=1e-5)
    assert found[0] == 0
    assert found[-1] == 1
    assert bool((found.diff() > 0).all())
    torch.testing.assert_close(1 - found.flip(0), tables.times(steps, 1 / shift), atol=1e-6, rtol=1e-5)


def test_a_shift_above_one_stays_longer_in_noise():
    assert bool((tables.times(8, 3.0)[1:-1] < tables.times(8)[1:-1]).all())
    torch.testing.assert_close(tables.times(4), torch.tensor([0, 0.25, 0.5, 0.75, 1]))


@quick
@given(named())
def test_moves_lead_from_noise_to_clean(one):
    name, frames, steps, options = one
    table = tables.make(name, frames, steps, **options)
    at, passes = table[0], torch.zeros(frames, dtype=torch.long)
    for now, then, moving in tables.moves(table):
        assert torch.equal(now, at)
        assert torch.equal(then > now, moving)
        assert bool(moving.any())
        at, passes = then, passes + moving
    assert torch.equal(at, torch.ones(frames))
    assert torch.equal(passes, torch.full((frames,), steps))


def test_a_step_in_which_nothing_moves_is_left_out():
    table = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.5, 1.0], [0.5, 1.0], [1.0, 1.0]])
    tables.check_table(table, 2)
    assert [m.tolist() for _, _, m in tables.moves(table)] == [[True, False]] * 2


def test_which_tables_need_the_future():
    assert not tables.needs_future(tables.autoregressive(5, 3))
    assert not tables.needs_future(tables.pyramid(5, 3, lag=7))
    assert tables.needs_future(tables.pyramid(5, 3, lag=2))
    assert tables.needs_future(tables.joint(2, 1))
    assert not tables.needs_future(tables.joint(1, 4))
    assert tables.needs_future(tables.keyframes(3, 2, 2))
    first_given = tables.joint(3, 2)
    first_given[:, :2] = 1
    assert not tables.needs_future(first_given)
    backward = tables.autoregressive(4, 2).flip(1)
    assert tables.needs_future(backward)


@settings(max_examples=40, deadline=None)
@given(named(), st.data())
def test_needs_future_as_slowly_as_it_can_be_said(one, data):
    name, frames, steps, options = one
    table = tables.make(name, frames, steps, **options)
    table = table[:, data.draw(st.permutations(range(frames)))]
    slow = any(
        table[s + 1, j] > table[s, j] and any(table[s, i] < 1 for i in range(j))
        for s in range(len(table) - 1)
        for j in range(frames)
    )
    assert tables.needs_future(table) == slow


WRONG = {
    "never cleans frame 1: its last row must be all 1, found 0.99999994": (3, 1, 1 - 2**-24),
    "above: times never fall": (2, 1, 0.0),
    "has 1.5 for frame 1 in row 2": (2, 1, 1.5),
    "has -0.1 for frame 0 in row 0": (0, 0, -0.1),
    "has nan for frame 2 in row 1": (1, 2, float("nan")),
}


@pytest.mark.parametrize("words", list(WRONG))
def test_the_first_wrong_entry_is_named(words):
    table = tables.joint(3, 3)
    row, frame, value = WRONG[words]
    table[row, frame] = value
    with pytest.raises(ContractError, match=words):
        tables.check_table(table, 3)


def test_the_first_of_several_is_named():
    table = tables.joint(3, 3)
    table[2] = torch.tensor([0.0, 2.0, float("nan")])
    with pytest.raises(ContractError, match=r"has 0\.0 for frame 0 in row 2, below its 0\.33333"):
        tables.check_table(table, 3)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (torch.ones(3), "found float32 \\(3,\\)"),
        (torch.ones(2, 3, 4), "\\(2, 3, 4\\)"),
        (torch.ones(1, 4), "at least one step"),
        (torch.ones(2, 4, dtype=torch.long), "found int64"),
        (torch.ones(2, 5), "for 5 frames, but the clip has 4"),
    ],
)
def test_what_is_no_table_for_this_clip_is_said(table, words):
    with pytest.raises(ContractError, match=words):
        tables.check_table(table, 4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-0.5, 1.5, width=32) | st.just(1.0), min_size=2, max_size=2), min_size=2, max_size=4)
)
def test_what_passes_is_a_table_and_what_does_not_is_not(rows):
    table = torch.tensor(rows, dtype=torch.float32)
    good = all(0 <= x <= 1 for row in rows for x in row) and rows[-1] == [1.0, 1.0]
    good = good and all(a[j] <= b[j] for a, b in itertools.pairwise(rows) for j in range(2))
    try:
        tables.check_table(table, 2)
        passed = True
    except ContractError:
        passed = False
    assert passed == good


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tables.make("piramid", 4, 2), "Did you mean 'pyramid'"),
        (lambda: tables.make("xyz", 4, 2), "Tables: \\['autoregressive'"),
        (lambda: tables.make("pyramid", 4, 2, lags=1), "Did you mean 'lag'"),
        (lambda: tables.make("joint", 4, 2, every=1), "Options: \\['shift'\\]"),
        (lambda: tables.make("keyframes", 4, 2), "needs a value for 'every'"),
        (lambda: tables.make("joint", 0, 2), "frames .* at least 1, found 0"),
        (lambda: tables.joint(3, 0), "steps .* found 0"),
        (lambda: tables.pyramid(3, 2, -1), "lag .* at least 0, found -1"),
        (lambda: tables.keyframes(3, 2, 0), "every .* found 0"),
        (lambda: tables.times(3, 0.0), "shift must be a positive number"),
        (lambda: tables.times(3, float("nan")), "shift must be"),
        (lambda: tables.staggered([], 2), "frames .* found 0"),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(call, words):
    with pytest.raises(ContractError, match=words):
        call()
