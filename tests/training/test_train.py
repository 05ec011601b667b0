"""What a training gives: a model that learned, held-out figures, filmstrips, trackers."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import training_toys as toys
from training_toys import quick, untimed

from worldloom import training
from worldloom.contract import Control, Sensor, Spec, WorldloomError
from worldloom.data.episode import Episode
from worldloom.data.store import Dataset, DatasetWriter
from worldloom.evaluation import evaluate
from worldloom.files import load_tensors, read_json
from worldloom.imagination import imagine, load_starts
from worldloom.models.saved import load_model, save_model
from worldloom.training import train
from worldloom.training.filmstrip import dreamed_sensor, pictures, write_filmstrip
from worldloom.training.held import HeldOut
from worldloom.training.progress import clock, describe


def test_it_learns_and_what_is_saved_is_the_average(toy, data, tmp_path):
    model = toy()
    summary = train(model, data, quick(steps=150, batch=8, validate_every=50), tmp_path / "run")
    losses = [r["loss"] for r in untimed(tmp_path / "run") if r["kind"] == "train"]
    assert losses[-1] < 0.5 * losses[0]
    assert summary.loss == pytest.approx(losses[-1])
    assert summary.val_loss is not None
    saved = load_model(tmp_path / "run")
    checkpoint, _ = load_tensors(next((tmp_path / "run" / "checkpoints").iterdir()))
    weights = saved.state_dict()["inside.weight"]
    assert torch.equal(weights, checkpoint["ema/inside.weight"])
    assert not torch.equal(weights, checkpoint["model/inside.weight"])
    assert torch.equal(weights, model.inside.weight)
    assert not model.training


def test_validation_looks_at_held_out_episodes_with_fixed_draws_and_averaged_weights(toy, data, tmp_path):
    config = quick(steps=6, validate_every=3)
    summary = train(toy(), data, config, tmp_path / "run")
    held = HeldOut(data, config, 5, torch.device("cpu"), "float32")
    assert held.windows.episodes.tolist() == data.splits["val"].tolist()
    model = load_model(tmp_path / "run")
    assert held.validate(model) == held.validate(model)
    assert held.validate(model)["val_loss"] == summary.val_loss
    records = [r for r in untimed(tmp_path / "run") if r["kind"] == "validate"]
    assert [r["step"] for r in records] == [3, 6]
    assert records[1]["val_loss"] == summary.val_loss


def test_validating_leaves_training_as_it_was(toy, data, tmp_path):
    for every, name in ((0, "without"), (1, "with")):
        train(toy(), data, quick(steps=8, validate_every=every, sample_every=every), tmp_path / name)
    one, two = (load_tensors(tmp_path / n / "model.safetensors")[0] for n in ("without", "with"))
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_without_held_out_episodes_there_is_no_flattering_figure(toy, tmp_path):
    few = toys.make_data(tmp_path / "few", episodes=1)
    said = []
    summary = train(toy(), few, quick(steps=4, sample_every=2), tmp_path / "run", echo=said.append)
    assert summary.val_loss is None
    assert any("No validation loss" in line and "'val' split" in line for line in said)
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2


def test_init_takes_all_weights_or_says_what_does_not_fit(toy, data, tmp_path):
    train(toy(), data, quick(), tmp_path / "first")
    said = []
    train(toy(), data, quick(steps=1, lr=1e-9), tmp_path / "second", init=tmp_path / "first", echo=said.append)
    first, second = (load_tensors(tmp_path / n / "model.safetensors")[0] for n in ("first", "second"))
    torch.testing.assert_close(second["inside.weight"], first["inside.weight"], rtol=0, atol=1e-7)
    assert any(line.startswith(f"Took all {len(first)} tensors from ") for line in said)
    assert read_json(tmp_path / "second" / "config.json")["init"] == str(tmp_path / "first")
    wider = toy(config=toys.ToyConfig(hidden=9))
    with pytest.raises(WorldloomError, match=r"not fit.*inside\.weight \(6×24 there, 9×24 here\)"):
        train(wider, data, quick(), tmp_path / "third", init=tmp_path / "first")
    with pytest.raises(WorldloomError, match="does not exist"):
        train(toy(), data, quick(), tmp_path / "fourth", init=tmp_path / "nowhere")


def test_data_of_another_world_are_refused(data, tmp_path):
    wider = Spec({"screen": Sensor("image", (1, 4, 6))}, toys.SPEC.given, fps=10.0)
    with pytest.raises(WorldloomError, match=r"reads the sensor 'screen' .*4, 6.*has .*4, 5"):
        train(toys.Toy(wider), data, quick(), tmp_path / "a")
    more = Spec(toys.SPEC.shown, {**toys.SPEC.given, "wind": Control("continuous", (1,))}, fps=10.0)
    with pytest.raises(WorldloomError, match="no such control"):
        train(toys.Toy(more), data, quick(), tmp_path / "b")


class Narrow(toys.Toy):
    """A user's own class, of no registered family."""


