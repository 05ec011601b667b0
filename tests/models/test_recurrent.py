"""The recurrent family: that it learns, that training and dreaming are one model, and where its gradients go."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from worldloom.configs import ConfigError
from worldloom.contract import ContractError, Control, Segment, Sensor, Spec
from worldloom.models import build
from worldloom.models.recurrent import Recurrent, RecurrentConfig

SIZE = 12
SPEC = Spec(
    {"camera": Sensor("image", (1, SIZE, SIZE)), "place": Sensor("vector", (1,))}, {"action": Control("discrete", n=2)}
)
DEBUG = RecurrentConfig.debug()


def walk(batch: int, length: int, seed: int) -> Segment:
    """A square that goes one way or the other, as the action says, round a cylinder; reward 10 in the right half."""
    generator = torch.Generator().manual_seed(seed)
    action = torch.randint(0, 2, (batch, length), generator=generator)
    action[:, 0] = 2
    x = torch.randint(0, SIZE, (batch, 1), generator=generator)
    x = (x + torch.where(action == 2, 0, 2 * action - 1).cumsum(1) * 2) % SIZE
    column = (torch.arange(SIZE) - x[..., None]) % SIZE < 3
    row = (torch.arange(SIZE) - 4) % SIZE < 3
    camera = (column[..., None, None, :] & row[:, None]).to(torch.uint8) * 255
    first = torch.zeros_like(action, dtype=torch.bool)
    first[:, 0] = True
    place = x[..., None].float()
    return Segment(
        {"camera": camera, "place": place}, {"action": action}, first, torch.ones_like(first),
        10.0 * (x >= SIZE // 2), torch.zeros_like(first),
    )  # fmt: skip


def gradients(config: RecurrentConfig, segment: Segment) -> dict[str, torch.Tensor]:
    """Gradient of the loss by parameter, of a model whose weights are the same whatever the config's scales."""
    torch.manual_seed(0)
    model = Recurrent(SPEC, config)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.loss(segment, torch.Generator().manual_seed(0)).total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def moved(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], part: str) -> bool:
    """Whether the gradients of one part of the model differ."""
    names = [name for name in a if name.startswith(part)]
    assert names
    return any(not torch.allclose(a[n], b[n], atol=1e-7) for n in names)


def test_it_learns_a_world_and_what_actions_do():
    torch.manual_seed(0)
    model = build("recurrent", SPEC, dataclasses.replace(DEBUG, deter=96))
    held, draws = walk(64, 10, 10_000), torch.Generator().manual_seed(1)

    def held_out() -> float:
        with torch.no_grad():
            return float(model.loss(held, torch.Generator().manual_seed(2)).total)

    before = held_out()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for update in range(300):
        loss = model.loss(walk(16, 10, update), draws).total
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimiser.step()
    assert held_out() < 0.25 * before

    def dream_error(action: torch.Tensor) -> tuple[float, float, float]:
        """Squared error of pixels, of the vector and of the reward after 2 frames seen and 1..8 dreamed."""
        with torch.no_grad():
            state = model.start(held.batch)
            errors = []
            for t in range(held.length):
                if t < 2:
                    obs = {name: x[:, t] for name, x in held.obs.items()}
                    state = model.observe(state, obs, held.action[:, t], first=held.first[:, t])
                    continue
                state = model.step(state, action[:, t])
                shown = model.decode(state, raw=True)
                pixels = (shown["camera"] - held.obs["camera"][:, t] / 255).square().mean()
                place = (shown["place"] - held.obs["place"][:, t]).abs().mean()
                reward = (model.reward(state) - held.reward[:, t]).abs().mean()
                errors.append(torch.stack([pixels, place, reward]))
            pixels, place, reward = torch.stack(errors).mean(0).tolist()
            return pixels, place, reward

    pixels, place, reward = dream_error(held.action)
    camera = held.obs["camera"].float() / 255
    copy_last = float((camera[:, 2:] - camera[:, 1:2]).square().mean())
    assert pixels < 0.45 * copy_last
    assert place < 2.0
    assert reward < 2.0
    assert dream_error(1 - held.action.clamp(max=1))[0] > 2 * pixels
    with torch.no_grad():
        assert float(model.terminal(model.step(model.start(4), torch.full((4,), 2))).max()) < 0.05


def test_training_and_dreaming_run_the_same_recurrence():
    """With one class z can't vary, so that the memory in the loss and in ``observe`` must be equal at every frame."""
    torch.manual_seed(0)
    model = Recurrent(SPEC, dataclasses.replace(DEBUG, classes=1)).eval()
    segment = walk(3, 6, 0)
    segment.first[1, 3] = True
    with torch.no_grad():
        trained = model.loss(segment).states["deter"].unflatten(0, (3, 6))
        state = model.start(3)
        for t in range(6):
            obs = {name: x[:, t] for name, x in segment.obs.items()}
            state = model.observe(state, obs, segment.action[:, t], first=segment.first[:, t])
            assert torch.allclose(state["deter"], trained[:, t], atol=1e-5)


def test_each_direction_of_the_kl_moves_its_own_side():
    segment = walk(4, 1, 0)  # one frame: the encoder can't reach the prior through the memory
    free = dataclasses.replace(DEBUG, free_nats=0.0, dynamics_scale=1.0, representation_scale=1.0)
    both = gradients(free, segment)
    no_dynamics = gradients(dataclasses.replace(free, dynamics_scale=0.0), segment)
    no_representation = gradients(dataclasses.replace(free, representation_scale=0.0), segment)
    assert moved(both, no_dynamics, "prior")
    assert not moved(both, no_dynamics, "encoders")
    assert moved(both, no_representation, "encoders")
    assert not moved(both, no_representation, "prior")


