"""Beginning with another run's weights: what is taken, from where, and that the account says just that."""

from __future__ import annotations

import json

import pytest
import torch
import training_toys as toys
from torch import nn
from training_toys import quick

from worldloom.contract import Control, Sensor, Spec, WorldloomError
from worldloom.files import read_json, save_tensors
from worldloom.models import build
from worldloom.models.adopt import same_entries, same_sensors
from worldloom.models.diffusion import BackboneConfig, DiffusionConfig
from worldloom.models.lab import LabConfig
from worldloom.models.recurrent import RecurrentConfig
from worldloom.models.saved import load_model, save_model
from worldloom.training import train
from worldloom.training.held import HeldOut
from worldloom.training.init import take_over

TINY = {
    "diffusion": DiffusionConfig(
        history=2,
        backbone=BackboneConfig(fold=2, width=8, deep_width=8, blocks=1, deep_blocks=1, condition=8),
        pad=True,
    ),
    "recurrent": RecurrentConfig(deter=8, stoch=2, classes=3, units=8, channels=2, bins=5),
    "lab": LabConfig(width=8, layers=1, heads=2, patch=4, steps=2),
}
PAD = Control("discrete", n=3, names=("left", "right", "fire"))
OTHER_PAD = Control("discrete", n=4, names=("jump", "fire", "left", "duck"))
ROD = Control("continuous", (2,), names=("x", "y"))
NAMELESS = Control("discrete", n=3)


def world(action: Control | None = None, size: tuple[int, int] = (16, 16), channels: int = 3, **more) -> Spec:
    given = {"action": action} if action else {}
    return Spec({"camera": Sensor("image", (channels, *size))}, given | more.get("given", {}), more.get("fps", 15.0))


def made(family: str, spec: Spec, seed: int, config=None):
    """A model all of whose weights are random, those that begin as zero too."""
    torch.manual_seed(seed)
    model = build(family, spec, config or TINY[family])
    with torch.no_grad():
        for x in model.state_dict().values():
            if x.is_floating_point():
                x.normal_()
    return model


def adopted(tmp_path, family: str, there: Spec, here: Spec, *, configs=(None, None), force: bool = False):
    """(weights there, weights before, weights after, account) of a take-over."""
    source, model = made(family, there, 1, configs[0]), made(family, here, 2, configs[1])
    save_model(tmp_path / "model.safetensors", source, step=7)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    account = take_over(model, tmp_path, force=force)
    return source.state_dict(), before, model.state_dict(), account


# -------------------------------------------------------------------------------------------- meaning


@pytest.mark.parametrize(
    ("mine", "theirs", "pairs"),
    [
        (PAD, PAD, [(0, 0), (1, 1), (2, 2), (3, 3)]),
        (OTHER_PAD, PAD, [(1, 2), (2, 0), (4, 3)]),  # null is null
        (Control("discrete", n=3), Control("discrete", n=3), [(0, 0), (1, 1), (2, 2), (3, 3)]),
        (Control("discrete", n=3), Control("discrete", n=5), [(3, 5)]),  # no names: an index alone means nothing
        (PAD, Control("discrete", n=3), [(3, 3)]),
        (PAD, ROD, []),
        (PAD, None, []),
        (Control("continuous", (3,), names=("y", "z", "x")), ROD, [(0, 1), (2, 0)]),
        (Control("continuous", (2,)), Control("continuous", (2,), low=(-1.0, -1.0), high=(1.0, 1.0)), []),
        (Control("discrete", n=2, names=("a", "a")), Control("discrete", n=3, names=("a", "b", "c")), [(2, 3)]),
    ],
)
def test_entries_that_mean_the_same(mine, theirs, pairs):
    assert same_entries(mine, theirs) == pairs


def test_sensors_pair_by_name_then_by_being_the_only_ones_left():
    image, vector = Sensor("image", (3, 8, 8)), Sensor("vector", (4,))
    assert same_sensors({"a": image, "v": vector}, {"b": image, "v": vector}) == {"v": "v", "a": "b"}
    assert same_sensors({"a": image}, {"b": image, "c": image}) == {}
    assert same_sensors({"a": vector}, {"a": image}) == {}


