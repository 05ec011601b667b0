"""Datasets read to another spec: pictures, actions, sensors, rates; and what is refused until somebody says how."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mixing_toys import DISCRETE, make
from PIL import Image

from worldloom.configs import ConfigError
from worldloom.contract import Control, Segment
from worldloom.data import DataError, Dataset, Mixture, Windows
from worldloom.data.mixing.actions import agree_actions, parse_actions
from worldloom.data.mixing.adapt import NOWHERE, View, send_action
from worldloom.evaluation.heldout import draw

NAMED = Control("discrete", n=3, names=("left", "stay", "right"))
OTHER = Control("discrete", n=3, names=("right", "jump", "left"))
JOINTS = Control("continuous", (2,), names=("hip", "knee"), low=(-1.0, -2.0), high=(1.0, 2.0))
WHEELS = Control("continuous", (2,), names=("knee", "speed"), low=(-3.0, 1.0), high=(1.0, 4.0))


@pytest.fixture
def plain(tmp_path: Path) -> Dataset:
    return make(tmp_path / "plain", 0, [20, 9, 12, 5])


def part(mixture: Mixture, number: int, length: int = 6) -> tuple[Segment, Segment]:
    """Episode 0 of a part as it is read, and as it is."""
    return (
        mixture.parts[number].windows("all", length).sequence(0),
        Windows(mixture.sources[number], "all", length).sequence(0),
    )


# ------------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize(("own", "size"), [((10, 12), (5, 6)), ((10, 12), (20, 24)), ((64, 48), (24, 18))])
def test_resized_pictures_are_those_of_pillow(tmp_path: Path, own, size) -> None:
    mixture = Mixture([make(tmp_path / "other", 100, [7, 7, 7], size=own)], size=size)
    assert mixture.spec.shown["camera"].shape == (3, *size)
    segment, raw = part(mixture, 0)
    for t in range(6):
        picture = Image.fromarray(raw.obs["camera"][0, t].permute(1, 2, 0).numpy())
        slow = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        error = np.abs(segment.obs["camera"][0, t].numpy().astype(int) - slow)
        assert error.max() <= 1  # a rounding
        assert error.mean() < 0.01
    batch = mixture.windows("all", 4).batch(20, 0, 0)
    assert batch.obs["camera"].shape == (20, 4, 3, *size)
    assert batch.obs["camera"].dtype == torch.uint8
    assert batch.obs["camera"].is_contiguous()


def test_the_firsts_size_leaves_the_first_alone(plain: Dataset, tmp_path: Path) -> None:
    mixture = Mixture([plain, make(tmp_path / "b", 100, [7], size=(20, 24))], size="first")
    assert mixture.parts[0] is mixture.sources[0]
    segment, raw = part(mixture, 0)
    assert torch.equal(segment.obs["camera"], raw.obs["camera"])


def test_pictures_of_another_shape_need_a_word(plain: Dataset, tmp_path: Path) -> None:
    wide = make(tmp_path / "wide", 100, [7], size=(10, 24))
    with pytest.raises(DataError, match=r"--fit crop .*pad .*stretch"):
        Mixture([plain, wide], size="first")
    segment, raw = part(Mixture([plain, wide], size="first", fit="crop"), 1)
    assert torch.equal(segment.obs["camera"], raw.obs["camera"][..., 6:18])
    segment, _ = part(Mixture([plain, wide], size="first", fit="pad"), 1)
    assert not segment.obs["camera"][..., :2, :].any()
    assert not segment.obs["camera"][..., 8:, :].any()
    assert segment.obs["camera"][..., 3:7, :].any()


def test_grey_becomes_rgb_where_others_are(plain: Dataset, tmp_path: Path) -> None:
    grey = make(tmp_path / "grey", 100, [7], channels=1)
    with pytest.raises(DataError, match="plain 3×10×12, grey 1×10×12"):
        Mixture([plain, grey])
    segment, raw = part(Mixture([plain, grey], size="first"), 1)
    assert torch.equal(segment.obs["camera"], raw.obs["camera"].repeat(1, 1, 3, 1, 1))
    two = make(tmp_path / "two", 100, [7], channels=2)
    with pytest.raises(DataError, match="Channels must be equal"):
        Mixture([plain, two], size="first")


def test_where_pictures_are_resized_positions_and_simulators_are_not_passed_on(plain: Dataset, tmp_path: Path) -> None:
    small, resized = Mixture([plain, make(tmp_path / "b", 100, [7], size=(20, 24))], size=(20, 24)).parts[::-1]
    assert set(small.episode(0).truth) == {"position"}
    assert small.info["world"] == {"env": "toy"}
    assert resized.episode(0).truth == {}
    assert resized.info == {"kept": 0}
    assert resized.describe()["truth"] == []


# ------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class Space:
    """A control to be: beartype, which checks a Control, and Hypothesis, which draws one, don't go together."""

    kind: Literal["discrete", "continuous", "none"]
    names: tuple[str, ...] = ()
    size: int = 0

    def control(self) -> Control | None:
        n = len(self.names) or self.size
        if self.kind == "none":
            return None
        if self.kind == "discrete":
            return Control("discrete", n=n, names=self.names)
        bounds = (0.5,) * len(self.names)
        return Control("continuous", (n,), names=self.names, low=tuple(-2 * b for b in bounds), high=bounds)


