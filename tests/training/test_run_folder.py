"""The folder of a run: one trainer at a time, full disks, and folders that are something else."""

from __future__ import annotations

import errno
import json
import os
import tempfile

import pytest
import training_toys as toys
from training_toys import newest, quick, same_outcome

from worldloom.contract import Loss, WorldloomError
from worldloom.files import load_tensors, read_json
from worldloom.training import NonFiniteError, train
from worldloom.training.checkpoints import list_checkpoints, newest_valid
from worldloom.training.config import FREE, TrainConfig, differences
from worldloom.training.logs import JsonLog, Means, read_log
from worldloom.training.run import RunFolder, compare_runs


def test_two_trainers_in_one_folder_are_refused_with_the_holder_named(toy, data, tmp_path):
    out = tmp_path / "run"
    with RunFolder(out).locked():
        with pytest.raises(WorldloomError, match=rf"Another trainer \(process {os.getpid()}\) is at work in .*run"):
            train(toy(), data, quick(), out)
        assert not (out / "config.json").exists()
    train(toy(), data, quick(), out)  # free again
    assert not (out / ".lock.pid").exists()


def test_a_trainer_that_was_killed_holds_nothing(trainers, toy, data, tmp_path):
    code, _ = trainers.run(tmp_path / "run", crash=4)
    assert code == -9
    assert (tmp_path / "run" / ".lock.pid").exists()
    assert train(toy(), data, quick(), tmp_path / "run").steps == 20


def test_what_a_finished_run_holds(toy, data, tmp_path):
    out = tmp_path / "run"
    train(toy(), data, quick(sample_every=None), out, describe={"recipe": "toy"})
    config = read_json(out / "config.json")
    assert config["describe"] == {"recipe": "toy"}
    assert config["model"]["family"] == "toy"
    assert config["data"]["fingerprint"] == data.fingerprint
    assert set(config["versions"]) == {"worldloom", "python", "torch", "numpy", "platform"}
    assert config["resolved"] == {
        "steps": 20, "device": "cpu", "precision": "float32", "length": 5, "parameters": 302, "threads": 1
    }  # fmt: skip
    assert sorted(p.name for p in (out / "samples").iterdir()) == [f"step_{s:08d}.png" for s in (4, 8, 12, 16, 20)]
    summary = read_json(out / "summary.json")
    assert summary["steps"] == 20
    assert summary["parameters"] == 302
    assert "path" not in summary  # a run can be moved
    from worldloom.imagination import load_starts

    starts = load_starts(out)
    assert starts.length == 9
    held = {bytes(data.episode(int(e)).obs["screen"]) for e in data.splits["val"]}
    assert all(any(bytes(row.numpy()) in whole for whole in held) for row in starts.obs["screen"])