# ---------------------------------------------------------------------------------- the families, exactly


def test_actions_go_over_by_name(tmp_path):
    there, before, after, account = adopted(tmp_path, "diffusion", world(PAD), world(OTHER_PAD))
    rows = "conditions.vectors.action.weight"
    assert torch.equal(after[rows][[1, 2, 4]], there[rows][[2, 0, 3]])  # fire, left, null
    assert torch.equal(after[rows][[0, 3]], before[rows][[0, 3]])  # jump, duck
    assert account.partly == {rows: "rows 1-2, 4 of 5"}
    assert account.notes == ["control 'action': by name from there: fire, left; new: jump, duck; not here: right"]
    others = [n for n in after if n != rows]
    assert account.taken == others
    assert all(torch.equal(after[n], there[n]) for n in others)


@pytest.mark.parametrize("family", ["diffusion", "recurrent", "lab"])
def test_other_names_in_a_layer_of_equal_shape_do_not_take_the_old_meaning(tmp_path, family):
    swapped = Control("discrete", n=3, names=("fire", "up", "left"))
    name = {
        "diffusion": "conditions.vectors.action.weight",
        "recurrent": "controller.net.0.weight",
        "lab": "embed_action.0.weight",
    }
    there, before, after, account = adopted(tmp_path, family, world(PAD), world(swapped))
    there, before, after = (
        x[name[family]] if family == "diffusion" else x[name[family]].T for x in (there, before, after)
    )
    assert torch.equal(after[[0, 2, 3]], there[[2, 0, 3]])
    assert torch.equal(after[1], before[1])
    assert account.partly == {name[family]: f"{'rows' if family == 'diffusion' else 'columns'} 0, 2-3 of 4"}


def test_nameless_choices_are_taken_by_their_place_and_it_is_said(tmp_path):
    there, _, after, account = adopted(tmp_path, "diffusion", world(NAMELESS), world(NAMELESS))
    assert torch.equal(after["conditions.vectors.action.weight"], there["conditions.vectors.action.weight"])
    assert account.notes == [
        "control 'action' has no names on either side: its entries are taken to mean what they meant"
    ]
    assert adopted(tmp_path, "diffusion", world(PAD), world(PAD))[3].notes == []


def test_numbers_go_over_by_name_and_keep_their_scale(tmp_path):
    rod = Control("continuous", (2,), names=("x", "y"), low=(-1.0, -4.0), high=(1.0, 4.0))
    more = Control("continuous", (3,), names=("z", "y", "x"), low=(-1.0, -8.0, -1.0), high=(1.0, 8.0, 1.0))
    there, before, after, _ = adopted(tmp_path, "diffusion", world(rod), world(more))
    assert torch.equal(
        after["conditions.vectors.action.weight"][:, [1, 2]], there["conditions.vectors.action.weight"][:, [1, 0]]
    )
    assert torch.equal(
        after["conditions.vectors.action.weight"][:, 0], before["conditions.vectors.action.weight"][:, 0]
    )
    assert torch.equal(after["conditions.vectors.action.bias"], there["conditions.vectors.action.bias"])
    there, _, after, _ = adopted(tmp_path, "recurrent", world(rod), world(more))
    there, after = (x["controller.net.0.weight"] for x in (there, after))
    assert torch.equal(after[:, 2], there[:, 0])
    assert torch.equal(after[:, 1], there[:, 1] * 2)  # it is divided by twice as much before it comes here


def test_a_kind_of_control_never_passes_for_another(tmp_path):
    """Eight-wide conditions: an embedding of 7 + 1 choices has the shape of a layer of 8 numbers."""
    seven, eight = Control("discrete", n=7), Control("continuous", (8,))
    there, before, after, account = adopted(tmp_path, "diffusion", world(eight), world(seven))
    assert there["conditions.vectors.action.weight"].shape == after["conditions.vectors.action.weight"].shape
    assert torch.equal(after["conditions.vectors.action.weight"], before["conditions.vectors.action.weight"])
    assert account.new == {"conditions.vectors.action.weight": "has another meaning there"}
    assert "conditions.vectors.action.bias" in account.unused
    assert account.notes == ["control 'action': continuous there, discrete here; its layer is new"]