def test_a_users_own_class_goes_all_the_way(tmp_path):
    """Trained, loaded with the class, dreamed in, measured."""
    data = toys.make_data(tmp_path / "data", episodes=40, length=16)
    out = tmp_path / "run"
    model = Narrow(config=toys.ToyConfig(hidden=4))
    train(model, data, quick(steps=3), out)
    with pytest.raises(WorldloomError, match=r"own class 'test_train:Narrow'.*kind=Narrow"):
        load_model(out)
    with pytest.raises(WorldloomError, match=r"of 'test_train:Narrow', not of 'training_toys:Toy'"):
        load_model(out, kind=toys.Toy)
    loaded = load_model(out, kind=Narrow)
    assert isinstance(loaded, Narrow)
    assert loaded.config == toys.ToyConfig(hidden=4)
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in loaded.state_dict().items())
    starts = load_starts(out).time(slice(0, 3))
    dream = imagine(loaded, starts, torch.ones(starts.batch, 2, dtype=torch.int64))
    assert dream.obs["screen"].shape == (starts.batch, 2, 1, 4, 5)
    report = evaluate(out, kind=Narrow, starts=3, prompt=3, horizon=4, progress=None)
    assert report["run"]["family"] == "test_train:Narrow"
    with pytest.raises(WorldloomError, match="kind=Narrow"):
        evaluate(out, progress=None)


def test_the_class_of_a_registered_family_may_be_given(toy, data, tmp_path):
    train(toy(), data, quick(steps=2), tmp_path / "run")
    assert isinstance(load_model(tmp_path / "run", kind=toy), toy)
    with pytest.raises(WorldloomError, match=r"of 'toy', not of 'test_train:Narrow'.*or none"):
        load_model(tmp_path / "run", kind=Narrow)


def test_a_class_of_the_script_that_trained_it_is_the_same_class(tmp_path, monkeypatch):
    monkeypatch.setattr(Narrow, "__module__", "__main__")
    save_model(tmp_path / "model.safetensors", Narrow())
    monkeypatch.undo()
    assert isinstance(load_model(tmp_path, kind=Narrow), Narrow)
    with pytest.raises(WorldloomError, match="'__main__:Narrow'"):
        load_model(tmp_path, kind=toys.Toy)


@pytest.mark.parametrize("config", [None, {"hidden": 4, "sides": [1, 2.5], "name": "a"}])
def test_a_model_without_a_typed_config_gets_what_was_stored(tmp_path, config):
    class Plain(toys.Toy):
        Config = None

        def __init__(self, spec, config=None):
            super().__init__(spec)
            self.config = config

    save_model(tmp_path / "model.safetensors", Plain(toys.SPEC, config))
    assert load_model(tmp_path, kind=Plain).config == config
    with pytest.raises(WorldloomError, match="config of Plain can't be stored"):
        save_model(tmp_path / "model.safetensors", Plain(toys.SPEC, object()))


