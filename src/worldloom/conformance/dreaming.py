"""Checks of dreams: keyed randomness, resets, states as values, causality, what controls and observations do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worldloom.conformance.bench import SAME, Bench, Named, copied, gap, need, pick, same
from worldloom.contract import State


def _rows(bench: Bench, seeds: Sequence[int], rows: Sequence[int], names: Sequence[str]) -> list[Named]:
    """Frames of a batch whose i-th row has the key of ``seeds[i]`` and lives the life ``names[i]``, row ``rows[i]``."""

    def joined(make: Callable[..., Named], *path: int | str) -> Named:
        parts = [pick(make(4, name, *path), slice(row, row + 1)) for row, name in zip(rows, names, strict=True)]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    model, batch = bench.model, len(rows)
    state = bench.start(batch, list(seeds), joined(bench.once))
    for t in range(3):
        control = joined(bench.control, t) if t else bench.null(batch)
        state = model.observe(state, joined(bench.obs, t), control)
    looks = [bench.look(state)]
    for t in range(bench.frames):
        state = model.step(state, joined(bench.control, "dream", t))
        looks.append(bench.look(state))
    return looks


@torch.no_grad()
def randomness(bench: Bench) -> None:
    """A row's dream is a function of its key and its own life, never of the batch nor of a global generator."""
    seeds = [11, 12, 13, 14]
    batch = _rows(bench, seeds, range(4), ["mine"] * 4)
    torch.manual_seed(bench.seed + 1)
    again = _rows(bench, seeds, range(4), ["mine"] * 4)
    need(
        all(same(a, b) for a, b in zip(batch, again, strict=True)),
        "The same keys gave two dreams: draw by (key, frame, place), never from a global generator.",
    )
    others = _rows(bench, [11, 21, 22, 23], range(4), ["mine", "other", "other", "other"])
    need(
        all(same(pick(a, [0]), pick(b, [0])) for a, b in zip(batch, others, strict=True)),
        "At equal batch shape a row's dream must be bitwise the same whoever shares the batch.",
    )
    for row in (0, 3):
        alone = _rows(bench, seeds[row : row + 1], [row], ["mine"])
        far = [gap(pick(a, [row]), b) for a, b in zip(batch, alone, strict=True)]
        need(
            max(far) <= SAME,
            f"Row {row} of 4 dreams another dream alone, with the same key: frames differ by {max(far):.3g} "
            f"(at most {SAME} within {bench.frames} frames).",
        )


@torch.no_grad()
def first(bench: Bench) -> None:
    """``first`` forgets the past and the action of its rows, and of no others; key and frame count go on."""
    model, batch = bench.model, 2
    obs, control = bench.obs(batch, "new"), bench.control(batch, "new")
    begins = torch.ones(batch, dtype=torch.bool, device=model.device)
    past = [bench.seen(batch, life) for life in ("one", "two")]
    reset = [model.observe(state, obs, control, first=begins) for state in past]
    need(bool((reset[0].frame == past[0].frame + 1).all()), "`frame` must go on counting at `first`.")
    need(torch.equal(reset[0].key, past[0].key), "Keys must stay at `first`.")
    fresh = bench.start(batch).replace(frame=past[0].frame.clone())
    fresh = model.observe(fresh, obs, bench.null(batch))
    lives = [_life(bench, state) for state in (*reset, fresh)]
    need(
        max(map(gap, lives[0], lives[1])) <= 1e-5,
        "Observing with first=True must forget what was before, but the past still shows.",
    )
    need(
        max(map(gap, lives[0], lives[2])) <= 1e-5,
        "Observing with first=True must equal a fresh state of the same key and frame count that observes with the "
        "null action.",
    )
    begins[1] = False
    mixed, plain = model.observe(past[0], obs, control, first=begins), model.observe(past[0], obs, control)
    lives = [_life(bench, state) for state in (mixed, reset[0], plain)]
    rows = [max(gap(pick(a, [i]), pick(b, [i])) for a, b in zip(lives[0], lives[1 + i], strict=True)) for i in (0, 1)]
    need(max(rows) <= 1e-5, "`first` must reset the rows that it marks, and no others.")


def _life(bench: Bench, state: State) -> list[Named]:
    """What a state looks like, then after two dreamed frames, one observed and two dreamed ones."""
    views = [bench.view(state)]
    state, dreamed = bench.dream(state, "life", count=2)
    state = bench.model.observe(state, bench.obs(state.batch, "life"), bench.control(state.batch, "life"))
    return [*views, *dreamed, bench.view(state), *bench.dream(state, "life on", count=2)[1]]


