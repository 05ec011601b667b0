from __future__ import annotations

import pytest
import torch
from dream_toys import CHOICES, Counter, Slider, history, rule, unroll
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import ContractError, Control, Segment, Sensor, Spec, UnsupportedError, WorldModel
from worldloom.imagination import absorb, imagine
from worldloom.imagination.rollout import check_segment
from worldloom.models import build, family


def value(dream):
    return dream.obs["screen"][:, :, 0, 0, 0].tolist()


def dreamed(dream):
    return dream.obs["screen"][:, :, 0, 0, 2].tolist()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 198), st.lists(st.integers(0, 2), min_size=5, max_size=5)), min_size=1))
def test_frame_t_is_what_action_t_led_to(rows):
    starts, actions = [r[0] for r in rows], torch.tensor([r[1] for r in rows])
    dream = imagine(Counter(), history([[0, s] for s in starts]), actions)
    assert value(dream) == [unroll(s, a) for s, a in rows]
    assert torch.equal(dream.obs["screen"][:, :, 0, 0, 1].long(), actions)
    assert torch.equal(dream.action, actions)
    assert dream.length == 5
    assert dream.obs["screen"].dtype == torch.uint8


def test_reward_and_end_belong_to_the_frame_arrived_at():
    dream = imagine(Counter(), history([[3]]), torch.tensor([[0, 2, 1, 1]]))
    assert value(dream) == [[7, 17, 36, 74]]
    assert dream.reward.tolist() == [pytest.approx([0.7, 1.7, 3.6, 7.4])]
    assert dream.terminal.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_dream_goes_on_from_its_last_state():
    model, actions = Counter(), torch.tensor([[0, 1, 2, 0, 1, 2]])
    whole = imagine(model, history([[5, 9]]), actions, seed=4)
    half = imagine(model, history([[5, 9]]), actions, frames=3, seed=4)
    state, rest = half.state, []
    for t in range(3, 6):
        state = model.step(state, actions[:, t])
        rest.append(model.decode(state)["screen"])
    assert torch.equal(torch.stack(rest, 1), whole.obs["screen"][:, 3:])


@pytest.mark.parametrize("grad", [True, False])  # without a graph, states are donated from frame to frame
def test_absorb_respects_valid_and_first(grad):
    model = Counter()
    prompt = history([[10, 20, 30, 40]] * 4)
    prompt.valid[1, 2:] = False  # an episode that ends early
    prompt.valid[2, 0] = False
    prompt.first[3, 2] = True
    state = model.start(4).replace(screen=torch.full((4, 1, 2, 4), 6, dtype=torch.uint8))
    before = state.clone()
    with torch.set_grad_enabled(grad):
        after = absorb(model, state, prompt)
    assert after["screen"][:, 0, 0, 0].tolist() == [40, 20, 40, 40]
    assert after.frame.tolist() == [4, 2, 3, 4]
    # `first` at frame 0 wipes the six dreamed frames; row 2 never saw that frame; row 3 begins anew later as well.
    assert after["screen"][:, 0, 0, 2].tolist() == [0, 0, 6, 0]
    assert all(torch.equal(before[name], state[name]) for name in before.tensors), "the given state was written to"


def test_the_action_into_a_prompt_frame_is_the_one_of_that_frame():
    actions = torch.tensor([[CHOICES, 2, 1]])
    after = absorb(Counter(), Counter().start(1), history([[1, 2, 3]], actions))
    assert after["screen"][0, 0, 0, 1] == 1


def test_a_row_of_the_prompt_without_a_valid_frame_is_an_error():
    prompt = history([[1, 2], [3, 4]])
    prompt.valid[1] = False
    with pytest.raises(ContractError, match="at least one valid frame"):
        imagine(Counter(), prompt, torch.zeros(2, 3, dtype=torch.int64))


def test_seed_and_rows_make_the_draws():
    model, prompt, actions = Counter(), history([[1], [1]]), torch.zeros(2, 6, dtype=torch.int64)
    draws = [imagine(model, prompt, actions, seed=s).obs["screen"][:, :, 0, 0, 3] for s in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0][0], draws[0][1])


