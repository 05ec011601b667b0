"""Video to latents and back."""

from worldloom.tokenizers.continuous import Continuous as Continuous
from worldloom.tokenizers.continuous import ContinuousConfig as ContinuousConfig
from worldloom.tokenizers.continuous import reconstruction_loss as reconstruction_loss
