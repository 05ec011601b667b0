"""The ablation's rows differ in one thing, are kept when finished, and its page says what the figures say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks import ablation, ablation_page
from worldloom.configs import to_json
from worldloom.files import write_json
from worldloom.training.config import differences

ONE = {"flow.target", "flow.pure", "flow.weighting", "context_noise", "history", "memory", "inject", "backbone.local"}


@pytest.mark.parametrize("group", list(ablation.GROUPS))
def test_rows_of_a_group_differ_from_its_first_in_one_thing(group):
    first, *others = ablation.GROUPS[group][1]
    for name in others:
        first_row, row = ablation.ROWS[first], ablation.ROWS[name]
        changed = {line.split(":")[0] for line in differences(to_json(first_row.model), to_json(row.model))}
        assert changed <= ONE
        if name == "noise":  # DDPM's training as a whole: at pure noise its error says nothing of the frame
            assert changed == {"flow.target", "flow.weighting", "flow.pure"}
            continue
        assert len(changed) + (first_row.seed != row.seed) == 1


@pytest.mark.parametrize("name", list(ablation.ROWS))
def test_ways_of_dreaming_are_what_the_row_was_trained_for(name):
    row = ablation.ROWS[name]
    for settings in row.otherwise.values():
        assert dataclasses.replace(row.model, **settings) != row.model  # a setting it refuses raises


def test_every_row_is_in_a_group_and_the_seeds_are_in_every_choice():
    named = {name for _, rows in ablation.GROUPS.values() for name in rows}
    assert named == set(ablation.ROWS)
    assert {"base", "base, another seed"} <= set(ablation.wanted(["inject"]))
    assert "flow" not in ablation.wanted(["inject"])
    slugs = {ablation.slug(name) for name in ablation.ROWS}
    assert len(slugs) == len(ablation.ROWS)


def test_both_worlds_train_a_row_alike():
    for world in ablation.HORIZONS:
        made = ablation.recipe_of(world, ablation.ROWS["memory 16"], 400, 1)
        assert made.model == ablation.ROWS["memory 16"].model
        assert (made.train.optimizer, made.train.lr, made.train.steps) == ("muon", 2e-3, 400)
    world = ablation.recipe_of("balls", ablation.ROWS["base"], 400, 1).world
    assert (world.balls, world.radius, world.speed, world.gravity, world.action) == (
        2,
        5.0,
        2.0,
        (0.0, 0.1),
        "discrete",
    )


def test_a_finished_row_is_kept_only_for_the_same_setting(tmp_path):
    place = ablation.Place(tmp_path, 400, 96)
    folder = place.folder("balls", "base")
    folder.mkdir(parents=True)
    write_json(folder / "ablation.json", {"made_of": place.made_of("balls", "base"), "figures": {}})
    assert place.found("balls", "base") is not None
    assert dataclasses.replace(place, starts=8).found("balls", "base") is None
    assert dataclasses.replace(place, steps=8).found("balls", "base") is None
    assert place.found("breakout", "base") is None
    assert ablation.work(place, "balls", "base", tmp_path / "nowhere", 1)  # nothing is trained


# ------------------------------------------------------------------------------------- the page

GROUP = {"title": "Target", "rows": {"base": "x", "flow": "flow", "v": "v"}}


HARD = np.random.default_rng(0).uniform(0.1, 10.0, 48)
"""How hard each start is: far more different from each other than the models are."""


def figures_of(error, gain=2.0):
    px = {f"error_px {h}": [error, error - 0.1, error + 0.1] for h in (1, 5, 10, 20)}
    px |= {f"{kind} {h}": [9.0, 8.0, 10.0] for kind in ("still_px", "straight_px") for h in (1, 5, 10, 20)}
    db = {f"{kind} {h}": [gain, gain - 0.1, gain + 0.1] for kind in ("gain_db", "actions_db") for h in (1, 5, 10)}
    return {**px, **db, "push_right": [0.9, 0.8, 1.0]}


def each(error, seed=1):
    return (error * HARD * np.exp(np.random.default_rng(seed).normal(0, 0.2, 48))).tolist()


def measured(error, gain=2.0):
    row = {"figures": {"": figures_of(error, gain)}, "each": {"": each(error)}, "episodes": list(range(48))}
    return row | {"parameters": 10, "seconds_a_step": 0.5, "threads": 1}


def add(row, how, error):
    row["figures"][how], row["each"][how] = figures_of(error), each(error, 2)


def rows(flow, other_seed=1.02, base=1.0):
    return {"base": measured(base), "base, another seed": measured(other_seed), "flow": measured(flow)}


@pytest.mark.parametrize(
    ("flow", "other_seed", "kind"),
    [(2.0, 1.02, "worse"), (0.5, 1.02, "better"), (1.02, 1.01, "alike"), (1.4, 1.6, "seeds")],
)
def test_a_difference_counts_if_interval_and_seeds_are_exceeded_start_by_start(flow, other_seed, kind):
    table = rows(flow, other_seed)
    table["flow"]["each"][""] = each(flow, 3)
    found = ablation_page.compared("balls", GROUP, table)
    assert [k for k, labels in found.items() if labels] == [kind]
    assert found[kind][0].startswith("flow (")


def test_more_is_better_where_it_is():
    table = rows(2.0)
    assert ablation_page.compared("balls", GROUP, table)["worse"]
    assert ablation_page.compared("breakout", GROUP, table)["better"]
    assert ablation_page.gain("balls", table["flow"], table["base"])[0] == pytest.approx(-np.log(2))
    assert ablation_page.in_words("balls", [-np.log(2), -np.log(4), 0.0]) == "2 (1 to 4) times the error"


def test_one_episode_tells_nothing_apart():
    table = rows(9.0)
    for row in table.values():
        row["episodes"] = [7] * 48
    assert ablation_page.compared("balls", GROUP, table)["alike"]


def test_ways_of_dreaming_are_compared_with_their_like_alone():
    table = rows(2.0)
    add(table["flow"], "4 steps", 0.5)
    assert ablation_page.ways(GROUP, table) == [""]
    add(table["base"], "4 steps", 3.0)
    said = ablation_page.verdict("balls", "target", GROUP, table)
    assert len(said) == 2
    assert "Nothing here is shown to beat it" in said[0]
    assert "4 steps" in said[1]
    assert "It is beaten" in said[1]


def test_a_way_that_only_another_row_knows_is_compared_with_the_first():
    table = rows(1.0)
    add(table["base"], "4 steps", 3.0)
    add(table["flow"], "told 0.1", 0.5)
    found = ablation_page.compared("balls", GROUP, table)
    assert found["better"][0].startswith("flow, told 0.1 (0.5 (0.4 to 0.6); 0.5")
    shown = "".join(ablation_page.block("balls", GROUP, table, (1, 5, 10, 20)))
    assert "flow, told 0.1" in shown
    assert "4 steps" not in shown


def result(worlds):
    groups = {g: {"title": title, "rows": names} for g, (title, names) in ablation.GROUPS.items()}
    return {
        "machine": "m", "steps": 400, "seed": 0, "prompt": 16, "groups": groups, "base": to_json(ablation.BASE),
        "horizons": {w: list(h) for w, h in ablation.HORIZONS.items()}, "worlds": worlds,
    }  # fmt: skip


def test_a_page_of_some_rows_says_what_is_missing():
    text = ablation_page.page(result({"balls": rows(2.0), "breakout": {}}))
    assert "Not measured yet: two balls with pushes and gravity: actions added" in text
    assert "## What the network emits" in text
    assert "surely worse: flow: x - e (2 (1.9 to 2.1); 2 (2 to 2) times the error)" in text
    assert "## Local mixing" not in text
    apart = ablation_page.page(result({"balls": rows(2.0, other_seed=3.0), "breakout": {}}))
    assert "Two trainings of one setting are told apart by their starts" in apart
    assert "Not measured yet" in ablation_page.page(result({"balls": {}, "breakout": {}}))
    assert "| x, weighed as a velocity | 10 | 0.50 | 1 (0.9 to 1.1)" in ablation_page.figures(
        result({"balls": rows(2.0), "breakout": {}})
    )
