"""The network: what its layers begin as, and how far what they see reaches."""

from __future__ import annotations

import pytest
import torch
from diffusion_toys import make

from worldloom.models.diffusion import BackboneConfig, DiffusionConfig
from worldloom.models.diffusion.backbone import Around, Attend, Modulated


@pytest.mark.parametrize("local", [True, False])
def test_local_mixing_is_what_the_blocks_kernels_do(local: bool) -> None:
    model = make(backbone=BackboneConfig(size="debug", attention=1, local=local, remembered=16))
    blocks = [m for m in model.net.modules() if isinstance(m, Modulated)]
    kernels = {m.kernel_size for block in blocks for m in block.modules() if isinstance(m, torch.nn.Conv2d)}
    assert ((3, 3) in kernels) == local


def test_attention_begins_as_the_identity() -> None:
    torch.manual_seed(0)
    layer = Attend(32, 16, 0, 0)
    around = Around(torch.zeros(2, 1), torch.zeros(2, 16), torch.zeros(2, 1), None, None)
    x = torch.randn(2, 32, 3, 3)
    assert torch.equal(layer(x, torch.randn(2, 16), around, 0), x)


def test_a_window_holds_what_is_to_be_learnt_of() -> None:
    def window(**changes: int) -> int:
        return make(**changes).window

    plain = DiffusionConfig.debug()
    assert window(memory=0) == plain.history + plain.targets
    assert window(memory=9) == 9 + plain.targets
    assert window(memory=9, retrieve=2, lookback=5) == 9 + plain.targets + 5
