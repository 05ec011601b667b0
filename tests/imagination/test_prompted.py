"""Prompts of every kind against a model whose fills can be foretold, and against a real one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dream_toys import Filler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worldloom.contract import ContractError, Control, Segment, Sensor, Spec, UnsupportedError
from worldloom.imagination.prompts import STEPS, prompted, windows
from worldloom.models.diffusion import Diffusion, DiffusionConfig
from worldloom.nn import tables

TEXT = Control("tokens", (4,), n=5, names=("up", "down", "red", "blue", "fast"), per="once")


class Ladder(Filler):
    """Each unknown frame is one brighter than the frame before, or, without any, one darker than the one behind.

    Frames all unknown begin at 10 times the text's first token. It keeps what it was asked.
    """

    capabilities = frozenset({"fill", "unprompted"})
    window = 6

    def __init__(self, given: dict[str, Control] | None = None):
        super().__init__(Spec({"eye": Sensor("image", (1, 2, 4))}, {"text": TEXT} if given is None else given))
        self.asked: list[tuple[Segment, Tensor, int, Tensor | None]] = []
        self.modes: list[bool] = []

    def fill(self, segment, known, seed=0, table=None):
        self.asked.append((segment, known.clone(), seed, table))
        self.modes.append(self.training)
        video = segment.obs["eye"].clone()
        for b in range(len(known)):
            marked = known[b].nonzero().flatten().tolist()
            for t in range(known.shape[1]):
                before, behind = [i for i in marked if i < t], [i for i in marked if i > t]
                if t in marked:
                    continue
                if before:
                    video[b, t] = video[b, before[-1]] + (t - before[-1])
                elif behind:
                    video[b, t] = video[b, behind[0]] - (behind[0] - t)
                else:
                    video[b, t] = 10 * int(segment.control["text"][b, 0]) + t
        return dataclasses.replace(segment, obs={"eye": video})


def picture(value: int) -> Tensor:
    return torch.full((1, 2, 4), value, dtype=torch.uint8)


def clip(*values: int) -> Tensor:
    return torch.stack([picture(v) for v in values])


def shades(video: Segment) -> list[list[int]]:
    x = video.obs["eye"]
    assert torch.equal(x, x[..., :1, :1].expand_as(x))
    return x[:, :, 0, 0, 0].tolist()


# ----------------------------------------------------------------------------------- what is known


@pytest.mark.parametrize("frames", [5, 6, 7, 16, 41])
def test_a_clip_goes_on_forward_and_backward_for_any_number_of_frames(frames):
    forward = prompted(Ladder(), first=clip(50, 51), frames=frames)
    assert shades(forward) == [list(range(50, 50 + frames))]
    backward = prompted(Ladder(), last=clip(90, 91), frames=frames)
    assert shades(backward) == [list(range(92 - frames, 92))]


@pytest.mark.parametrize("frames", [4, 6, 9, 20])
def test_between_two_clips_both_stay_as_they_are(frames):
    video = shades(prompted(Ladder(), first=picture(20), last=clip(7, 3), frames=frames))[0]
    assert video[-2:] == [7, 3]
    assert video[:-2] == list(range(20, 18 + frames))


def test_a_clip_longer_than_a_window_goes_on_from_its_end():
    model = Ladder()
    assert shades(prompted(model, first=clip(*range(30, 50)), frames=24)) == [list(range(30, 54))]
    assert len(model.asked) == 2
    assert all(known[0, :3].all() and not known[0].all() for _, known, _, _ in model.asked)


def test_a_text_for_all_and_one_for_each():
    model = Ladder()
    assert shades(prompted(model, text="Down, RED", frames=3, batch=2)) == [[10, 11, 12]] * 2
    assert model.asked[0][0].control["text"].tolist() == [[1, 2, 5, 5]] * 2
    assert shades(prompted(model, text=["up", "blue"], frames=14)) == [list(range(14)), list(range(30, 44))]
    assert all(s.control["text"][:, 0].tolist() == [0, 3] and s.once == {"text"} for s, *_ in model.asked[1:])
    prompted(model, frames=3)
    assert model.asked[-1][0].control["text"].tolist() == [[5] * 4]  # told nothing


def test_one_picture_for_each():
    firsts = torch.stack([clip(10), clip(60)])
    assert shades(prompted(Ladder(), first=firsts, last=picture(99), frames=4)) == [[10, 11, 12, 99], [60, 61, 62, 99]]


def test_controls_are_cut_with_their_frames_and_null_or_at_rest_where_nothing_is_said():
    moves, jumps = (Control("discrete", n=4, names=("left", "stay", "right", "up")), Control("discrete", n=4))
    kinds = {"action": moves, "jump": jumps, "wind": Control("continuous", (1,)), "text": TEXT}
    model = Ladder(kinds)
    wind = torch.arange(10.0).reshape(1, 10, 1)
    prompted(model, first=picture(0), frames=10, chunk=6, overlap=2, control={"wind": wind})
    (a, *_), (b, *_) = model.asked
    assert torch.equal(a.control["wind"], wind[:, :6])
    assert torch.equal(b.control["wind"], wind[:, 4:])
    assert a.control["action"].tolist() == [[4] + [1] * 5]  # nothing was done to begin
    assert b.control["action"].tolist() == [[1] * 6]
    assert a.control["jump"].tolist() == [[4] * 6]
    assert a.first.tolist() == [[True] + [False] * 5]
    assert not b.first.any()
    assert a.valid.all()


# ---------------------------------------------------------------------------------------- windows


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_windows_dream_every_frame_once_each_beside_known_ones(data):
    frames = data.draw(st.integers(2, 60))
    head = data.draw(st.integers(0, frames - 1))
    tail = data.draw(st.integers(0, frames - 1 - head))
    chunk = data.draw(st.integers(3 if head and tail else 2, 20))
    overlap = data.draw(st.integers(1, chunk - 1))
    known = [t < head or t >= frames - tail for t in range(frames)]
    parts = windows(frames, head, tail, chunk, overlap)
    for i, (begin, end, kept) in enumerate(parts):
        assert 0 <= begin < kept <= end <= frames
        assert end - begin == min(chunk, frames)
        new = [t for t in range(begin, end) if not known[t]]
        assert new, "a window with nothing to dream"
        side = range(end - 1, begin - 1, -1) if tail and not head else range(begin, end)
        beside = next(n for n, t in enumerate(side) if not known[t])
        had = (tail if tail and not head else head) if i == 0 else chunk
        assert beside >= min(overlap, had, chunk - 2 if head and tail else chunk)
        if head and tail and i == len(parts) - 1 > 0:
            assert len(new) >= min((chunk - overlap) // 2, frames - head - tail), "no room to join the ends"
        for t in range(begin, kept):
            known[t] = True
    assert all(known)


def test_two_ends_are_joined_with_room():
    """What the window before dreamed too near to the ending is dreamed anew."""
    model = Ladder()
    prompted(model, first=picture(0), last=picture(99), frames=12, chunk=10, overlap=4)
    (_, early, *_), (_, late, *_) = model.asked
    assert early.tolist() == [[True] + 9 * [False]]
    assert late.tolist() == [4 * [True] + 5 * [False] + [True]]


def test_every_window_draws_its_own_noise():
    model = Ladder()
    prompted(model, first=picture(0), frames=20, seed=5)
    prompted(model, first=picture(0), frames=20, seed=6)
    seeds = [seed for *_, seed, _ in model.asked]
    assert seeds[0] == 5
    assert len(set(seeds)) == len(seeds) > 6


# ------------------------------------------------------------------------------------ the sampler


def test_tables_by_name_and_of_your_own():
    model = Ladder()
    cases = {
        "joint": tables.joint(6, 3),
        "autoregressive": tables.autoregressive(6, 3),
        "pyramid": tables.pyramid(6, 3, 1),
        "keyframes": tables.keyframes(6, 3, 4),
    }
    for name, table in cases.items():
        prompted(model, first=picture(0), frames=6, table=name, steps=3)
        assert torch.equal(model.asked[-1][3], table)
    prompted(model, first=picture(0), frames=6, steps=5)
    assert torch.equal(model.asked[-1][3], tables.joint(6, 5))
    prompted(model, first=picture(0), frames=6, table="pyramid")
    assert torch.equal(model.asked[-1][3], tables.pyramid(6, STEPS))
    prompted(model, first=picture(0), frames=6)
    assert model.asked[-1][3] is None
    mine = tables.pyramid(4, 2, 1)
    prompted(model, first=picture(0), frames=9, table=mine)
    assert torch.equal(model.asked[-1][3], mine)
    assert model.asked[-1][1].shape == (1, 4)


def test_named_tables_take_their_steps_where_the_model_says():
    model = Ladder()
    model.shift = 3.0
    prompted(model, first=picture(0), frames=6, table="pyramid", steps=3)
    assert torch.equal(model.asked[-1][3], tables.pyramid(6, 3, 1, 3.0))


def test_backward_a_table_begins_at_the_known_end():
    model = Ladder()
    prompted(model, last=picture(99), frames=12, table="autoregressive", steps=2)
    assert all(torch.equal(table, tables.autoregressive(6, 2).flip(1)) for *_, table in model.asked)
    prompted(model, first=picture(0), last=picture(99), frames=6, table="autoregressive", steps=2)
    assert torch.equal(model.asked[-1][3], tables.autoregressive(6, 2))


def test_the_models_mode_is_left_as_it_was():
    model = Ladder().train()
    prompted(model, first=picture(0), frames=3)
    assert model.modes == [False]
    assert model.training


# --------------------------------------------------------------------------------------- mistakes


class Unable(Ladder):
    capabilities = frozenset({"unprompted"})


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (Unable(), {}, "can't dream whole clips.*'fill'"),
        (Ladder({}), {"text": "red"}, "given no text.*none.*leave the text out"),
        (Ladder(), {"text": "green"}, "does not know the word 'green'.*up, down"),
        (Ladder(), {"text": "red red red red red"}, "5 words.*takes 4 at most"),
        (Ladder(), {"first": clip(1, 2, 3), "last": clip(1, 2, 3)}, "longer than the video: 3 .* 3 .* of 6"),
        (Ladder(), {"first": torch.zeros(1, 4, 8, dtype=torch.uint8)}, r"4x8.*makes 2x4.*size=\(4, 8\)"),
        (Ladder(), {"last": torch.zeros(3, 2, 4, dtype=torch.uint8)}, "3 channels.*have 1"),
        (Ladder(), {"first": torch.zeros(1, 2, 4)}, "uint8.*float32"),
        (Ladder(), {"size": (4, 8)}, "size that it was trained on alone"),
        (Ladder(), {"guidance": {"text": 2.0}}, "no setting 'guidance'"),
        (Ladder(), {"table": "jiont"}, "Did you mean 'joint'"),
        (Ladder(), {"table": tables.joint(7, 2)}, "7 frames, but the clip has 6"),
        (Ladder(), {"table": tables.joint(6, 2), "steps": 3}, "its own steps"),
        (Ladder(), {"table": torch.zeros(3, 6)}, "never cleans frame 0"),
        (Ladder(), {"steps": 0}, "at least 1"),
        (Ladder(), {"frames": 0}, "at least 1"),
        (Ladder(), {"frames": 9, "overlap": 6}, "overlap by 1 to 5, found 6"),
        (Ladder(), {"frames": 9, "chunk": 1}, "chunk 1"),
        (Ladder(), {"text": ["up", "down"], "batch": 3}, "same number of videos.*'batch': 3, 'text': 2"),
        (Ladder(), {"text": []}, "one at least"),
        (Ladder(), {"control": {"tilt": torch.zeros(1, 6)}}, "Unknown control 'tilt'"),
        (Ladder(), {"control": {"text": torch.zeros(1, 4, dtype=torch.int64)}, "text": "up"}, "Which text"),
    ],
)
def test_a_mistake_is_told_before_anything_is_dreamed(model, change, message):
    with pytest.raises((ContractError, UnsupportedError), match=message):
        prompted(model, **{"frames": 6, **change})
    assert not model.asked


# ------------------------------------------------------------------------------------ a real family


@pytest.fixture(scope="module")
def tiny() -> Diffusion:
    torch.manual_seed(0)
    spec = Spec({"camera": Sensor("image", (3, 16, 16))}, {"text": TEXT})
    config = dataclasses.replace(DiffusionConfig.debug(), ahead=2, drop={"text": 0.1})
    model = Diffusion(spec, config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.eval()


def noise_frames(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_every_kind_of_prompt_leaves_its_mark(tiny):
    a, b = noise_frames(2, 3, 16, 16), noise_frames(3, 16, 16, seed=1)
    ways = {
        "nothing": {},
        "text": {"text": "red fast"},
        "other text": {"text": "blue fast"},
        "forward": {"text": "red fast", "first": a},
        "backward": {"text": "red fast", "last": b},
        "between": {"text": "red fast", "first": a, "last": b},
        "guided": {"text": "red fast", "guidance": {"text": 3.0}},
        "seed": {"text": "red fast", "seed": 1},
    }
    made = {name: prompted(tiny, frames=7, steps=2, **way).obs["camera"] for name, way in ways.items()}
    for name, video in made.items():
        assert video.shape == (1, 7, 3, 16, 16)
        assert video.dtype == torch.uint8
        if "first" in ways[name]:
            assert torch.equal(video[0, :2], a)
        if "last" in ways[name]:
            assert torch.equal(video[0, -1], b)
        others = [v for n, v in made.items() if n != name]
        assert not any(torch.equal(video[:, 3], other[:, 3]) for other in others), name
    again = prompted(tiny, frames=7, steps=2, text="red fast", guidance={"text": 1.0}).obs["camera"]
    assert torch.equal(again, made["text"])
    assert tiny.config.guidance == {}


def test_another_size_shares_the_weights_and_is_what_a_model_of_that_size_makes(tiny):
    wide = tiny.at_size(8, 24)
    assert [p.data_ptr() for p in wide.parameters()] == [p.data_ptr() for p in tiny.parameters()]
    built = Diffusion(wide.spec, tiny.config).eval()
    built.load_state_dict(tiny.state_dict())
    begin = noise_frames(3, 8, 24)
    video = prompted(tiny, text="up", first=begin, frames=5, size=(8, 24)).obs["camera"]
    assert video.shape == (1, 5, 3, 8, 24)
    assert torch.equal(video, prompted(built, text="up", first=begin, frames=5).obs["camera"])
    assert tiny.spec.shown["camera"].shape == (3, 16, 16)
    assert tiny.shape == (3, 16, 16)
    with pytest.raises(ContractError, match=r"12x24 are not divided.*multiples of 8"):
        tiny.at_size(12, 24)


def test_guidance_that_was_never_trained_is_refused(tiny):
    undropped = Diffusion(tiny.spec, dataclasses.replace(tiny.config, drop={}))
    with pytest.raises(Exception, match="never dropped in training"):
        prompted(undropped, text="up", guidance={"text": 2.0})
    with pytest.raises(ContractError, match="no control 'txet'"):
        prompted(tiny, guidance={"txet": 2.0})