# ------------------------------------------------------------------------------------ truth


TRUE_ACTIONS = torch.tensor([[0, 1, 2, 0, 1, 2]])
TRUE_VALUES = [50, 60, 70, 80, 90, 100]  # nothing like the model's rule, so that a glimpse of the truth shows


def expect(first: int, anchors: dict[int, int]) -> list[int]:
    """Values of a dream from ``first`` that is put at ``anchors[t]`` after frame t."""
    out, current = [], first
    for t, action in enumerate(TRUE_ACTIONS[0].tolist()):
        current = int(rule(current, action))
        out.append(current)
        current = anchors.get(t, current)
    return out


@pytest.mark.parametrize("every", [0, 1, 2, 3])
def test_teacher_predicts_from_a_wholly_true_history(every):
    dream = imagine(
        Counter(),
        history([[7]]),
        truth=history([TRUE_VALUES], TRUE_ACTIONS, first=False),
        mode="teacher",
        observe_every=every,
    )
    k = every or 1
    assert value(dream) == [expect(7, {t: TRUE_VALUES[t] for t in range(6) if (t + 1) % k == 0})]
    assert dreamed(dream) == [[t % k + 1 for t in range(6)]], "a dreamed frame stayed in the history"


@pytest.mark.parametrize("every", [1, 2, 4])
def test_observe_every_shows_one_true_frame_and_keeps_the_dreamed_past(every):
    truth = history([TRUE_VALUES], TRUE_ACTIONS, first=False)
    dream = imagine(Counter(), history([[7]]), truth=truth, observe_every=every)
    assert value(dream) == [expect(7, {t: TRUE_VALUES[t] for t in range(6) if (t + 1) % every == 0})]
    # Of every k frames the last is observed *instead of* stepped; the others stay dreamed.
    assert dreamed(dream) == [[t - t // every + 1 for t in range(6)]]


def test_free_dream_takes_the_actions_of_the_truth_and_nothing_else():
    truth = history([TRUE_VALUES], TRUE_ACTIONS, first=False)
    assert value(imagine(Counter(), history([[7]]), truth=truth)) == [unroll(7, TRUE_ACTIONS[0].tolist())]
    other = torch.zeros(1, 4, dtype=torch.int64)
    assert value(imagine(Counter(), history([[7]]), other, truth=truth)) == [unroll(7, [0] * 4)]


@pytest.mark.parametrize("mode", ["teacher", "free"])
def test_rows_whose_truth_ran_out_dream_on(mode):
    truth = history([TRUE_VALUES, TRUE_VALUES], TRUE_ACTIONS.repeat(2, 1), first=False)
    truth.valid[1, 2:] = False
    dream = imagine(Counter(), history([[7], [7]]), truth=truth, mode=mode, observe_every=1)
    assert value(dream)[0] == expect(7, dict(enumerate(TRUE_VALUES)))
    assert value(dream)[1] == expect(7, dict(enumerate(TRUE_VALUES[:2])))


# ----------------------------------------------------------------------------------- policies


def test_policy_sees_the_state_before_each_frame_and_its_carry():
    seen = []

    def policy(model, state, carry):
        seen.append((state["screen"][:, 0, 0, 0].tolist(), carry))
        kept.append((state, state.clone()))
        return (state["screen"][:, 0, 0, 0] % 3).long(), 0 if carry is None else carry + 1

    kept: list = []
    dream = imagine(Counter(), history([[3, 8], [3, 4]]), frames=3, policy=policy)
    assert [carry for _, carry in seen] == [None, 0, 1]
    assert [v for v, _ in seen] == [[8, 4], *[list(v) for v in zip(*value(dream), strict=True)][:2]]
    assert dream.action.tolist() == [[8 % 3, rule(8, 2) % 3, rule(19, 1) % 3], [1, rule(4, 1) % 3, dream.action[1, 2]]]
    assert value(dream) == [unroll(v, a) for v, a in zip([8, 4], dream.action.tolist(), strict=True)]
    # A planner may carry states along: none may have been donated.
    assert all(torch.equal(a[name], b[name]) for a, b in kept for name in a.tensors)


def test_policy_may_be_an_object_with_act():
    class Agent:
        def act(self, model, state, carry):
            return torch.full((state.batch,), 2), None

    assert value(imagine(Counter(), history([[8]]), frames=4, policy=Agent())) == [unroll(8, [2] * 4)]


def test_policys_action_is_checked():
    with pytest.raises(ContractError, match="3 choices"):
        imagine(Counter(), history([[8]]), frames=2, policy=lambda m, s, c: (torch.tensor([9]), c))


def test_policy_with_further_controls():
    model = Counter(extra=True)
    prompt = history([[8]])
    prompt.control["wind"] = torch.zeros(1, 1, 1)
    dream = imagine(
        model, prompt, {"wind": torch.tensor([[[0.0], [5.0]]])}, policy=lambda m, s, c: (torch.tensor([1]), c)
    )
    assert value(dream) == [[rule(8, 1), rule(rule(8, 1), 1) + 5]]


# --------------------------------------------------------------------- plain video, unprompted


def test_plain_video_takes_no_actions():
    dream = imagine(Counter(action=False), history([[8]]), frames=3)  # the data's actions are left out
    assert value(dream) == [unroll(8, [0] * 3)]
    assert dream.action is None
    with pytest.raises(ContractError, match="no action"):
        imagine(Counter(action=False), history([[8]]), torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ContractError, match="no action"):
        imagine(Counter(action=False), history([[8]]), frames=2, policy=lambda m, s, c: (torch.zeros(1), c))


def test_unprompted_models_dream_from_nothing_and_others_say_so():
    dream = imagine(Slider(), None, torch.ones(2, 3, 2))
    assert torch.allclose(dream.obs["pose"][:, :, 0], torch.tensor([[0.6, 0.7, 0.8]] * 2))
    assert dream.reward is None
    assert dream.terminal is None
    with pytest.raises(UnsupportedError, match="unprompted"):
        imagine(Counter(), None, torch.zeros(1, 3, dtype=torch.int64))


# -------------------------------------------------------------------------- modes and gradients


def test_grad_keeps_the_graph_and_decodes_raw():
    model, actions = Slider(), torch.full((1, 4, 2), 0.5, requires_grad=True)
    dream = imagine(model, None, actions, grad=True)
    assert dream.obs["eye"].dtype == torch.float32
    dream.obs["eye"][0, -1].mean().backward()
    assert torch.allclose(actions.grad, torch.full((1, 4, 2), 0.1 / 2))
    assert model.gain.grad is not None


def test_default_runs_in_evaluation_mode_without_graph_and_returns_usable_tensors():
    class Watch(Slider):
        def step(self, state, control=None, *, donate=False):
            modes.append((self.training, torch.is_inference_mode_enabled()))
            return super().step(state, control, donate=donate)

    modes: list = []
    model = Watch().train()
    dream = imagine(model, None, torch.ones(1, 2, 2))
    assert modes == [(False, True)] * 2
    assert model.training
    # An inference tensor could not be saved for a backward pass.
    weight = torch.ones((), requires_grad=True)
    (weight * dream.obs["pose"] * dream.state["pose"][:, None]).sum().backward()
    assert weight.grad is not None


def test_a_latent_model_without_decoder_still_dreams():
    class Latent(Counter):
        capabilities = frozenset({"reward"})

    dream = imagine(Latent(), history([[3]]), torch.tensor([[0, 2]]))
    assert dream.obs == {}
    assert dream.reward.tolist() == [pytest.approx([0.7, 1.7])]
    assert dream.length == 2


# ------------------------------------------------------------------------------------ bad input


class Unsteppable(Counter):
    def start(self, batch, seed=0, control=None):
        raise AssertionError("began to dream before looking at its input")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": None, "frames": 3}, "needs actions"),
        ({"actions": torch.tensor([[0, 1, 4]])}, "3 choices.*found 4"),
        ({"actions": torch.tensor([[0, 1, -1]])}, "found -1"),
        ({"actions": torch.tensor([[0.0, 1.0]])}, "must be torch.int64"),
        ({"actions": torch.tensor([0, 1])}, "begin with \\(batch, frames\\)"),
        ({"actions": torch.zeros(2, 3, dtype=torch.int64)}, "same number of rows"),
        ({"frames": 9}, "9 frames were asked for.*holds 3"),
        ({"frames": 0}, "at least 1"),
        ({"actions": {"action": torch.zeros(1, 3, dtype=torch.int64), "tilt": torch.zeros(1, 3)}}, "tilt"),
        ({"policy": lambda m, s, c: (None, c)}, "not both"),
        ({"observe_every": 2}, "needs `truth`"),
        ({"mode": "teacher"}, "needs `truth`"),
        ({"truth": history([[1, 2]])}, "holds 2"),
        ({"actions": None, "policy": lambda m, s, c: (None, c), "truth": history([[1, 2]])}, "not both"),
        ({"actions": None, "policy": lambda m, s, c: (None, c)}, "How long"),
        ({"prompt": Segment({"eye": torch.zeros(1, 1, 3)}, {}, *[torch.ones(1, 1, dtype=torch.bool)] * 2)}, "screen"),
        ({"prompt": history([[1], [2]])}, "same number of rows"),
    ],
)
def test_bad_input_is_told_before_anything_is_dreamed(change, message):
    arguments = {"prompt": history([[1]]), "actions": torch.zeros(1, 3, dtype=torch.int64), **change}
    with pytest.raises(ContractError, match=message):
        imagine(Unsteppable(), **arguments)