SPACES = st.one_of(
    st.builds(
        Space,
        st.sampled_from(["discrete", "continuous"]),
        st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True).map(tuple),
    ),
    st.builds(Space, st.sampled_from(["discrete", "continuous"]), size=st.integers(1, 4)),
    st.just(Space("none")),
)


def examples(control: Control, count: int = 30) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if control.kind == "discrete":
        return torch.cat([torch.arange(control.n + 1), torch.randint(0, control.n + 1, (count,), generator=generator)])
    return torch.cat([torch.zeros(1, *control.shape), torch.rand(count, *control.shape, generator=generator) - 0.5])


@settings(max_examples=60, deadline=None)
@given(st.lists(SPACES, min_size=1, max_size=4))
def test_a_union_can_be_read_back_and_null_stays_null(drawn: list[Space]) -> None:
    spaces = [space.control() for space in drawn]
    common, places = agree_actions([f"d{i}" for i in range(len(spaces))], spaces, "union")
    known = [c for c in spaces if c is not None]
    assert (common is None) == (not known)
    if common is None:
        return
    assert common.kind == ("discrete" if all(c.kind == "discrete" for c in known) else "continuous")
    size = common.n if common.kind == "discrete" else common.shape[0]
    assert len(set(common.names)) == len(common.names) == size
    reached = set()
    for control, goes in zip(spaces, places, strict=True):
        assert (control is None) == (goes is None)
        if control is None or goes is None:
            continue
        reached |= set(goes)
        assert len(set(goes)) == len(goes)  # two choices of one dataset never become one
        action = examples(control)
        sent = send_action(action, control, common, goes)
        common.check(sent, (len(action),), "action")
        null = action == control.n if control.kind == "discrete" else ~action.any(-1)
        assert torch.equal(sent == common.n if common.kind == "discrete" else ~sent.any(-1), null)
        back = {place: i for i, place in enumerate(goes)}
        if common.kind == "discrete":
            assert [(back | {common.n: control.n})[x] for x in sent.tolist()] == action.tolist()
        elif control.kind == "continuous":
            assert torch.equal(sent[:, list(goes)], action)
            others = [i for i in range(size) if i not in goes]
            assert not sent[:, others].any()
        else:
            assert torch.equal(sent[~null].sum(-1), torch.ones(int((~null).sum())))
            assert [back[x] for x in sent[~null].argmax(-1).tolist()] == action[~null].tolist()
    assert reached == set(range(size))