@pytest.mark.parametrize("name", ["model.safetensors", "log.jsonl", "checkpoints"])
def test_results_without_a_configuration_are_not_overwritten(toy, data, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(WorldloomError, match=f"holds {name} but no config.json"):
        train(toy(), data, quick(), tmp_path)


def test_a_folder_that_is_something_else(toy, data, tmp_path):
    (tmp_path / "config.json").write_text('{"name": "other"}')
    with pytest.raises(WorldloomError, match=r"is not the config.json of a run"):
        train(toy(), data, quick(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldloomError, match=r"Can't use .*file as a run's folder"):
        train(toy(), data, quick(), tmp_path / "file")


class Disk:
    """Makes the ``number``-th call of a save to the operating system fail."""

    def __init__(self, monkeypatch, number, code):
        self.calls, self.number, self.code = 0, number, code
        for module, name in ((os, "fsync"), (tempfile, "mkstemp")):
            monkeypatch.setattr(module, name, self._failing(getattr(module, name)))

    def _failing(self, plain):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.number:
                raise OSError(self.code, os.strerror(self.code))
            return plain(*args, **kwargs)

        return call


@pytest.fixture(scope="module")
def untouched(data, tmp_path_factory):
    """A run on a disk without faults."""
    patch = pytest.MonkeyPatch()
    toys.register(patch)
    out = tmp_path_factory.mktemp("untouched") / "run"
    train(toys.Toy(), data, quick(checkpoint_every=6), out)
    patch.undo()
    return out


def test_a_disk_that_refuses_at_any_call(toy, data, untouched, tmp_path, monkeypatch):
    """Each call in turn: one clear error, the last checkpoint whole, and afterwards the run goes on as ever."""
    number, config = 1, quick(checkpoint_every=6)
    while True:
        out, error = tmp_path / str(number), ""
        with monkeypatch.context() as patch:
            disk = Disk(patch, number, errno.ENOSPC if number % 2 else errno.EACCES)
            try:
                train(toy(), data, config, out, echo=lambda line: None)
            except WorldloomError as raised:
                error = str(raised)
        if disk.calls < number:
            break
        assert str(out) in error
        assert os.strerror(disk.code) in error
        before, said = list_checkpoints(out / "checkpoints"), []
        if before:
            assert newest_valid(out / "checkpoints", said.append).step == before[0][0]
        train(toy(), data, config, out, echo=said.append)
        assert not any("damaged" in line for line in said)
        same_outcome(out, untouched)
        number += 1
    assert number > 15


def test_a_full_disk_need_not_stop_the_training(toy, data, untouched, tmp_path, monkeypatch):
    from worldloom.training import trainer

    said, plain = [], trainer.save_checkpoint

    def refusing(folder, step, *rest):
        if step == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(folder, step, *rest)

    monkeypatch.setattr(trainer, "save_checkpoint", refusing)
    train(toy(), data, quick(checkpoint_every=6, save_errors="continue"), tmp_path / "run", echo=said.append)
    words = "No space left on device", "Training goes on; the last checkpoint is of step 6"
    assert sum(all(part in line for part in words) for line in said) == 1
    same_outcome(tmp_path / "run", untouched)


def test_nan_stops_with_the_last_checkpoint_untouched(toy, data, tmp_path):
    out = tmp_path / "run"
    config = quick(checkpoint_every=4)
    with pytest.raises(NonFiniteError, match=r"at step 9: loss nan.*checkpoint of step 8 is untouched.*smaller lr"):
        train(toy(config=toys.ToyConfig(nan_at=9)), data, config, out)
    step, tensors, _ = newest(out)
    assert step == 8
    assert all(bool(x.isfinite().all()) for x in tensors.values())
    assert all(bool(x.isfinite().all()) for x in load_tensors(out / "model.safetensors")[0].values())
    assert not (out / "summary.json").exists()
    records = (out / "log.jsonl").read_text().splitlines()
    assert json.loads(records[-1])["kind"] == "stopped"


def test_weights_that_turned_infinite_under_a_finite_loss_are_not_saved(toy, data, tmp_path):
    model, said = toy(), []

    def spoil():
        model.norm.bias.data[0] = float("inf")  # tanh hides it from the loss and from the gradient

    with pytest.raises(NonFiniteError, match=r"Weights became .* by step 12; .*checkpoint of step 6 is untouched"):
        train(toys.at_call(model, 8, spoil), data, quick(checkpoint_every=6), tmp_path / "run", echo=said.append)
    assert newest(tmp_path / "run")[0] == 6
    assert load_tensors(tmp_path / "run" / "model.safetensors")[1]["step"] == 6


def test_skipped_batches_are_logged_as_valid_json_and_not_averaged(toy, data, tmp_path):
    model = toy()
    toys.at_call(model, 7, lambda: model.inside.weight.register_hook(bad_once()))
    train(model, data, quick(nonfinite="skip"), tmp_path / "run")
    records = read_log(tmp_path / "run" / "log.jsonl")
    assert [(r["step"], r["grad_norm"]) for r in records if r["kind"] == "skipped"] == [(7, None)]
    assert all(isinstance(r["loss"], float) for r in records if r["kind"] == "train")
    assert newest(tmp_path / "run")[2]["ema_updates"] == 19


def bad_once():
    left = [True]

    def hook(grad):
        return grad * float("nan") if left and left.pop() else grad

    return hook


def test_too_little_memory_is_one_sentence_and_other_errors_are_not_hidden(data, tmp_path):
    class Fails(toys.Toy):
        says = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"

        def loss(self, segment, generator=None):
            raise RuntimeError(self.says)

    with pytest.raises(WorldloomError, match=r"not enough memory to train in .*run.*--train\.batch"):
        train(Fails(), data, quick(), tmp_path / "run")
    Fails.says = "mat1 and mat2 shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match="mat1"):
        train(Fails(), data, quick(), tmp_path / "other")


def test_a_class_that_was_trained_by_its_script_may_be_trained_on_by_its_module(data, tmp_path, monkeypatch):
    monkeypatch.setattr(toys.Toy, "__module__", "__main__")
    train(toys.Toy(), data, quick(steps=2), tmp_path / "run")
    monkeypatch.undo()
    assert train(toys.Toy(), data, quick(steps=2), tmp_path / "run").steps == 2
    assert compare_runs(*({"train": {}, "data": {"fingerprint": ""}, "model": {"family": f}} for f in ("a:B", "a:C")))


# --------------------------------------------------------------------------------------------------------- log, config


def test_log_is_cut_back_to_the_checkpoint_and_torn_lines_are_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JsonLog(path, 0)
    for step in range(1, 6):
        log.write({"kind": "train", "step": step, "loss": float("nan") if step == 2 else step / 2})
    log.close()
    path.write_bytes(path.read_bytes() + b'{"kind": "train", "st')
    assert [r["loss"] for r in read_log(path)] == [0.5, None, 1.5, 2.0, 2.5]
    log = JsonLog(path, 3)
    log.write({"kind": "train", "step": 4, "loss": float("inf")})
    log.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["step"] for line in lines] == [1, 2, 3, 4]


def test_a_metric_may_be_called_as_the_logs_own_fields_are(data, tmp_path):
    class Sums(toys.Toy):
        def loss(self, segment, generator=None):
            found = super().loss(segment, generator)
            return Loss(found.total, {"check": found.total, "kind": found.total})

    train(Sums(), data, quick(steps=4, log_every=2, sample_every=0), tmp_path / "run")
    records = [r for r in read_log(tmp_path / "run" / "log.jsonl") if r["kind"] == "train"]
    assert [r["step"] for r in records] == [2, 4]
    assert all(r["model_check"] == r["model_kind"] == r["loss"] for r in records)


def test_a_record_that_does_not_fit_on_the_disk_leaves_no_torn_line(tmp_path):
    log = JsonLog(tmp_path / "log.jsonl", 0)
    log.write({"step": 1})

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    whole, log._file = log._file, Full(log._file)
    with pytest.raises(WorldloomError, match=r"log\.jsonl: No space left"):
        log.write({"step": 2})
    log._file = whole
    log.write({"step": 3})
    log.close()
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2}, {"step": 3}]  # the second had waited
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 3


