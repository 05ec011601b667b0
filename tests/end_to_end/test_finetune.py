"""`worldloom train --init`: another size, other actions, as typed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typed_command import command

from worldloom.contract import WorldloomError
from worldloom.files import load_tensors, read_json
from worldloom.recipes import find
from worldloom.recipes.finetune import like


def test_a_run_goes_on_in_another_size_with_other_actions(home, tmp_path):
    demo, out = home / "runs" / "demo", tmp_path / "tuned"
    line = ["train", "--env", "balls", "--world.action", "discrete", "--world.width", "40", "--world.height", "32"]
    line += ["--collect.episodes", "8", "--collect.length", "30", "--steps", "2", "--train.batch", "2"]
    line += ["--init", str(demo), "--out", str(out)]
    code, said, err = command(*line)
    assert code == 0, err
    assert f"The model's settings are those of {demo}; --model.* changes single ones." in said
    count = len(load_tensors(out / "model.safetensors")[0])
    assert f"Took {count - 2} of {count} tensors whole from " in said
    assert "  new: conditions.vectors.action.weight (not there), slots.weight (not there; set by adopt)" in said
    assert "  sensor 'camera': 3×64×64 there, 3×32×40 here" in said
    assert "  control 'action' is new" in said
    there, here = (read_json(run / "config.json")["model"] for run in (demo, out))
    assert here["config"] == there["config"] != find("balls").model
    account = read_json(out / "init.json")
    tensors, _ = load_tensors(out / "model.safetensors")
    assert {*account["taken"], *account["new"]} == set(tensors)
    # The other run is not needed any more: neither to say that all is done nor to go on.
    line[line.index(str(demo))] = str(tmp_path / "gone")
    code, _, err = command(*line)
    assert code == 2
    assert "init: " in err  # it is another command
    assert "-> " in err


def test_mistakes_are_one_sentence_before_anything_is_collected(home, tmp_path):
    demo, out = home / "runs" / "demo", tmp_path / "out"
    for line, words in (
        (["recurrent"], "of the family 'diffusion', and 'recurrent' is asked for"),
        (["--env", "balls", "--family", "recurrent"], "Give --family diffusion with --env or --data"),
    ):
        code, _, err = command("train", *line, "--init", str(demo), "--out", str(out))
        assert code == 2
        assert words in err
    code, _, err = command("train", "balls", "--init", str(tmp_path / "nowhere"), "--out", str(out))
    assert code == 2
    assert err.count("\n") == 1
    assert "nowhere does not exist" in err
    assert not out.exists()
    data = str(demo / "data")
    line = ["--data", data, "--init", str(demo), "--model.backbone.size", "S", "--out", str(out)]
    code, _, err = command("train", *line)
    assert code == 2
    assert "backbone.size: 'debug' -> 'S'" in err
    assert "leave out --model.*" in err


def test_a_run_that_was_begun_has_its_own_settings(home, tmp_path):
    demo = home / "runs" / "demo"
    recipe = find("balls")
    again, note = like(recipe, tmp_path / "gone", demo, fixed=True)
    assert note is None
    assert again.model == recipe.debug().model
    hurt = tmp_path / "hurt"
    hurt.mkdir()
    (hurt / "model.safetensors").write_bytes((demo / "model.safetensors").read_bytes())
    (hurt / "config.json").write_bytes((demo / "config.json").read_bytes()[:-40])  # the trainer has a copy of it
    assert like(recipe, tmp_path / "gone", hurt, fixed=True) == (again, None)
    own = replace(recipe, family="mine:Model")
    with pytest.raises(WorldloomError, match="'diffusion', and 'mine:Model' is asked for"):
        like(own, demo, None, fixed=True)
