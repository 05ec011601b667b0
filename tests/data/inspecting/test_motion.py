"""The motion's parts, against what is known."""

import numpy as np
from toys_to_inspect import SPEC, good

from worldloom.data.inspecting.motion import describe_motion, principal


def test_principal_components() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((500, 3))
    x = hidden @ rng.standard_normal((3, 40)) * 10 + 0.1 * rng.standard_normal((500, 40))
    found = principal(np.concatenate([x, np.ones((500, 5))], 1), 3)
    np.testing.assert_allclose(found.T @ found / 500, np.eye(3), atol=1e-3)  # unit variance, uncorrelated
    back = np.linalg.lstsq(np.c_[found, np.ones(500)], hidden, rcond=None)[0]
    np.testing.assert_allclose(np.c_[found, np.ones(500)] @ back, hidden, atol=0.05)


def test_one_row_for_each_step_and_the_same_every_time() -> None:
    pieces = [{n: x[:k] for n, x in e.obs.items()} for e, k in zip(good(12, 40), [40, 30, 25] * 4, strict=True)]
    first, second = describe_motion(SPEC, pieces), describe_motion(SPEC, pieces)
    assert [len(x) for x in first.steps] == [39, 29, 24] * 4
    assert [len(x) for x in first.states] == [40, 30, 25] * 4
    for a, b in zip(first.steps, second.steps, strict=True):
        np.testing.assert_array_equal(a, b)
    # the vectors' differences are among the columns, as they are
    np.testing.assert_allclose(first.steps[0][:, -2:], np.diff(pieces[0]["place"], axis=0), rtol=1e-5)