def test_a_union_of_choices_merges_those_of_one_name(tmp_path: Path) -> None:
    a, b = (make(tmp_path / n, i, [9], control=c) for i, (n, c) in enumerate((("a", NAMED), ("b", OTHER))))
    mixture = Mixture([a, b], actions="union")
    assert mixture.spec.action == Control("discrete", n=4, names=("left", "stay", "right", "jump"))
    segment, raw = part(mixture, 1)
    table = {0: 2, 1: 3, 2: 0, 3: 4}
    assert segment.action is not None
    assert raw.action is not None
    assert segment.action[0].tolist() == [table[x] for x in raw.action[0].tolist()]
    assert segment.action[0, 0] == 4
    padded = mixture.parts[1].windows("all", 12).sequence(0)
    assert padded.action is not None
    assert padded.action[0, 9:].tolist() == [4, 4, 4]


def test_unnamed_choices_lie_side_by_side_and_are_named_after_their_dataset() -> None:
    common, places = agree_actions(["ant", "bee"], [DISCRETE, Control("discrete", n=2)], "union")
    assert common is not None
    assert common.names == ("ant 0", "ant 1", "ant 2", "ant 3", "bee 0", "bee 1")
    assert places == [(0, 1, 2, 3), (4, 5)]


def test_a_union_of_numbers_merges_names_widens_bounds_and_holds_zero() -> None:
    common, places = agree_actions(["a", "b"], [JOINTS, WHEELS], "union")
    names, low, high = ("hip", "knee", "speed"), (-1.0, -3.0, 0.0), (1.0, 2.0, 4.0)
    assert common == Control("continuous", (3,), names=names, low=low, high=high)
    assert places == [(0, 1), (1, 2)]
    unbounded = Control("continuous", (1,))
    common, _ = agree_actions(["a", "b"], [JOINTS, unbounded], "union")
    assert common is not None
    assert (common.low, common.high) == ((), ())


def test_choices_become_entries_where_others_have_numbers_and_video_has_null(tmp_path: Path) -> None:
    a = make(tmp_path / "a", 1, [9], control=NAMED)
    b = make(tmp_path / "b", 2, [9], control=JOINTS)
    c = make(tmp_path / "c", 3, [9], control=None)
    mixture = Mixture([a, b, c], actions="union")
    assert mixture.spec.action is not None
    assert mixture.spec.action.names == ("left", "stay", "right", "hip", "knee")
    segment, raw = part(mixture, 0)
    assert raw.action is not None
    wanted = torch.nn.functional.one_hot(raw.action[0], 5).float()
    wanted[raw.action[0] == 3] = 0
    assert torch.equal(segment.control["action"][0], wanted)
    assert not part(mixture, 2)[0].control["action"].any()
    assert mixture.windows("all", 3).batch(20, 0, 0).control["action"].shape == (20, 3, 5)
    video = part(Mixture([a, c], actions="union"), 1)[0].action
    assert video is not None
    assert video.tolist() == [[3] * 6]


def test_same_takes_the_firsts_names_and_the_widest_bounds(tmp_path: Path) -> None:
    a, b = (make(tmp_path / n, i, [9], control=c) for i, (n, c) in enumerate((("a", NAMED), ("b", OTHER))))
    mixture = Mixture([a, b], actions="same")
    assert mixture.spec.action == NAMED
    segment, raw = part(mixture, 1)
    assert torch.equal(segment.control["action"], raw.control["action"])
    common, _ = agree_actions(["a", "b"], [JOINTS, WHEELS], "same")
    assert common == Control("continuous", (2,), names=("hip", "knee"), low=(-3.0, -2.0), high=(1.0, 4.0))
    for other in (DISCRETE, JOINTS, None):
        with pytest.raises(DataError, match="not equal in number"):
            agree_actions(["a", "b"], [NAMED, other], "same")