def test_any_frame_size_fits_the_diffusion_family(tmp_path):
    there, _, after, account = adopted(tmp_path, "diffusion", world(PAD), world(PAD, (24, 40)))
    assert all(torch.equal(after[n], there[n]) for n in after)
    assert account.lines()[0] == f"Took all {len(after)} tensors from {tmp_path / 'model.safetensors'}."
    assert account.notes == ["sensor 'camera': 3×16×16 there, 3×24×40 here"]


def test_other_channels_make_the_first_and_last_layers_new(tmp_path):
    _, _, _, account = adopted(tmp_path, "diffusion", world(PAD, channels=1), world(PAD))
    assert account.new == {
        "net.past.weight": "8×8×1×1 there, 8×24×1×1 here",
        "net.noisy.weight": "8×4×1×1 there, 8×12×1×1 here",
        "net.out.weight": "4×8×3×3 there, 12×8×3×3 here",
        "net.out.bias": "4 there, 12 here",
    }


def test_recurrent_sensors_keep_their_namesakes_whatever_their_place(tmp_path):
    vector = {"aims": Sensor("vector", (3,)), "odometry": Sensor("vector", (2,))}
    camera = {"camera": Sensor("image", (3, 16, 16))}
    there = Spec({**camera, "aims": vector["aims"]})
    here = Spec({**camera, "odometry": vector["odometry"], "back": Sensor("range", (1, 8, 8))})
    old, before, after, account = adopted(tmp_path, "recurrent", there, here)
    # sorted: aims, camera there; back, camera, odometry here; odometry is the only vector left, with another width
    assert torch.equal(after["encoders.1.net.0.weight"], old["encoders.1.net.0.weight"])
    assert torch.equal(after["encoders.0.net.0.weight"], before["encoders.0.net.0.weight"])
    assert "encoders.2.0.weight" in account.new
    assert torch.equal(after["encoders.2.3.weight"], old["encoders.0.3.weight"])
    posterior, begin = after["posterior.0.weight"], before["posterior.0.weight"]
    assert torch.equal(posterior[:, :8], old["posterior.0.weight"][:, :8])  # the memory
    flat, small = 4 * 4 * 4, 2 * 4 * 4  # features of the camera (two halvings) and of the range image (one)
    assert posterior.shape[1] == 8 + small + flat + 8
    assert torch.equal(posterior[:, 8 : 8 + small], begin[:, 8 : 8 + small])
    assert torch.equal(posterior[:, 8 + small : 8 + small + flat], old["posterior.0.weight"][:, 16 : 16 + flat])
    assert torch.equal(posterior[:, -8:], old["posterior.0.weight"][:, 8:16])


def test_recurrent_layers_that_know_the_size_of_a_frame_are_new_and_named(tmp_path):
    old, before, after, account = adopted(tmp_path, "recurrent", world(PAD), world(PAD, (48, 48)))
    assert {n for n in account.new if "encoders" in n or "project" in n} == {
        "encoders.0.net.6.weight", "encoders.0.net.6.bias", "encoders.0.net.7.weight", "encoders.0.net.7.bias",
        "decoders.0.project.weight", "decoders.0.project.bias",
    }  # fmt: skip
    assert account.partly == {"posterior.0.weight": "columns 0-7 of 296"}
    # One halving more: the decoder's layers are counted from its end, where the pictures come out.
    assert torch.equal(after["decoders.0.net.8.weight"], old["decoders.0.net.5.weight"])
    assert torch.equal(after["gates.0.weight"], old["gates.0.weight"])
    assert torch.equal(after["decoders.0.project.weight"], before["decoders.0.project.weight"])


def test_recurrent_models_may_gain_or_lose_actions(tmp_path):
    old, before, after, account = adopted(tmp_path, "recurrent", world(), world(PAD))
    assert torch.equal(after["join.0.weight"][:, :6], old["join.0.weight"])
    assert torch.equal(after["join.0.weight"][:, 6:], before["join.0.weight"][:, 6:])
    assert account.partly == {"join.0.weight": "columns 0-5 of 14"}
    old, _, after, account = adopted(tmp_path, "recurrent", world(PAD), world())
    assert torch.equal(after["join.0.weight"], old["join.0.weight"][:, :6])
    assert "controller.net.0.weight" in account.unused