def test_window_length_is_given_or_wished_for(toy, data, tmp_path):
    lengths = []

    class Listening(toys.Toy):
        def loss(self, segment, generator=None):
            lengths.append(segment.length)
            return super().loss(segment, generator)

    settings = {"steps": 1, "validate_every": 0}
    train(Listening(), data, quick(**settings), tmp_path / "a")
    train(Listening(), data, quick(**settings, length=7), tmp_path / "b")
    Listening.window = None
    train(Listening(), data, quick(**settings), tmp_path / "c")
    assert lengths == [5, 7, 16]


def test_bf16_reaches_the_forward_pass_and_weights_stay_float32(toy, data, tmp_path):
    dtypes = []

    class Listening(toys.Toy):
        def predict(self, pixels, action):
            out = super().predict(pixels, action)
            dtypes.append(out.dtype)
            return out

    summary = train(Listening(), data, quick(steps=2, precision="bf16"), tmp_path / "run")
    assert summary.precision == "bf16"
    assert set(dtypes) == {torch.bfloat16}
    tensors, _ = load_tensors(tmp_path / "run" / "model.safetensors")
    assert tensors["inside.weight"].dtype == torch.float32


def test_auto_precision_is_stored_and_kept_on_resuming(toy, data, tmp_path, monkeypatch):
    from worldloom.training import devices

    out = tmp_path / "run"
    monkeypatch.setattr(devices, "native_bf16", lambda device: True)
    train(toy(), data, quick(steps=2, precision="auto"), out)
    monkeypatch.setattr(devices, "native_bf16", lambda device: False)
    assert train(toy(), data, quick(steps=4, precision="auto"), out, force=True).precision == "bf16"


# ---------------------------------------------------------------------------------------------------------- filmstrips


def test_a_filmstrip_shows_the_real_frames_above_the_dream(toy, data, tmp_path):
    from PIL import Image

    held = HeldOut(data, quick(), 5, torch.device("cpu"), "float32")
    segment, prompt = held.segment(2)
    assert (segment.length, prompt) == (9, 3)
    model = toy().train()
    first = write_filmstrip(tmp_path / "a.png", model, segment, prompt)
    assert model.training
    second = write_filmstrip(tmp_path / "b.png", model, segment, prompt)
    assert first.read_bytes() == second.read_bytes()
    with torch.no_grad():
        model.outside.bias += 0.5
    assert write_filmstrip(tmp_path / "c.png", model, segment, prompt).read_bytes() != first.read_bytes()
    with Image.open(first) as picture:
        pixels = np.asarray(picture)
    assert pixels.ndim == 3
    assert len(np.unique(pixels)) > 2


def test_range_images_are_scaled_and_odd_channels_cut():
    real = torch.tensor([2.0, 4.0]).reshape(1, 1, 1, 1, 2)
    a, b = pictures(real, torch.tensor([3.0, 9.0]).reshape(1, 1, 1, 1, 2))
    assert a.flatten().tolist() == [0, 255]
    assert b.flatten().tolist() == [127, 255]
    five = torch.zeros(1, 2, 5, 3, 3, dtype=torch.uint8)
    assert pictures(five, five)[0].shape == (1, 2, 1, 3, 3)


def test_a_world_without_pictures_trains_without_filmstrips(toy, tmp_path):
    spec = Spec({"position": Sensor("vector", (2,))}, {}, fps=5.0)

    class Vectors(toys.Toy):
        def loss(self, segment, generator=None):
            from worldloom.contract import Loss

            return Loss((self.outside.bias.sum() - segment.obs["position"].mean()).square())

    with DatasetWriter(tmp_path / "data", spec) as writer:
        for i in range(4):
            writer.add(Episode({"position": np.full((6, 2), i, np.float32)}))
    model = Vectors(spec)
    assert dreamed_sensor(model) is None
    train(model, Dataset(tmp_path / "data"), quick(steps=4, sample_every=1), tmp_path / "run")
    assert not (tmp_path / "run" / "samples").exists()


