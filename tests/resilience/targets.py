"""The loaders that hostile files are given to: how a sound file is made, loaded and compared."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import foreign
import torch
import training_toys as toys
from scenarios import begin, go_on, short_episode

from worldloom.configs import from_json, to_json
from worldloom.contract import Control, Sensor, Spec
from worldloom.data import Dataset, DatasetWriter, Windows
from worldloom.files import load_tensors, read_json, save_tensors
from worldloom.imagination.starts import load_starts
from worldloom.models import build
from worldloom.models.saved import load_model, save_model
from worldloom.training.checkpoints import newest_valid, save_checkpoint
from worldloom.training.logs import JsonLog, read_log
from worldloom.training.run import RunFolder

toys.register()


class WrongError(Exception):
    """What was loaded is not what was saved."""


def same(expected: Any, found: Any) -> None:
    """Equal, bit for bit."""
    if _plain(expected) != _plain(found):
        raise WrongError(f"{str(_plain(found))[:150]} instead of {str(_plain(expected))[:150]}")


def holds(expected: Any, found: Any) -> None:
    """All of ``expected`` stands in ``found``, which may say more."""
    if not isinstance(found, Mapping):
        raise WrongError(f"{found!r}"[:150])
    same(expected, {k: v for k, v in found.items() if k in expected})


def some(expected: Any, found: Any) -> None:
    """Every record that is ``found`` is one of ``expected``, and may say more."""
    strange = [x for x in found if not any(e.items() <= x.items() for e in expected)]
    if strange:
        raise WrongError(f"{strange[0]!r}"[:150])


def anything(expected: Any, found: Any) -> None:
    """For what carries no hash: that it loads into the right types is enough, and checked by the loader."""


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


@dataclass(frozen=True)
class Target:
    """A loader."""

    make: Callable[[Path], None]
    """Write sound files into a new folder."""
    files: dict[str, str]
    """Those that are changed, and their kind in ``mutate.KNOWING``; other kinds are only damaged."""
    load: Callable[[Path], Any]
    """Read all of it."""
    compare: Callable[[Any, Any], None] = same
    """Raise :class:`WrongError` unless what is found is what is expected."""
    hashed: bool = True
    """Whether any change must be found, unless hashes were forged."""
    share: float = 1.0
    """Of the cases."""
    extra: dict[str, Any] = field(default_factory=dict)


def quiet(line: str) -> None:
    pass


# ------------------------------------------------------------------------------------------------------ models, tensors


def make_tensors(folder: Path) -> None:
    folder.mkdir(parents=True)
    tensors = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5, dtype=torch.int64), "c": torch.zeros(0, 2)}
    save_tensors(folder / "x.safetensors", tensors, {"kind": "x", "list": [1, {"deep": "er"}]})


def make_model(family: str, config: dict[str, Any]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        spec = Spec(
            {"screen": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3, names=("a", "b", "c"))}
        )
        torch.manual_seed(0)
        save_model(folder / "model.safetensors", build(family, spec, config), step=3)

    return make


def read_model(folder: Path) -> Any:
    model = load_model(folder)
    return model.state_dict(), to_json(model.config), model.spec.to_json()


def make_checkpoints(folder: Path) -> None:
    for step in (1, 2):
        save_checkpoint(folder / "c", step, {"model/w": torch.arange(40.0) * step}, {"note": [step]}, 5)


def read_checkpoints(folder: Path) -> Any:
    found = newest_valid(folder / "c", quiet)
    return found.step, found.tensors, found.meta


def either(expected: Any, found: Any) -> None:
    """The newest checkpoint as it was, or the one before it."""
    step, tensors, meta = found
    if step not in (1, 2):
        raise WrongError(f"step {step}")
    same(({"model/w": torch.arange(40.0) * step}, {"note": [step], "step": step}), (tensors, meta))


# ------------------------------------------------------------------------------------------------------- runs and data


def make_dataset(folder: Path) -> None:
    with DatasetWriter(folder, toys.SPEC, {"name": "toy"}, shard_bytes=600) as writer:
        for number in range(7):
            writer.add(short_episode(number))
    _ = Dataset(folder).splits


def read_dataset(folder: Path) -> Any:
    data = Dataset(folder)
    splits = {name: part.tolist() for name, part in data.splits.items()}
    batch = Windows(data, "train", 3).batch(2, seed=0, step=0)
    frames = [data.episode(i).obs["screen"].tobytes() for i in range(len(data))]
    data.describe()
    data.verify()
    return data.spec.to_json(), data.info, frames, splits, batch.obs


def prefix(expected: Any, found: Any) -> None:
    """The dataset as it was, or the first of its episodes: an index that is cut is one whose writer was killed."""
    if len(found[2]) >= len(expected[2]):
        same(expected, found)
    else:
        same((*expected[:2], expected[2][: len(found[2])]), found[:3])


_DATA: list[Dataset] = []


def toy_data() -> Dataset:
    """Made once a process, in a folder that ends with it."""
    import tempfile

    if not _DATA:
        folder = tempfile.TemporaryDirectory(prefix="fuzz-data-")
        data = toys.make_data(Path(folder.name) / "data")
        data.folder_that_lives_as_long = folder  # type: ignore[attr-defined]
        _DATA.append(data)
    return _DATA[0]


def make_run(folder: Path) -> None:
    begin(toy_data(), folder)
    (folder / "summary.json").write_bytes(b"{}")
    RunFolder(folder).write_summary({"steps": 6, "train_seconds": 1.5, "loss": None})


def read_run(folder: Path) -> Any:
    run = RunFolder(folder)
    return {"config": run.config(quiet), "summary": run.summary()}


def run_same(expected: Any, found: Any) -> None:
    for name in expected:
        holds(expected[name], found[name])


def make_half(folder: Path) -> None:
    begin(toy_data(), folder)


def resume(folder: Path) -> Any:
    """All that a resumed training reads. What was left off is trained again, so the outcome is the same."""
    go_on(toy_data(), folder)
    return load_tensors(folder / "model.safetensors")[0]


def make_log(folder: Path) -> None:
    folder.mkdir(parents=True)
    log = JsonLog(folder / "log.jsonl", 0)
    for step in range(1, 8):
        log.write({"kind": "train", "step": step, "loss": step / 3, "lr": None})
    log.close()


def make_dreamer(folder: Path) -> None:
    go_on(toy_data(), folder)


def dream(folder: Path) -> Any:
    from worldloom.recipes.show import imagine_video

    return len(list(imagine_video(folder, folder / "dream.png", frames=2, prompt=2, device="cpu")))


def make_report(folder: Path) -> None:
    from worldloom.evaluation.schema import DataInfo, Figure, Report, RunInfo, Setting, Verdict
    from worldloom.evaluation.schema import to_json as report_json
    from worldloom.files import write_json

    figure = Figure(
        {"1": 0.5}, {"1": (0.1, 0.9)}, n=4, n_of="starts", seed=1, title="T", unit="px", statistic="median",
        better="lower", meaning="m", blind_to="b",
    )  # fmt: skip
    report = Report(
        RunInfo("run", "toy", "00", 10), DataInfo("data", "ff", "test", 2, 2), Setting(4, 2, 5, 0, 0, "cpu", 1),
        Verdict("headline", ("point",)), {"figure": figure}, {"worldloom": "0"}, "2020-01-01T00:00:00+00:00", ("note",),
    )  # fmt: skip
    write_json(folder / "report.json", report_json(report), sealed=True)


def read_report(folder: Path) -> Any:
    from worldloom.evaluation.schema import load_report
    from worldloom.evaluation.schema import to_json as report_json

    return report_json(load_report(folder))


# -------------------------------------------------------------------------------------------------- plain descriptions


def make_json(value: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "x.json").write_text(json.dumps(value, indent=1), encoding="utf-8")

    return make


SPEC = Spec(
    {"eye": Sensor("image", (3, 8, 8)), "depth": Sensor("range", (1, 4, 4), "m"), "at": Sensor("vector", (2,), "rad")},
    {
        "action": Control("continuous", (2,), names=("x", "y"), low=(-1.0, 0.0), high=(1.0, 2.0)),
        "text": Control("tokens", (5,), n=9, per="once"),
        "map": Control("map", (1, 4, 4)),
    },
)  # fmt: skip


def read_spec(folder: Path) -> Any:
    """A spec that is accepted must be whole: it can be stored, read again, and used."""
    spec = Spec.from_json(read_json(folder / "x.json"))
    again = Spec.from_json(spec.to_json())
    if again != spec:
        raise AssertionError("a spec does not survive being stored")
    for sensor in spec.shown.values():
        torch.empty((0, *sensor.shape), dtype=sensor.dtype)
    for control in spec.given.values():
        control.null(0)
        _ = control.names + control.low + control.high
    return spec.to_json()


def read_config(kind: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from worldloom.models import family
        from worldloom.training import TrainConfig
        from worldloom.worlds.balls import BallsConfig

        kinds = {"train": TrainConfig, "balls": BallsConfig}
        cls = kinds[kind] if kind in kinds else family(kind).Config
        config = from_json(cls, read_json(folder / "x.json"))
        if repr(from_json(cls, json.loads(json.dumps(to_json(config))))) != repr(config):  # NaN is not itself
            raise AssertionError("a config does not survive being stored")
        return to_json(config)

    return read


def config_target(kind: str) -> Target:
    def make(folder: Path) -> None:
        from worldloom.models import family
        from worldloom.training import TrainConfig
        from worldloom.worlds.balls import BallsConfig

        value = {"train": lambda: TrainConfig(steps=5), "balls": BallsConfig}.get(kind, lambda: family(kind).Config())()
        make_json(to_json(value))(folder)

    return Target(make, {"x.json": "plain"}, read_config(kind), hashed=False, share=0.5)


TARGETS: dict[str, Target] = {
    "tensors": Target(make_tensors, {"x.safetensors": "tensors"}, lambda p: load_tensors(p / "x.safetensors"), share=2),
    "recurrent": Target(
        make_model("recurrent", {"deter": 16, "units": 8, "stoch": 2, "classes": 3, "bins": 5, "channels": 2}),
        {"model.safetensors": "tensors"},
        read_model,
        share=0.5,
    ),
    "diffusion": Target(make_model("diffusion", {}), {"model.safetensors": "tensors"}, read_model, share=0.2),
    "checkpoints": Target(
        make_checkpoints, {"c/step_00000002.safetensors": "tensors"}, read_checkpoints, either, share=2
    ),
    "starts": Target(make_half, {"starts.safetensors": "tensors"}, load_starts, share=2),
    "dataset": Target(
        make_dataset,
        {"dataset.json": "sealed", "index.jsonl": "index", "splits.json": "sealed", "shards/000000.bin": "bytes"},
        read_dataset,
        prefix,
        share=2,
    ),
    "run": Target(make_run, {"config.json": "sealed", "summary.json": "sealed"}, read_run, run_same, share=2),
    "log": Target(make_log, {"log.jsonl": "log"}, lambda p: read_log(p / "log.jsonl"), some, share=2),
    "report": Target(make_report, {"report.json": "sealed"}, read_report, share=2),
    "spec": Target(make_json(SPEC.to_json()), {"x.json": "plain"}, read_spec, hashed=False, share=2),
    "config_train": config_target("train"),
    "config_balls": config_target("balls"),
    "config_recurrent": config_target("recurrent"),
    "config_diffusion": config_target("diffusion"),
    "resume": Target(
        make_half,
        {
            "config.json": "sealed",
            "starts.safetensors": "tensors",
            "model.safetensors": "tensors",
            "log.jsonl": "log",
            "checkpoints/step_00000003.safetensors": "tensors",
        },
        resume,
        share=0.1,
    ),
    "imagine": Target(
        make_dreamer, {"config.json": "sealed", "starts.safetensors": "tensors"}, dream, anything, share=0.2
    ),
}
"""By name."""
TARGETS |= {
    name: Target(make, files, load, anything, hashed=False, share=share)
    for name, (make, load, files, share) in foreign.FORMATS.items()
}

__all__ = ["TARGETS", "Target", "WrongError"]