def test_free_nats_hold_frame_by_frame():
    segment = walk(4, 5, 0)
    config = dataclasses.replace(DEBUG, free_nats=1e4, dynamics_scale=1.0, representation_scale=0.5)
    metrics = Recurrent(SPEC, config).loss(segment).metrics
    assert float(metrics["loss_kl"]) == pytest.approx(1.5e4)
    assert not any(g.any() for name, g in gradients(config, segment).items() if name.startswith("prior"))


def test_free_nats_are_of_a_frame_not_of_a_variable_or_a_batch():
    """With the floor at the batch's mean m, frames below it are raised: above m, but never above 2m."""
    segment = walk(4, 5, 0)

    def kl(free_nats: float) -> float:
        torch.manual_seed(0)
        model = Recurrent(SPEC, dataclasses.replace(DEBUG, free_nats=free_nats, representation_scale=0.0))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            return float(model.loss(segment, torch.Generator().manual_seed(0)).metrics["loss_kl"])

    mean = kl(0.0)
    assert 1.01 * mean < kl(mean) < 2 * mean


def test_heads_are_trained_only_where_there_are_data():
    model, segment = Recurrent(SPEC, DEBUG), walk(2, 3, 0)
    assert {"loss_reward", "loss_terminal"} <= model.loss(segment).metrics.keys()
    bare = dataclasses.replace(segment, reward=None, terminal=None)
    assert model.loss(bare).metrics.keys() == {"loss_camera", "loss_place", "loss_kl", "kl"}


def test_the_total_is_the_sum_of_its_parts_over_valid_frames():
    model, segment = Recurrent(SPEC, DEBUG), walk(4, 6, 0)
    loss = model.loss(segment, torch.Generator().manual_seed(0))
    assert float(loss.total.detach()) == pytest.approx(
        sum(float(v) for n, v in loss.metrics.items() if n != "kl"), rel=1e-5
    )
    segment.valid[:, 3:] = False
    draws = torch.Generator().manual_seed(0)
    half = model.loss(segment, draws)
    torch.testing.assert_close(half.states["deter"], loss.states["deter"])
    assert 0.5 < float((half.total / loss.total).detach()) < 2  # an average, not a sum


def test_dreams_of_training_differ_from_batch_to_batch():
    """An actor that starts from ``states`` must not meet the same chance every time."""
    model, segment, draws = Recurrent(SPEC, DEBUG), walk(2, 3, 0), torch.Generator().manual_seed(0)
    keys = torch.cat([model.loss(segment, draws).states.key for _ in range(2)])
    assert keys.unique().numel() == keys.numel()


def test_gradients_flow_from_a_dream_to_its_actions():
    spec = Spec({"x": Sensor("vector", (3,))}, {"action": Control("continuous", (2,))})
    model = Recurrent(spec, DEBUG)
    action = torch.zeros(2, 2, requires_grad=True)
    state = model.step(model.step(model.start(2), action), torch.ones(2, 2))
    model.decode(state, raw=True)["x"].sum().backward()
    assert bool(action.grad.any(1).all())


def test_controls_are_scaled_to_their_bounds():
    """The same push, in other units, does the same; and a huge unbounded one does not drown the rest."""
    models = []
    for reach in (1.0, 100.0):
        control = Control("continuous", (2,), low=(-reach, 0.0), high=(reach / 2, reach))
        torch.manual_seed(0)
        models.append(Recurrent(Spec({"x": Sensor("vector", (1,))}, {"action": control}), DEBUG))
    push = torch.tensor([[0.5, 0.25]])
    small, large = (m.step(m.start(1), push * scale) for m, scale in zip(models, (1, 100), strict=True))
    torch.testing.assert_close(small["deter"], large["deter"])
    free = Recurrent(Spec({"x": Sensor("vector", (1,))}, {"action": Control("continuous", (1,))}), DEBUG)
    far = free.step(free.start(2), torch.tensor([[1e6], [2.0]]))
    torch.testing.assert_close(far["deter"][0], far["deter"][1])


@pytest.mark.parametrize("shape", [(3, 84, 84), (1, 7, 33), (2, 4, 4), (1, 1, 1), (3, 30, 50)])
def test_frames_of_any_size(shape):
    spec = Spec({"camera": Sensor("image", shape), "depth": Sensor("range", shape)})
    model = Recurrent(spec, DEBUG)
    obs = {"camera": torch.zeros(2, *shape, dtype=torch.uint8), "depth": torch.rand(2, *shape)}
    shown = model.decode(model.observe(model.start(2), obs))
    assert {n: (x.shape[1:], x.dtype) for n, x in shown.items()} == {n: (x.shape[1:], x.dtype) for n, x in obs.items()}


def test_what_it_cannot_take_is_refused_when_it_is_built():
    for control in (Control("map", (1, 4, 4)), Control("tokens", (3,), n=5)):
        spec = Spec({"x": Sensor("vector", (1,))}, {"layout": control})
        assert "layout" in Recurrent.supports(spec)
        with pytest.raises(ContractError, match="layout"):
            build("recurrent", spec)
    with pytest.raises(ConfigError, match="odd"):
        Recurrent(SPEC, dataclasses.replace(DEBUG, bins=40))