# ------------------------------------------------------------------------------------------------------------ trackers


def test_tensorboard_gets_figures_and_pictures(toy, data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    train(toy(), data, quick(steps=10, tracker="tensorboard", sample_every=5), out)
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    logged = {r["step"]: r["loss"] for r in untimed(out) if r["kind"] == "train"}
    assert {e.step: pytest.approx(e.value) for e in events.Scalars("loss")} == logged
    assert [e.step for e in events.Scalars("val_loss")] == [10]
    assert [e.step for e in events.Images("samples")] == [5, 10]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_get_the_same_calls(toy, data, tmp_path, monkeypatch, name):
    calls = []
    fake = types.ModuleType(name)
    fake.init = lambda **options: calls.append(("init", options))
    fake.log = lambda values, step: calls.append(("log", step, sorted(values)))
    fake.Image = lambda path: path
    fake.finish = lambda: calls.append(("finish",))
    monkeypatch.setitem(sys.modules, name, fake)
    train(toy(), data, quick(steps=10, tracker=name, sample_every=10), tmp_path / "run")
    assert calls[0][1]["name"] == "run"
    assert calls[0][1]["config"]["train"]["steps"] == 10
    assert [c[1] for c in calls if c[0] == "log"] == [5, 10, 10, 10]
    assert ("log", 10, ["samples"]) in calls
    assert calls[-1] == ("finish",)


def test_a_missing_tracker_names_the_extra(toy, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(WorldloomError, match=r"needs the package wandb.*pip install 'worldloom\[track\]'"):
        train(toy(), data, quick(tracker="wandb"), tmp_path / "run")


# ------------------------------------------------------------------------------------------------------- malloc, lines


def test_malloc_is_tuned_once_on_glibc_and_left_alone_where_the_user_did():
    """In processes of their own: a big block is then not mapped, and so stays with the process when freed."""
    code = (
        "import os, sys, importlib.util as u\n"
        f"s = u.spec_from_file_location('m', {str(Path(training.__file__).with_name('malloc.py'))!r})\n"
        "m = u.module_from_spec(s); s.loader.exec_module(m)\n"
        "import ctypes\n"
        "done = m.tune_malloc(); assert m.tune_malloc() is done\n"
        "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; libc.malloc.argtypes = [ctypes.c_size_t]\n"
        "libc.free.argtypes = [ctypes.c_void_p]\n"
        "p = libc.malloc(200 << 20); ctypes.memset(p, 1, 200 << 20); libc.free(p)\n"
        "pages = int(open('/proc/self/statm').read().split()[1]) if sys.platform == 'linux' else 0\n"
        "print(done, pages * os.sysconf('SC_PAGE_SIZE') > 150 << 20 if pages else done)\n"
    )

    def say(**environment):
        command, environment = [sys.executable, "-c", code], {"PATH": "/usr/bin", **environment}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()

    tuned, kept = say()
    assert tuned == kept
    if sys.platform == "linux" and tuned == "False":
        pytest.skip("not glibc")
    assert say(MALLOC_MMAP_MAX_="65536") == ["False", "False"]


def test_progress_reads_well():
    assert clock(75.0) == "1:15"
    assert clock(3700.0) == "1:01:40"
    line = describe(50, 100, {"loss": 0.12345, "val_loss": 0.2, "steps_per_second": 2.0, "frames_per_second": 320.0})
    assert line == "step 50/100  loss 0.1235  val 0.2  2 it/s  320 frames/s  0:25 left"


def test_a_bar_is_drawn_on_a_terminal(toy, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    train(toy(), data, quick(steps=4), tmp_path / "run")
    said = capsys.readouterr().out
    assert "step 4/4" in said
    assert "Done: 4 steps" in said