def test_means_leave_out_what_is_not_finite_and_survive_json():
    means = Means()
    for value in (0.1, float("nan"), 0.2):
        means.add({"loss": value, "bad": float("inf")})
    again = Means(json.loads(json.dumps(means.state())))
    again.add({"loss": 0.3})
    taken = again.take()
    assert taken["loss"] == (0.1 + 0.2 + 0.3) / 3
    assert taken["bad"] != taken["bad"]
    assert again.take() == {}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "steps or minutes"),
        ({"steps": 3, "minutes": 1.0}, "steps or minutes"),
        ({"steps": 0}, "steps must be"),
        ({"minutes": float("nan")}, "minutes must be"),
        ({"steps": 3, "lr": -1.0}, "lr must be"),
        ({"steps": 3, "ema": 1.0}, "ema must be"),
        ({"steps": 3, "betas": (0.9, 1.5)}, r"betas\[1\]"),
        ({"steps": 3, "batch": 2, "accumulate": 3}, "can't be cut into 3"),
        ({"steps": 3, "keep": 0}, "keep must be"),
    ],
)
def test_a_bad_setting_is_named(settings, named):
    with pytest.raises(WorldloomError, match=named):
        TrainConfig(**settings)


def test_differences_name_every_leaf():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert differences(old, {"a": {"b": 1, "c": (1, 2)}, "d": None}) == []
    new = {"a": {"b": 2, "c": [1]}, "e": "x"}
    assert differences(old, new) == ["a.b: 1 -> 2", "a.c: [1, 2] -> [1]", "e: None -> 'x'"]
    assert set(TrainConfig.__dataclass_fields__) > FREE
