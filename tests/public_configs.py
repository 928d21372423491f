"""The public UNets whose configs no code needs, by name: tests and benchmarks build them."""

from dataclasses import replace

from ivmix.models import SpaceTimeConfig, UNetConfig

SD21_BASE = UNetConfig(cross_attention_dim=1024, num_attention_heads=(5, 10, 20, 20))
MODELSCOPE = replace(SD21_BASE, temporal=SpaceTimeConfig())
VIDEOCRAFTER2 = replace(SD21_BASE, temporal=SpaceTimeConfig(fps=True))