@torch.no_grad()
def rows(bench: Bench) -> None:
    """States of any age can be stacked, split, indexed and repeated without changing what follows."""
    model = bench.model
    ages = [bench.seen(1, "young", count=1), bench.seen(1, "old", count=4, state=bench.start(1, 1))]
    for t in range(bench.frames):
        ages[1] = model.step(ages[1], bench.control(1, "ageing", t))
    ages.append(model.step(bench.seen(1, "middle", count=2, state=bench.start(1, 2)), bench.control(1, "ageing")))

    def follow(state: State, picked: Sequence[int]) -> list[Named]:
        """Five frames under the controls and observations of the rows ``picked``."""
        looks = [bench.look(state)]
        for t in range(5):
            control = pick(bench.control(3, "follow", t), list(picked))
            if t == 2:
                state = model.observe(state, pick(bench.obs(3, "follow"), list(picked)), control)
            else:
                state = model.step(state, control)
            looks.append(bench.look(state))
        return looks

    alone = [follow(state, [i]) for i, state in enumerate(ages)]
    stacked = State.stack(ages)
    ways: dict[str, tuple[State, list[int]]] = {
        "stacked with others of another age": (stacked, [0, 1, 2]),
        "repeated": (stacked.repeat(2), [0, 0, 1, 1, 2, 2]),
        "indexed by a list": (stacked[[2, 0]], [2, 0]),
        "indexed by a tensor": (stacked[torch.tensor([1, 1])], [1, 1]),
        "split off": (stacked.split(2)[1], [2]),
        "cloned": (stacked.clone(), [0, 1, 2]),
    }
    for how, (state, picked) in ways.items():
        looks = follow(state, picked)
        for place, row in enumerate(picked):
            far = max(gap(pick(a, [place]), b) for a, b in zip(looks, alone[row], strict=True))
            need(far <= SAME, f"A state that was {how} dreams on differently: frames differ by {far:.3g}.")


@torch.no_grad()
def age(bench: Bench) -> None:
    """Names, shapes and dtypes of a state are the same at every age."""

    def form(state: State) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        return {name: (tuple(x.shape), x.dtype) for name, x in state.tensors.items()}

    model = bench.model
    state = bench.start(1)
    expected = form(state)
    for t in range(bench.frames + 8):
        if t < 4 or t % 5 == 0:
            state = model.observe(state, bench.obs(1, t), bench.control(1, t) if t else bench.null(1))
        else:
            state = model.step(state, bench.control(1, t))
        changed = {n for n in expected.keys() | form(state).keys() if expected.get(n) != form(state).get(n)}
        need(
            not changed,
            f"After {t + 1} frames the state's {sorted(changed)} have other shapes or dtypes than when empty: "
            f"{ {n: form(state).get(n) for n in sorted(changed)} }. Use rings of fixed size and masks.",
        )


@torch.no_grad()
def read_only(bench: Bench) -> None:
    """No method writes into the state, frames or controls that it is given."""
    model, batch = bench.model, 2
    state = bench.seen(batch)
    obs, control = bench.obs(batch), bench.control(batch)
    given: Named = {**state.tensors, **{f"sensor {k}": v for k, v in obs.items()}}
    given |= {f"control {k}": v for k, v in control.items()}
    before = copied(given)
    begins = torch.tensor([True, False], device=model.device)
    calls: dict[str, Callable[[], object]] = {
        "step": lambda: model.step(state, control),
        "observe": lambda: model.observe(state, obs, control),
        "observe with first": lambda: model.observe(state, obs, control, first=begins),
        "features, decode, reward or terminal": lambda: bench.view(state),
    }
    for name, call in calls.items():
        call()
        changed = sorted(k for k in given if not torch.equal(given[k], before[k]))
        need(not changed, f"{name} wrote into what it was given: {changed}.")
    need(bool(begins[0]) and not bool(begins[1]), "observe wrote into `first`.")


@torch.no_grad()
def donate(bench: Bench) -> None:
    """``donate=True`` gives the same result, and takes nothing but the state that was donated."""
    for newest in ("step", "observe"):
        _donate(bench, newest)


def _donate(bench: Bench, newest_by: str) -> None:
    """Go on by donation from a state that was made by ``newest_by``, while older and other states are held."""
    model, batch = bench.model, 2

    def advance(state: State, name: str) -> State:
        control = bench.control(batch, name)
        return model.step(state, control) if newest_by == "step" else model.observe(state, obs, control)

    obs, once = bench.obs(batch, "seen"), bench.once(batch)
    seeds = torch.tensor([3, 4], device=model.device)
    older = [model.start(batch, seeds, once or None)]
    older.append(model.observe(older[0], obs, bench.null(batch)))
    older.append(model.step(older[1], bench.control(batch, "shared")))
    sibling, newest = advance(older[2], "sibling"), advance(older[2], "newest")
    shown: Named = {"features": model.features(newest)}
    if "decode" in model.capabilities:
        shown |= model.decode(newest) | {f"raw {k}": v for k, v in model.decode(newest, raw=True).items()}
    if "reward" in model.capabilities:
        shown["the reward"] = model.reward(newest)

    def go_on(state: State, give: bool) -> list[Named]:
        views = []
        for t in range(4):
            control, later = bench.control(batch, "on", t), bench.obs(batch, "on", t)
            begins = torch.tensor([t == 3, False], device=model.device)
            inputs = copied(control), copied(later)
            if t % 2:
                state = model.observe(state, later, control, first=begins, donate=give)
            else:
                state = model.step(state, control, donate=give)
            views.append(bench.view(state))
            held.append((control, inputs[0]))
            held.append((later, inputs[1]))
        return views

    held: list[tuple[Named, Named]] = []
    kept: list[tuple[str, Named]] = [(f"the state {3 - i} frames older", s.tensors) for i, s in enumerate(older)]
    kept += [("another state dreamed from the same one", sibling.tensors)]
    kept += [("frames or features shown before", shown), ("an observed frame", obs), ("what was given once", once)]
    kept += [("the seeds", {"seeds": seeds})]
    before = [copied(values) for _, values in kept]
    plain = go_on(newest.clone(), False)
    donated = go_on(newest, True)
    need(all(map(same, plain, donated)), "donate=True must give the same result as donate=False.")
    for (name, values), copy in zip(kept, before, strict=True):
        need(
            same(values, copy), f"A call with donate=True wrote into {name}: states must not share memory to write in."
        )
    need(all(same(a, b) for a, b in held), "A call with donate=True wrote into frames or controls it was given.")