def test_drop_makes_plain_video(plain: Dataset, tmp_path: Path) -> None:
    mixture = Mixture([plain, make(tmp_path / "b", 1, [9], control=JOINTS)], actions="drop")
    assert mixture.spec.action is None
    batch = mixture.windows("all", 3).batch(8, 0, 0)
    assert batch.control == {}
    assert mixture.parts[1].episode(0).control == {}


def test_a_map_by_name_and_by_number(tmp_path: Path) -> None:
    a, b, c = (
        make(tmp_path / n, i, [9], control=x)
        for i, (n, x) in enumerate(zip("abc", (NAMED, OTHER, DISCRETE), strict=True))
    )
    told = parse_actions(["b:right=left,jump=none,2=2", "3:0=0,1=1,2=2,3=right"])
    mixture = Mixture([a, b, c], actions=told)
    assert mixture.spec.action == NAMED
    for number, table in ((1, {0: 0, 1: 3, 2: 2, 3: 3}), (2, {0: 0, 1: 1, 2: 2, 3: 2, 4: 3})):
        segment, raw = part(mixture, number)
        assert segment.control["action"][0].tolist() == [table[x] for x in raw.control["action"][0].tolist()]
    (tmp_path / "map.json").write_text(
        json.dumps({"b": {"right": "left", "jump": "none", "2": 2}, "c": {"0": 0, "1": 1, "2": 2, "3": "right"}}),
        "utf-8",
    )
    again = Mixture([a, b, c], actions=parse_actions([str(tmp_path / "map.json")]))
    assert again.fingerprint == mixture.fingerprint
    common, places = agree_actions(["a", "b"], [JOINTS, WHEELS], {"b": {"speed": "hip", "knee": "none"}})
    assert places == [None, (NOWHERE, 0)]
    assert common == Control("continuous", (2,), names=("hip", "knee"), low=(-1.0, -2.0), high=(4.0, 2.0))
    sent = send_action(torch.tensor([[0.5, 2.0]]), WHEELS, common, (NOWHERE, 0))
    assert sent.tolist() == [[2.0, 0.0]]


@pytest.mark.parametrize(
    ("spaces", "told", "says"),
    [
        ([NAMED, OTHER], {"b": {"right": "left"}}, "say where jump, left of b should go"),
        ([NAMED, OTHER], {"b": {"right": "up", "jump": 0, "left": 0}}, "a has no 'up'; it has left, stay, right"),
        ([NAMED, DISCRETE], {"b": {"4": 0}}, "b has no '4'; it has 0 to 3"),
        ([NAMED, OTHER], {"c": {"0": 0}}, "no dataset 'c' to map; there are b"),
        ([NAMED, OTHER], {"a": {"0": 0}}, "no dataset 'a' to map; there are b"),
        ([NAMED, OTHER], {}, "b has 3 choices .*say which is which"),
        ([NAMED, JOINTS], {"b": {"0": 0, "1": 1}}, "one kind"),
        ([None, NAMED], {"b": {"0": 0}}, "a has none"),
        ([NAMED, None], {"b": {"0": 0}}, "b has none"),
    ],
)
def test_a_wrong_map_is_explained(spaces, told, says: str) -> None:
    with pytest.raises(DataError, match=says):
        agree_actions(["a", "b"], spaces, told)


@pytest.mark.parametrize("words", [["onion"], ["b"], ["b:"], ["b:0"], ["b:0="], ["union", "same"]])
def test_a_word_that_says_nothing_is_refused(words: list[str]) -> None:
    with pytest.raises(DataError, match="--actions takes same, union, drop"):
        parse_actions(words)


def test_a_map_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for text in ("[]", '{"b": 3}', '{"b": {"0": [1]}}'):
        (tmp_path / "map.json").write_text(text, "utf-8")
        with pytest.raises(DataError, match=r"map\.json must be like"):
            parse_actions([str(tmp_path / "map.json")])


# ------------------------------------------------------------------------------------------- sensors and controls


