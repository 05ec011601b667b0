"""Diffusion world models: corruption, backbone, loss and sampler are four things in files of their own."""

from worldloom.models.diffusion.backbone import BackboneConfig as BackboneConfig
from worldloom.models.diffusion.config import DiffusionConfig as DiffusionConfig
from worldloom.models.diffusion.flow import FlowConfig as FlowConfig
from worldloom.models.diffusion.model import Diffusion as Diffusion
from worldloom.models.diffusion.texts import TextConfig as TextConfig