@torch.no_grad()
def observe(bench: Bench) -> None:
    """Every sensor counts, at once and in what is dreamed next; observing is not stepping."""
    model, batch = bench.model, 8  # a state of discrete codes may need several rows and tries to show a difference
    state, control = bench.seen(batch), bench.control(batch, "now")
    obs, tries = bench.obs(batch, "now"), [bench.obs(batch, "other", i) for i in range(8)]
    mine = model.observe(state, obs, control)
    now, later = bench.view(mine), bench.dream(mine)[1][-1]
    for name in obs:
        changed = [model.observe(state, {**obs, name: other[name]}, control) for other in tries]
        need(not all(same(now, bench.view(s)) for s in changed), f"observe must depend on the sensor {name!r}.")
        need(
            not all(same(later, bench.dream(s)[1][-1]) for s in changed),
            f"What is dreamed after observe must depend on the sensor {name!r} that was observed.",
        )
    need(not same(now, bench.view(model.step(state, control))), "observe must re-anchor: it gave the same as step.")
    if "decode" in model.capabilities:
        looks = [bench.look(model.observe(state, other, control)) for other in tries]
        need(not all(same(bench.look(mine), x) for x in looks), "A decoded frame must depend on the observed one.")


@torch.no_grad()
def causal(bench: Bench) -> None:
    """A later frame or control never changes an earlier one: states that were kept still show what they showed."""
    model, batch, cut = bench.model, 2, 5

    def live(life: str) -> tuple[list[State], list[Named]]:
        states, shown = [bench.start(batch)], []
        for t in range(2 * cut):
            path = ("same", t) if t < cut else (life, t)
            control = bench.control(batch, *path) if t else bench.null(batch)
            if t < 3 or t == cut + 1:
                states.append(model.observe(states[-1], bench.obs(batch, *path), control))
            else:
                states.append(model.step(states[-1], control))
            shown.append(bench.view(states[-1]))
        return states, shown

    (kept, mine), (_, other) = live("one"), live("two")
    need(
        all(same(bench.view(state), view) for state, view in zip(kept[1:], mine, strict=True)),
        "A state that was kept shows another frame after later steps.",
    )
    need(all(map(same, mine[:cut], other[:cut])), "A later frame or control changed an earlier frame.")
    need(not same(mine[-1], other[-1]), "Other frames and controls gave the same future.")


@torch.no_grad()
def controls(bench: Bench) -> None:
    """Each choice, and each entry, of every control changes the future."""
    model, batch, few = bench.model, 2, 8

    def future(name: str, value: Tensor) -> Named:
        if bench.spec.given[name].per == "once":
            state = bench.seen(batch, state=bench.start(batch, 0, {**bench.once(batch), name: value}))
            return bench.dream(state)[1][-1]
        state = bench.seen(batch)
        for t in range(3):
            state = model.step(state, {**bench.control(batch, "acting", t), name: value})
        return bench.view(state)

    for name, kind in bench.spec.given.items():
        base = bench.value(kind, (batch,), "base", name)
        if kind.kind == "discrete":
            choices = [*range(min(kind.n, few)), kind.n]
            futures = [future(name, torch.full_like(base, choice)) for choice in choices]
            for i, choice in enumerate(choices):
                for j in range(i):
                    need(
                        not same(futures[i], futures[j]),
                        f"Choices {choices[j]} and {choice} of {name!r} give the same future ({kind.n} is 'none').",
                    )
            continue
        mine = future(name, base)
        if kind.kind == "continuous":
            for entry in range(min(kind.shape[0], few)):
                moved = base.clone()
                moved[:, entry] = bench.value(kind, (batch,), "moved", name)[:, entry]
                need(not same(mine, future(name, moved)), f"Entry {entry} of {name!r} does not change the future.")
        else:
            moved = bench.value(kind, (batch,), "moved", name)
            need(not same(mine, future(name, moved)), f"The control {name!r} does not change the future.")


CHECKS: dict[str, Callable[[Bench], None]] = {
    "randomness": randomness,
    "first": first,
    "rows": rows,
    "age": age,
    "read_only": read_only,
    "donate": donate,
    "observe": observe,
    "causal": causal,
    "controls": controls,
}
