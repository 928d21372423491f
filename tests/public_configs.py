"""The public UNets whose configs no code needs, by name: tests and benchmarks build them."""

from dataclasses import replace

from ivmix.models import SpaceTimeConfig, UNetConfig
from ivmix.models.unet.config import TextTimeConfig

SD21_BASE = UNetConfig(cross_attention_dim=1024, num_attention_heads=(5, 10, 20, 20))
SDXL_BASE = UNetConfig(
    block_out_channels=(320, 640, 1280), attention_levels=(False, True, True), cross_attention_dim=2048,
    num_attention_heads=(5, 10, 20), transformer_depth=(1, 2, 10), text_time=TextTimeConfig(),
)  # fmt: skip
MODELSCOPE = replace(SD21_BASE, temporal=SpaceTimeConfig())
VIDEOCRAFTER2 = replace(SD21_BASE, temporal=SpaceTimeConfig(fps=True))