def test_sensors_are_dropped_or_renamed_only_when_told(plain: Dataset, tmp_path: Path) -> None:
    b = make(tmp_path / "b", 1, [9], extra={"pose": 2})
    c = make(tmp_path / "c", 2, [9], name="top")
    with pytest.raises(DataError, match=r"'pose' in b alone\. Say --sensors camera"):
        Mixture([plain, b])
    mixture = Mixture([plain, b], sensors=["camera"])
    assert set(mixture.spec.shown) == set(mixture.windows("all", 2).batch(9, 0, 0).obs) == {"camera"}
    assert set(mixture.parts[1].episode(0).obs) == {"camera"}
    with pytest.raises(DataError, match=r"camera=image"):
        Mixture([plain, c])
    mixture = Mixture([plain, c], sensors=["camera=top"])
    segment, raw = part(mixture, 1)
    assert torch.equal(segment.obs["camera"], raw.obs["top"])
    with pytest.raises(DataError, match="plain has no 'pose'; it has camera"):
        Mixture([plain, b], sensors=["pose"])
    with pytest.raises(DataError, match="nobody has 'sonar'; there are camera, action, pose"):
        Mixture([plain, b], sensors=["sonar"])


def test_other_controls_must_be_equal_or_left_out(plain: Dataset, tmp_path: Path) -> None:
    speed = {"speed": Control("continuous", (1,))}
    b = make(tmp_path / "b", 1, [9], more=speed)
    with pytest.raises(DataError, match="control 'speed': plain has none, b continuous"):
        Mixture([plain, b])
    assert set(Mixture([plain, b], sensors=["camera"]).spec.given) == {"action"}
    c = make(tmp_path / "c", 2, [9], more=speed)
    mixture = Mixture([b, c])
    assert list(mixture.spec.given) == ["action", "speed"]
    assert list(Mixture([b, c], sensors=["camera", "speed"], actions="drop").spec.given) == ["speed"]
    with pytest.raises(DataError, match="must keep at least one"):
        Mixture([b, c], sensors=["speed"])


# ---------------------------------------------------------------------------------------------------------- rates


def test_a_stride_meets_the_slowest_rate(plain: Dataset, tmp_path: Path) -> None:
    fast = make(tmp_path / "fast", 100, [20, 9, 11], fps=29.97)
    with pytest.raises(
        DataError, match=r"plain 10, fast 29\.97\. Say --fps-mix stride \(every 3\. frame of fast\), or"
    ):
        Mixture([plain, fast])
    mixture = Mixture([plain, fast], fps="stride")
    view = mixture.parts[1]
    assert isinstance(view, View)
    assert mixture.spec.fps == 10
    assert view.lengths.tolist() == [7, 3, 4]
    episode, raw = view.episode(0), fast.episode(0)
    np.testing.assert_array_equal(episode.obs["camera"], raw.obs["camera"][::3])
    np.testing.assert_array_equal(episode.control["action"], raw.control["action"][::3])
    np.testing.assert_array_equal(episode.truth["position"], raw.truth["position"][::3])
    assert raw.reward is not None
    assert episode.reward is not None
    assert episode.reward.tolist() == [raw.reward[max(0, t - 2) : t + 1].sum() for t in range(0, 20, 3)]
    assert "world" not in view.info
    part_ = view.episode(0, 2, 5)
    np.testing.assert_array_equal(part_.obs["camera"], episode.obs["camera"][2:5])
    assert [view.episode(n).terminal for n in range(3)] == [False, False, False]  # the last frame is not among them
    with pytest.raises(DataError, match="has 7 frames"):
        view.episode(0, 3, 8)
    with pytest.raises(DataError, match="no episode 3"):
        view.episode(3)


