"""The suite itself: a small good model passes, and a model with one broken mechanism fails the check of that name."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldloom.conformance import CHECKS, check_model
from worldloom.contract import ContractError, Control, Loss, Sensor, Spec, State, WorldModel, row_keys
from worldloom.models import FAMILIES, family
from worldloom.nn.noise import normal

SPEC = Spec(
    {"camera": Sensor("image", (1, 6, 5)), "body": Sensor("vector", (2,))},
    {"action": Control("discrete", n=3), "wind": Control("continuous", (2,), low=(-1.0, -2.0), high=(1.0, 2.0))},
)
SPECS = {
    "pixels": Spec({"camera": Sensor("image", (3, 32, 32))}, {"action": Control("discrete", n=4)}),
    "robot": Spec(
        {"camera": Sensor("image", (3, 32, 32)), "body": Sensor("vector", (5,))},
        {"action": Control("continuous", (2,), low=(-1.0, 0.0), high=(1.0, 2.0))},
    ),
    "pushed": Spec({"camera": Sensor("image", (3, 32, 32))}, {"action": Control("continuous", (2,))}),
    "video": Spec({"camera": Sensor("image", (3, 32, 32))}),
    "told": Spec(
        {"view": Sensor("image", (1, 20, 28)), "depth": Sensor("range", (1, 16, 16))},
        {"action": Control("discrete", n=2), "task": Control("discrete", n=3, per="once")},
    ),
}


class Toy(WorldModel):
    """h_t from the mean of the last three h, the controls, and a draw or the frame. The ring is written in place
    where it is donated. Every hook below is a mechanism that one of the broken models takes away."""

    width, ring = 12, 3

    def __init__(self, spec: Spec, config: object = None):
        super().__init__(spec, config)
        self.names = self.order(spec)
        self.sizes = [math.prod(spec.shown[n].shape) for n in self.names]
        self.see, self.do = nn.Linear(sum(self.sizes), self.width), nn.Linear(6, self.width)
        self.mix, self.show = nn.Linear(self.width, self.width), nn.Linear(self.width, sum(self.sizes))

    def order(self, spec):
        return sorted(spec.shown)

    def flat(self, obs):
        return torch.cat([obs[n].flatten(1).float() / (255 if n == "camera" else 1) for n in self.names], -1)

    def given(self, control):
        return torch.cat([F.one_hot(control["action"], 4).float(), control["wind"]], -1)

    def check(self, state, obs, control):
        if obs is not None:
            self.spec.check_obs(obs, state.batch)
        return self.spec.controls(control, state.batch)

    def reset(self, ring, given, null, first):
        return torch.where(first[:, None, None], 0.0, ring), torch.where(first[:, None], null, given)

    def noise(self, state):
        return normal(state.key, state.frame, 0, (self.width,))

    def memory(self, ring):
        return self.mix(ring.mean(1))

    def null(self, batch):
        return self.given({name: c.null(batch) for name, c in self.spec.given.items()})

    def advance(self, state, obs, control, first, donate):
        given = self.given(self.check(state, obs, control))
        ring = self.taken(state, donate)
        if first is not None:
            cleared, given = self.reset(ring, given, self.null(state.batch), first)
            ring.copy_(cleared)
        extra = 0.3 * self.noise(state) if obs is None else self.see(self.flat(obs))
        h = torch.tanh(self.memory(ring) + self.do(given) + extra)
        place = F.one_hot(state.frame % self.ring, self.ring).bool()[..., None]
        ring.copy_(torch.where(place, h[:, None], ring))
        return state.replace(h=h, ring=ring, frame=state.frame + 1)

    def taken(self, state, donate):
        return state["ring"] if donate else state["ring"].clone()

    def start(self, batch, seed=0, control=None):
        return State(
            {
                "key": row_keys(batch, seed),
                "frame": torch.zeros(batch, dtype=torch.int64),
                "h": torch.zeros(batch, self.width),
                "ring": torch.zeros(batch, self.ring, self.width),
            }
        )

    def observe(self, state, obs, control=None, *, first=None, donate=False):
        return self.advance(state, obs, control, first, donate)

    def step(self, state, control=None, *, donate=False):
        if not bool((state.frame > 0).all()):
            self.require("unprompted")
        return self.advance(state, None, control, None, donate)

    def features(self, state):
        return state["h"]

    def decode(self, state, *, raw=False):
        seen, parts = (state.frame > 0).float()[:, None], self.show(state["h"]).split(self.sizes, -1)
        out = {n: (x * seen).unflatten(1, self.spec.shown[n].shape) for n, x in zip(self.names, parts, strict=True)}
        out["camera"] = torch.sigmoid(out["camera"]) * seen[..., None, None]
        if not raw:
            out["camera"] = (out["camera"] * 255).round().to(torch.uint8)
        return out

    def frames(self, values):
        return values

    def average(self, frames, valid):
        return torch.where(valid, frames, 0.0).sum() / valid.sum()

    def draw(self, shape, generator):
        return torch.randn(shape, generator=generator)

    def loss(self, segment, generator=None):
        B, T = segment.first.shape
        ring, losses, states = torch.zeros(B, self.ring, self.width), [], []
        flat = self.frames(self.flat({k: v.flatten(0, 1) for k, v in segment.obs.items()}).unflatten(0, (B, T)))
        for t in range(T):
            given = self.given({k: v[:, t] for k, v in segment.control.items()})
            ring, given = self.reset(ring, given, self.null(B), segment.first[:, t])
            base = self.memory(ring) + self.do(given)
            prior = torch.tanh(base + 0.3 * self.draw((B, self.width), generator))
            h = torch.tanh(base + self.see(flat[:, t]))
            losses.append(sum((self.show(x) - flat[:, t]).square().mean(-1) for x in (prior, h)))
            place = F.one_hot(torch.tensor(t % self.ring), self.ring).bool()[None, :, None]
            ring = torch.where(place, h[:, None], ring)
            states.append({"h": h, "ring": ring})
        frame, key = torch.arange(1, T + 1).repeat(B), row_keys(B * T, 0)
        joined = {k: self.rows(torch.stack([s[k] for s in states], 1)) for k in ("h", "ring")}
        total = self.average(torch.stack(losses, 1), segment.valid)
        return Loss(total, {"error": total.detach()}, State({"key": key, "frame": frame, **joined}))

    def rows(self, x):
        return x.flatten(0, 1)


# ------------------------------------------------------------------------------- broken models

BROKEN: list[tuple[str, type[Toy]]] = []


def breaks(*checks: str):
    """Register a model that must fail every named check."""

    def register(cls: type[Toy]) -> type[Toy]:
        BROKEN.extend((check, cls) for check in checks)
        return cls

    return register


@breaks("read_only")
class WritesIntoTheGivenState(Toy):
    def taken(self, state, donate):
        return state["ring"]


@breaks("read_only", "causal")
class ShowsTheFutureInThePast(Toy):
    def advance(self, state, obs, control, first, donate):
        new = super().advance(state, obs, control, first, donate)
        return new.replace(h=state["h"].copy_(new["h"]))


@breaks("donate")
class WritesIntoAnotherState(Toy):
    """Observing shares the ring with the older state; a donated step then writes into it."""

    def observe(self, state, obs, control=None, *, first=None, donate=False):
        new = super().observe(state, obs, control, first=first, donate=donate)
        return new if donate else new.replace(ring=state["ring"])


@breaks("donate")
class ShowsItsOwnMemory(Toy):
    def features(self, state):
        return state["ring"].flatten(1)


@breaks("donate")
class DonatingChangesTheDream(Toy):
    def step(self, state, control=None, *, donate=False):
        new = super().step(state, control, donate=donate)
        return new.replace(h=new["h"] * 1.5) if donate else new


@breaks("controls")
class IgnoresTheAction(Toy):
    def given(self, control):
        return torch.cat([torch.zeros(len(control["wind"]), 4), control["wind"]], -1)


@breaks("controls")
class IgnoresOneEntry(Toy):
    def given(self, control):
        return super().given({**control, "wind": control["wind"] * torch.tensor([1.0, 0.0])})


@breaks("controls")
class TakesNoneForTheLastChoice(Toy):
    def given(self, control):
        return super().given({**control, "action": control["action"].clamp(max=2)})


@breaks("hidden_state")
class RemembersInTheModule(Toy):
    last: Tensor | None = None

    def memory(self, ring):
        out = super().memory(ring)
        if self.last is not None and self.last.shape == out.shape:
            out = out + 0.1 * self.last
        self.last = out.detach()
        return out


@breaks("hidden_state")
class CountsInABuffer(Toy):
    def __init__(self, spec, config=None):
        super().__init__(spec, config)
        self.register_buffer("calls", torch.zeros(()))

    def memory(self, ring):
        self.calls += 1
        return super().memory(ring)


@breaks("randomness")
class DrawsFromTheGlobalGenerator(Toy):
    def noise(self, state):
        return torch.randn(state.batch, self.width)


@breaks("randomness", "rows")
class DrawsByPlaceInTheBatch(Toy):
    def noise(self, state):
        return normal(row_keys(state.batch, 0), state.frame, 0, (self.width,))


@breaks("randomness", "rows")
class MixesTheBatch(Toy):
    def memory(self, ring):
        return super().memory(ring) + 0.1 * ring.mean((0, 1))


@breaks("first")
class RemembersAcrossFirst(Toy):
    def reset(self, ring, given, null, first):
        return ring, super().reset(ring, given, null, first)[1]


@breaks("first")
class ActsAcrossFirst(Toy):
    def reset(self, ring, given, null, first):
        return super().reset(ring, given, null, first)[0], given


@breaks("first")
class ResetsEveryRow(Toy):
    def reset(self, ring, given, null, first):
        return super().reset(ring, given, null, first.any().expand(first.shape))


@breaks("first")
class CountsAnewAtFirst(Toy):
    def observe(self, state, obs, control=None, *, first=None, donate=False):
        new = super().observe(state, obs, control, first=first, donate=donate)
        return new if first is None else new.replace(frame=torch.where(first, 1, new.frame))


@breaks("age", "rows")
class GrowsWithAge(Toy):
    def step(self, state, control=None, *, donate=False):
        new = super().step(state.replace(ring=state["ring"][:, -3:]), control, donate=False)
        return new.replace(ring=torch.cat([state["ring"], new["ring"]], 1)[:, -9:])


@breaks("observe")
class IgnoresASensor(Toy):
    def flat(self, obs):
        return super().flat({**obs, "body": torch.zeros_like(obs["body"])})


@breaks("observe")
class ObservesByStepping(Toy):
    def observe(self, state, obs, control=None, *, first=None, donate=False):
        self.check(state, obs, control)
        return self.advance(state, None, control, first, donate)


@breaks("padding")
class LearnsFromPadding(Toy):
    def average(self, frames, valid):
        return frames.mean()


@breaks("padding", "posterior")
class LearnsAcrossFirst(Toy):
    def loss(self, segment, generator=None):
        return super().loss(dataclasses.replace(segment, first=torch.zeros_like(segment.first)), generator)


@breaks("padding", "posterior")
class LooksAhead(Toy):
    def frames(self, values):
        return values + 0.1 * values.mean(1, keepdim=True)


@breaks("causal_loss")
class PeeksWithinTheEpisode(Toy):
    """Each frame knows the next one, but nothing crosses ``first``; it shows no states in which one could see it."""

    def loss(self, segment, generator=None):
        last = torch.ones_like(segment.first[:, :1])
        self.ends = torch.cat([segment.first[:, 1:], last], 1)[..., None]
        return dataclasses.replace(super().loss(segment, generator), states=None)

    def frames(self, values):
        return values + 0.1 * torch.where(self.ends, 0.0, values.roll(-1, 1))


@breaks("posterior")
class PutsTimeFirst(Toy):
    def rows(self, x):
        return x.transpose(0, 1).flatten(0, 1)


@breaks("posterior")
class CutsTheGraph(Toy):
    def rows(self, x):
        return x.flatten(0, 1).detach()


@breaks("loss")
class TrainsOnGlobalDraws(Toy):
    def draw(self, shape, generator):
        return torch.randn(shape)


@breaks("loss")
class NeverTrainsItsControls(Toy):
    def given(self, control):
        return super().given(control) * 0


@breaks("loss")
class DividesByZero(Toy):
    def average(self, frames, valid):
        return super().average(frames, valid) / 0


@breaks("weights")
class HidesAWeight(Toy):
    def __init__(self, spec, config=None):
        super().__init__(spec, config)
        self.offset = [torch.randn(self.width)]

    def memory(self, ring):
        return super().memory(ring) + self.offset[0]


@breaks("weights")
class TrustsTheOrder(Toy):
    def order(self, spec):
        return list(spec.shown)


@breaks("inputs")
class ChecksNoObservation(Toy):
    def check(self, state, obs, control):
        return self.spec.controls(control, state.batch)


@breaks("inputs")
class ChecksNoControl(Toy):
    def check(self, state, obs, control):
        if obs is not None:
            self.spec.check_obs(obs, state.batch)
        return {k: v.clamp(0, 3) if k == "action" else v for k, v in control.items()}


@breaks("capabilities")
class ClaimsAReward(Toy):
    capabilities = frozenset({"decode", "reward"})


@breaks("capabilities")
class ClaimsNonsense(Toy):
    capabilities = frozenset({"decode", "telepathy"})


@breaks("capabilities")
class StepsFromNothing(Toy):
    def require(self, *names):
        pass


@breaks("shapes")
class ChangesItsKeys(Toy):
    def step(self, state, control=None, *, donate=False):
        new = super().step(state, control, donate=donate)
        return new.replace(key=new.key + 1)


@breaks("shapes")
class ShowsAFrameBeforeAny(Toy):
    def decode(self, state, *, raw=False):
        return super().decode(state.replace(frame=torch.ones_like(state.frame)), raw=raw)


@breaks("shapes")
class ShowsFloats(Toy):
    def decode(self, state, *, raw=False):
        return super().decode(state, raw=True)


@breaks("differentiable")
class ShowsWithoutGradient(Toy):
    def decode(self, state, *, raw=False):
        return {n: x.detach() for n, x in super().decode(state, raw=raw).items()}


def test_a_model_that_keeps_the_contract_passes():
    report = check_model(Toy(SPEC))
    assert report.passed
    assert {check.name for check in report.checks} == set(CHECKS)
    assert "19 of 19" in str(report)


@pytest.mark.parametrize(("check", "model"), BROKEN, ids=[f"{cls.__name__}-{check}" for check, cls in BROKEN])
def test_each_broken_mechanism_fails_its_check(check, model):
    torch.manual_seed(0)
    report = check_model(model(SPEC), only=(check,), raise_on_failure=False)
    assert not report.passed
    assert "raised" not in report.failures[check] or model in (GrowsWithAge, ClaimsAReward), report.failures[check]


def test_a_loss_that_peeks_is_found_by_nothing_else():
    torch.manual_seed(0)
    report = check_model(PeeksWithinTheEpisode(SPEC), raise_on_failure=False)
    assert list(report.failures) == ["causal_loss"]


def test_every_check_has_a_model_that_fails_it():
    assert {check for check, _ in BROKEN} == set(CHECKS)


def test_failures_are_raised_and_listed():
    with pytest.raises(ContractError, match=r"(?s)RemembersAcrossFirst.*FAIL first: .*past still shows"):
        check_model(RemembersAcrossFirst(SPEC))
    with pytest.raises(ContractError, match="no checks"):
        check_model(Toy(SPEC), only=("frist",))


def test_what_a_model_raises_is_a_finding():
    class Broken(Toy):
        def features(self, state):
            raise IndexError("nowhere")

    report = check_model(Broken(SPEC), raise_on_failure=False)
    assert "raised IndexError: nowhere" in report.failures["shapes"]


def test_the_model_and_the_global_generator_are_left_alone():
    model = Toy(SPEC).train()
    before, random = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    check_model(model, only=("loss", "randomness"))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


# ---------------------------------------------------------------------------- registered families


def _families():
    for name, (module, _) in FAMILIES.items():
        if not module.startswith("worldloom."):
            continue  # a toy that other tests have registered
        cls = family(name)
        for world, spec in SPECS.items():
            if getattr(cls, "supports", lambda spec: None)(spec) is None:
                yield pytest.param(cls, spec, id=f"{name}-{world}")


@pytest.mark.parametrize(("cls", "spec"), list(_families()))
def test_registered_families_keep_the_contract(cls, spec):
    torch.manual_seed(0)
    check_model(cls(spec, cls.Config.debug()))
