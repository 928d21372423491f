"""The recipes of `ivmix.solvers.algebra.network` with the real modules, small and random: what the peer returns for
the same latents, time and text is what the atom makes of it."""

import pytest
import torch

from ivmix.solvers import Guided, Network, Schedule, composite, framewise, integrate, plain, repeat_rows

pytestmark = pytest.mark.slow

VP, FLOW = Schedule.scaled_linear(), Schedule.rectified_flow(t_max=1000.0)
TEXT = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
X = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
SMALL = {
    "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4,
    "cross_attention_dim": 16,
}  # fmt: skip


def frozen(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def unets(diffusers):
    """One of each kind, randomly initialised."""
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    image = diffusers.UNet2DConditionModel(
        **SMALL, down_block_types=down, up_block_types=up, attention_head_dim=2, sample_size=8
    )
    motion = diffusers.UNetMotionModel(
        **SMALL,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        num_attention_heads=2,
        motion_num_attention_heads=2,
        motion_max_seq_length=8,
        use_motion_mid_block=False,
    )
    clip = diffusers.UNet3DConditionModel(
        **SMALL,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        attention_head_dim=2,
    )
    return {"image": frozen(image), "motion": frozen(motion), "3d": frozen(clip)}


def by_hand(x, sigma, eps):
    """x0 of an epsilon network, with z = alpha·x evaluated by `eps`."""
    return x - sigma * eps(VP.alpha_at(sigma).float() * x)


def test_unet_2d(unets):
    def frames(z, t, text):
        return unets["image"](z, t, encoder_hidden_states=text).sample

    image, sigma, t = Network(framewise(frames, repeat_rows), VP, "epsilon", "image"), VP.sigma(601), torch.tensor(601)
    expected = by_hand(
        X, sigma, lambda z: torch.stack([unets["image"](z[:, :, k], t, TEXT).sample for k in range(3)], dim=2)
    )
    torch.testing.assert_close(image(TEXT)(X, sigma), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["motion", "3d"])
def test_unet_motion_and_unet_3d(kind, unets):
    def clips(z, t, text):
        text = repeat_rows(text, z.shape[2]) if kind == "motion" else text
        return unets[kind](z, t, encoder_hidden_states=text).sample

    rows = repeat_rows(TEXT, 3) if kind == "motion" else TEXT
    video, sigma, t = Network(clips, VP, "epsilon", "video"), VP.sigma(601), torch.tensor(601)
    expected = by_hand(X, sigma, lambda z: unets[kind](z, t, rows).sample)
    torch.testing.assert_close(video(TEXT)(X, sigma), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def transformer(diffusers):
    return frozen(
        diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=16,
            freq_dim=16,
            ffn_dim=32,
            num_layers=1,
        )
    )


def test_flow_matching_transformer(transformer):
    def flow(z, t, text):
        return transformer(z, t.to(z).expand(len(z)), text).sample

    video = Network(flow, FLOW, "flow", "video")
    s = torch.tensor(0.6)
    z = (1 - s) * X  # sigma = s / (1 - s)
    expected = z - s * transformer(z, torch.full((2,), 600.0), TEXT).sample
    torch.testing.assert_close(video(TEXT)(X, 1.5), expected, rtol=1e-4, atol=1e-4)


def test_an_image_unet_and_a_flow_transformer_in_one_composite(unets, transformer):
    """Two packages' worth of conventions in one run: other times, predictions and layouts."""

    def frames(z, t, text):
        return unets["image"](z, t, encoder_hidden_states=text).sample

    def flow(z, t, text):
        return transformer(z, t.to(z).expand(len(z)), text).sample

    image = Network(framewise(frames, repeat_rows), VP, "epsilon", "image")
    video = Network(flow, FLOW, "flow", "video")
    empty = torch.zeros_like(TEXT)
    sigmas = VP.grid(4)
    limit = composite(
        Guided(image(empty), image(TEXT)), Guided(video(empty), video(TEXT)), guidance=2.0, reference=sigmas
    )
    run = integrate(limit, plain(sigmas), VP.start(X, sigmas[0]))
    assert run.nfe == {"image": 4, "video": 4}
    assert run.forwards == {"image": 8, "video": 8}