@pytest.mark.parametrize("other", [{"deter": 12}, {"channels": 4}, {"stoch": 3}, {"units": 12}])
def test_other_widths_never_shift_a_layers_columns(tmp_path, other):
    """A layer's parts are found by widths that the other run may not share; then they are new."""
    config = RecurrentConfig(**{**vars(TINY["recurrent"]), **other})
    configs = (config, None)
    old, before, after, _ = adopted(tmp_path, "recurrent", world(PAD), world(PAD), configs=configs, force=True)
    for name in ("posterior.0.weight", "join.0.weight"):
        memory = 8 if name.startswith("posterior") and "channels" in other else 0
        if name.startswith("join") and other.keys() & {"channels"}:
            memory = after[name].shape[1]  # it reads no pictures
        assert torch.equal(after[name][:, memory:], before[name][:, memory:])
        if memory:
            assert torch.equal(after[name][:, :memory], old[name][:, :memory])


# ----------------------------------------------------------------------------------------- the account


@pytest.mark.parametrize(
    ("family", "there", "here"),
    [
        ("diffusion", world(PAD), world(OTHER_PAD, (24, 16))),
        ("diffusion", world(PAD), world()),
        ("diffusion", world(), world(PAD)),
        ("diffusion", world(PAD, channels=1), world(ROD)),
        ("recurrent", world(PAD), world(ROD, (32, 32))),
        ("recurrent", world(ROD, given={"wind": ROD}), world(PAD, given={"wind": ROD})),
        ("lab", world(PAD), world(OTHER_PAD, (16, 32))),
    ],
)
def test_the_account_is_what_happened(tmp_path, family, there, here):
    """Counted again from the tensors: all weights are random, so that no number is equal by chance."""
    old, before, after, account = adopted(tmp_path, family, there, here)
    assert {*account.taken, *account.partly, *account.new} == set(after)
    assert len(account.taken) + len(account.partly) + len(account.new) == len(after)
    pool = {x for tensor in old.values() for x in tensor.flatten().tolist()}
    numbers = 0
    for name, x in after.items():
        kept = int((x == before[name]).sum())
        came = sum(value in pool for value in x.flatten().tolist())
        assert kept + came == x.numel() or "set by adopt" in account.new[name]
        numbers += came
        if name in account.taken:
            assert came == x.numel()
        elif name in account.partly:
            assert 0 < came < x.numel()
        else:
            assert came == 0
    assert account.numbers == numbers
    assert account.of == sum(x.numel() for x in after.values())
    for name in account.unused:
        assert not {*old[name].flatten().tolist()} & {v for x in after.values() for v in x.flatten().tolist()}
    printed = "\n".join(account.lines())
    assert f"Took {len(account.taken)} of {len(after)} tensors" in printed or not account.new
    assert f"{100 * numbers / account.of:.1f} % of the model's numbers" in printed or not account.new
    assert json.loads(json.dumps(account.to_json()))["taken"] == account.taken


DEEPER = DiffusionConfig(
    history=2, backbone=BackboneConfig(fold=2, width=8, deep_width=8, blocks=2, deep_blocks=1, condition=8)
)


def test_a_long_list_is_cut_on_the_screen_and_whole_in_the_file(tmp_path):
    _, _, _, account = adopted(tmp_path, "diffusion", world(PAD), world(PAD), configs=(None, DEEPER))
    (line,) = [x for x in account.lines() if x.startswith("  new: ")]
    assert line.endswith(f", and {len(account.new) - 5} more")
    assert len(account.to_json()["new"]) == len(account.new) > 5


# ------------------------------------------------------------------------------------------------ mistakes


def test_the_family_must_be_the_same(tmp_path):
    save_model(tmp_path / "model.safetensors", made("recurrent", world(PAD), 1))
    with pytest.raises(WorldloomError, match=r"of the family 'recurrent', and this one is of 'diffusion'"):
        take_over(made("diffusion", world(PAD), 2), tmp_path)