def test_a_prompt_of_another_size_says_what_was_found():
    prompt = history([[1]])
    prompt.obs["screen"] = prompt.obs["screen"][..., :3]
    with pytest.raises(ContractError, match=r"prompt does not fit.*\(1, 1, 1, 2, 4\), found \(1, 1, 1, 2, 3\)"):
        imagine(Counter(), prompt, torch.zeros(1, 3, dtype=torch.int64))


# ------------------------------------------------------------------------------- a real family


@pytest.fixture(scope="module")
def recurrent() -> WorldModel:
    torch.manual_seed(0)
    spec = Spec({"screen": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3)})
    return build("recurrent", spec, family("recurrent").Config.debug())


def test_a_registered_family_dreams(recurrent):
    obs = torch.randint(0, 256, (2, 3, 3, 16, 16), dtype=torch.uint8)
    first = torch.tensor([[True, False, False]] * 2)
    prompt = Segment({"screen": obs}, {"action": torch.tensor([[3, 0, 1]] * 2)}, first, torch.ones_like(first))
    actions = torch.tensor([[0, 1, 2, 0, 1]] * 2)
    dream = imagine(recurrent, prompt, actions, seed=3)
    assert dream.obs["screen"].shape == (2, 5, 3, 16, 16)
    again = imagine(recurrent, prompt, actions, seed=3)
    assert torch.equal(dream.obs["screen"], again.obs["screen"])
    assert dream.reward.shape == dream.terminal.shape == (2, 5)
    # What imagine() does must be no more than the contract's own calls in a row.
    with torch.no_grad():
        state = recurrent.eval().start(2, 3)
        for t in range(3):
            state = recurrent.observe(state, {"screen": obs[:, t]}, prompt.control["action"][:, t], first=first[:, t])
        for t in range(5):
            state = recurrent.step(state, actions[:, t])
            assert torch.allclose(recurrent.decode(state)["screen"].float(), dream.obs["screen"][:, t].float(), atol=1)


def test_what_is_given_once_is_what_the_spec_says():
    """A prompt of the user's own need not name it."""
    text = {"text": Control("tokens", (3,), 9, per="once"), "more": Control("tokens", (3,), 9, per="once")}
    spec, flags = Spec({"eye": Sensor("vector", (2,))}, text), torch.ones(2, 3, dtype=torch.bool)
    prompt = Segment({"eye": torch.zeros(2, 3, 2)}, {"text": torch.zeros(2, 3, dtype=torch.int64)}, flags, flags)
    checked = check_segment(spec, prompt, "prompt")
    assert checked.once == {"text"}
    assert checked.time(slice(0, 1)).control["text"].shape == (2, 3)