def test_batches_of_a_stride_begin_at_every_frame(plain: Dataset, tmp_path: Path) -> None:
    fast = make(tmp_path / "fast", 100, [20, 9, 11], fps=30)
    windows = Mixture([plain, fast], [1, 50], fps="stride").windows("all", 3)
    direct = Windows(fast, "all", 3, stride=3)
    begins = set()
    batch = windows.batch(200, 0, 0)
    for row in range(200):
        tone, episode, start = batch.obs["camera"][row, 0, :, 0, 0].tolist()
        if tone == 100:
            begins.add((episode, start))
            for a, b in ((batch.rows([row]), direct.sequence(episode, start)),):
                assert torch.equal(a.obs["camera"], b.obs["camera"])
                assert torch.equal(a.control["action"], b.control["action"])
                assert torch.equal(a.first, b.first)
    assert begins == {(e, t) for e, n in enumerate((20, 9, 11)) for t in range(n - 6)}
    assert windows.longest == 7
    starts = windows.starts(6, 2, 1)
    assert windows.segment(starts, 3).valid.all()
    assert {t % 3 for t in windows.segment(starts, 3).obs["camera"][1::2, 0, 2, 0, 0].tolist()} == {0}


def test_rates_that_are_no_multiples_can_only_be_ignored(plain: Dataset, tmp_path: Path) -> None:
    odd = make(tmp_path / "odd", 100, [20], fps=15)
    for how in (None, "stride"):
        with pytest.raises(DataError, match="no whole multiples"):
            Mixture([plain, odd], fps=how)
    mixture = Mixture([plain, odd], fps="ignore")
    assert mixture.spec.fps == 10
    assert torch.equal(part(mixture, 1)[0].obs["camera"], part(mixture, 1)[1].obs["camera"])
    assert any("15 frames/s taken for 10" in note for note in mixture.notes())


# ------------------------------------------------------------------------------------------------------ the whole


def test_everything_that_differs_is_said_at_once(plain: Dataset, tmp_path: Path) -> None:
    b = make(tmp_path / "b", 1, [9], size=(6, 6), control=JOINTS, fps=20, extra={"pose": 2}, more={"x": DISCRETE})
    with pytest.raises(DataError) as caught:
        Mixture([plain, b])
    says = str(caught.value)
    for flag in ("--sensors camera", "--size first", "--actions union", "--fps-mix stride", "control 'x'"):
        assert flag in says
    assert "plain 3×10×12, b 3×6×6" in says
    assert "plain 4 choices; b continuous (2,) (hip, knee)" in says
    mixture = Mixture([plain, b], size="first", fit="pad", sensors=["camera"], actions="union", fps="stride")
    batch = mixture.windows("train", 4).batch(16, 0, 0)
    mixture.spec.check_obs(batch.obs, 16, 4)
    mixture.spec.controls(batch.control, 16, 4)
    note = mixture.notes()[1]
    for word in ("6×6 read as 10×12", "left out pose, x", "every 2. frame", "read as hip, knee"):
        assert word in note


def test_a_view_is_a_dataset_that_can_be_measured_on(plain: Dataset, tmp_path: Path) -> None:
    b = make(tmp_path / "b", 1, [20] * 6, size=(20, 24), control=NAMED, fps=20)
    view = Mixture([plain, b], size="first", actions="union", fps="stride").parts[1]
    held = draw(view, 4, 2, 5, 12, seed=0)
    assert held.segment.obs["camera"].shape == (4, 7, 3, 10, 12)
    assert held.segment.valid.all()
    assert held.control["action"].shape == (4, 12)
    assert held.truth == {}
    assert set(held.episodes.tolist()) <= set(b.splits["test"].tolist())
    assert view.verify() == 6
    assert view.fingerprint != b.fingerprint
    assert view.frames == 60


def test_size_must_be_a_size(plain: Dataset) -> None:
    for size in ((0, 8), (8, 9999)):
        with pytest.raises(ConfigError, match="size must be"):
            Mixture([plain], size=size)
    assert isinstance(Mixture([plain], size=(5, 6)).parts[0], View)