def test_what_hardly_fits_is_refused_with_the_settings_to_change_and_nothing_is_touched(tmp_path):
    wide = DiffusionConfig(history=2, backbone=BackboneConfig(fold=2, width=16, deep_width=16, condition=16))
    save_model(tmp_path / "model.safetensors", made("diffusion", world(PAD), 1, wide))
    model = made("diffusion", world(PAD), 2)
    before = {n: x.clone() for n, x in model.state_dict().items()}
    with pytest.raises(WorldloomError, match=r"(?s)do not fit.*backbone\.width: 16 -> 8.*that run's config.*--force"):
        take_over(model, tmp_path)
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    account = take_over(model, tmp_path, force=True)
    assert 0 < account.share < 0.5


class Other(toys.Toy):
    """A class with tensors of other names: nothing fits."""

    def __init__(self, spec=toys.SPEC, config=None):
        super().__init__(spec, config)
        self.within, self.without = self.inside, self.outside
        del self.inside, self.outside, self.norm, self.calls, self.mean


def test_where_nothing_fits_force_does_not_help(tmp_path):
    model = Other()
    save_model(tmp_path / "model.safetensors", model)
    tensors = {f"x.{n}": x for n, x in model.state_dict().items()}
    save_model(tmp_path / "model.safetensors", model, tensors)
    with pytest.raises(WorldloomError, match="0 of 4 tensors") as error:
        take_over(Other(), tmp_path, force=True)
    assert "--force" not in str(error.value)


def test_missing_damaged_and_other_files_are_one_sentence_each(tmp_path):
    model = made("diffusion", world(PAD), 2)
    file = tmp_path / "model.safetensors"
    with pytest.raises(WorldloomError, match="nowhere does not exist"):
        take_over(model, tmp_path / "nowhere")
    with pytest.raises(WorldloomError, match=r"has no model\.safetensors"):
        take_over(model, tmp_path)
    save_tensors(file, {"a": torch.zeros(3)}, {"step": 3})
    with pytest.raises(WorldloomError, match="no description of a model"):
        take_over(model, file)
    save_model(file, made("diffusion", world(PAD), 1))
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(WorldloomError, match=r"model\.safetensors is damaged"):
        take_over(model, file)


# ------------------------------------------------------------------------------------- a user's own class


class Plain(toys.Toy):
    """A user's own class without a word on what depends on what."""


class Careful(toys.Toy):
    """One that keeps the weights of its actions to itself."""

    def adopt(self, name, get, spec):
        if name != "inside.weight" or spec.action == self.spec.action:
            return None
        value = get(name).clone()
        value[:, 20:] = float("nan")
        return value


LEFT = Spec(toys.SPEC.shown, {"action": Control("discrete", n=3, names=("a", "b", "c"))}, fps=10.0)
RIGHT = Spec(toys.SPEC.shown, {"action": Control("discrete", n=3, names=("c", "b", "a"))}, fps=10.0)


def test_a_class_that_does_not_say_what_depends_on_actions_is_told_so(tmp_path):
    save_model(tmp_path / "model.safetensors", Plain(LEFT))
    account = take_over(Plain(RIGHT), tmp_path)
    assert "new" not in " ".join(account.lines())
    assert any("careful: Plain has no method `adopt`" in line and "'action'" in line for line in account.lines())
    assert not any("careful" in line for line in take_over(Plain(LEFT), tmp_path).lines())


def test_a_class_may_say_which_of_its_weights_depend_on_what(tmp_path):
    source, model = Careful(LEFT), Careful(RIGHT)
    nn.init.normal_(source.inside.weight)
    own = model.inside.weight.detach().clone()
    save_model(tmp_path / "model.safetensors", source)
    account = take_over(model, tmp_path)
    assert torch.equal(model.inside.weight[:, :20], source.inside.weight[:, :20])
    assert torch.equal(model.inside.weight[:, 20:], own[:, 20:])
    assert account.partly == {"inside.weight": "columns 0-19 of 24"}
    assert not any("careful" in line for line in account.lines())


def test_an_adopt_that_returns_another_shape_is_named(tmp_path):
    save_model(tmp_path / "model.safetensors", Careful(LEFT))
    model = Careful(RIGHT)
    model.adopt = lambda name, get, spec: torch.zeros(2) if name == "inside.weight" else None
    with pytest.raises(
        WorldloomError, match=r"Careful\.adopt gave 'inside\.weight' the shape \(2,\); expected .*\(6, 24\)"
    ):
        take_over(model, tmp_path)


# ------------------------------------------------------------------------------------------ in a training


def held_loss(data, model) -> float:
    config = quick()
    return HeldOut(data, config, 5, torch.device("cpu"), "float32").validate(model)["val_loss"]


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    """A run of a diffusion model on the toy data."""
    out = tmp_path_factory.mktemp("base") / "run"
    train(build("diffusion", toys.SPEC, TINY["diffusion"]), data, quick(steps=4), out, echo=lambda line: None)
    return out


def test_the_old_models_loss_is_where_the_new_one_begins(data, base):
    old, model = load_model(base), build("diffusion", toys.SPEC, TINY["diffusion"])
    assert held_loss(data, model) != held_loss(data, old)
    take_over(model, base)
    assert held_loss(data, model) == held_loss(data, old)


def test_new_actions_begin_silent(data, tmp_path):
    """The model that has just been given actions dreams what it dreamt without."""
    video = Spec(toys.SPEC.shown, {}, fps=10.0)
    save_model(tmp_path / "model.safetensors", made("diffusion", video, 1))
    old, model = load_model(tmp_path), made("diffusion", toys.SPEC, 2)
    account = take_over(model, tmp_path)
    assert account.new["slots.weight"] == "not there; set by adopt"
    state, given = old.start(2, 3), model.start(2, 3)
    frame = torch.randint(0, 256, (2, 1, 4, 5), dtype=torch.uint8)
    for t in range(2):
        state = old.observe(state, {"screen": frame})
        given = model.observe(given, {"screen": frame}, torch.tensor([t, 3]))
    ours = model.decode(model.step(given, torch.tensor([1, 2])), raw=True)["screen"]
    torch.testing.assert_close(ours, old.decode(old.step(state), raw=True)["screen"])


def test_a_resumed_run_never_looks_at_the_other_again(toy, data, tmp_path):
    """The other run is gone by then; the outcome is that of a run that was never stopped."""
    other = tmp_path / "other"
    train(toy(), data, quick(steps=5), other, echo=lambda line: None)
    said: list[str] = []
    for out, moments in (("whole", [20]), ("parts", [10, 20])):
        for upto in moments:
            model = toy()
            if upto == 10:
                toys.at_call(model, 11, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
            try:
                config = quick(checkpoint_every=5, steps=20)
                train(model, data, config, tmp_path / out, init=other, echo=said.append)
            except KeyboardInterrupt:
                assert upto == 10
                (other / "model.safetensors").unlink()
    assert sum(line.startswith("Took all") for line in said) == 2
    toys.same_outcome(tmp_path / "whole", tmp_path / "parts")
    assert read_json(tmp_path / "parts" / "init.json")["step"] == 5
    assert read_json(tmp_path / "parts" / "config.json")["init"] == other.as_posix()


def test_an_init_that_does_not_fit_leaves_no_run_behind(toy, data, tmp_path):
    with pytest.raises(WorldloomError, match="does not exist"):
        train(toy(), data, quick(), tmp_path / "run", init=tmp_path / "nowhere", echo=lambda line: None)
    assert not (tmp_path / "run" / "config.json").exists()
    train(toy(), data, quick(steps=2), tmp_path / "run", echo=lambda line: None)  # so the mistake is mended in place


def test_fine_tuning_beats_beginning_anew(toy, data, tmp_path):
    """On new episodes, in ten steps, on every seed, by a wide margin."""
    train(toy(), data, quick(steps=300), tmp_path / "base", echo=lambda line: None)
    new = toys.make_data(tmp_path / "new", seed=9)
    fresh, tuned = [], []
    for seed in range(3):
        for losses, init in ((fresh, None), (tuned, tmp_path / "base")):
            out = tmp_path / f"{seed}{init is None}"
            summary = train(toy(), new, quick(steps=10, seed=seed), out, init=init, echo=lambda line: None)
            losses.append(summary.val_loss)
    assert max(tuned) < 0.7 * min(fresh)
