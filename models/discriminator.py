"""Patch discriminator over several scales, and the adversarial losses of renderers.

Least squares (LSGAN): real patches are to give 1, made ones 0.
"""

import torch.nn.functional as F
from torch import nn

SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """(B, n, H, W) -> [features of each layer], the last being scores (B, 1, h, w) of patches; spectral norm instead of norms."""

    def __init__(self, n_in, width=32, n_layers=3):
        super().__init__()
        widths = [n_in, *[width * 2**k for k in range(n_layers)]]
        layers = [nn.Conv2d(a, b, 4, 2, 1) for a, b in zip(widths, widths[1:], strict=False)]
        layers += [nn.Conv2d(widths[-1], widths[-1], 3, 1, 1), nn.Conv2d(widths[-1], 1, 3, 1, 1)]
        self.layers = nn.ModuleList(nn.utils.parametrizations.spectral_norm(layer) for layer in layers)

    def forward(self, x):
        found = []
        for k, layer in enumerate(self.layers):
            x = layer(x if not k else F.leaky_relu(x, SLOPE))
            found.append(x)
        return found


class MultiScaleDiscriminator(nn.Module):
    """The same at the picture's size and at halves of it -> [[features] of each scale]."""

    def __init__(self, n_in, width=32, n_layers=3, n_scales=2):
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(n_in, width, n_layers) for _ in range(n_scales))

    def forward(self, x):
        found = []
        for k, scale in enumerate(self.scales):
            found.append(scale(F.avg_pool2d(x, 2**k) if k else x))
        return found


def discriminator_loss(real, made):
    """Mean over scales: half the squared distance of scores from 1 for real and from 0 for made pictures; features as from above."""
    parts = [((r[-1] - 1).square().mean() + m[-1].square().mean()) / 2 for r, m in zip(real, made, strict=True)]
    return sum(parts) / len(parts)


def adversarial_loss(made):
    """Mean over scales: squared distance of scores of made pictures from 1."""
    return sum((m[-1] - 1).square().mean() for m in made) / len(made)


def feature_matching(real, made):
    """Mean absolute difference of the discriminator's features, over layers but the last and scales; real ones are the target."""
    parts = [
        F.l1_loss(a, b.detach()) for m, r in zip(made, real, strict=True) for a, b in zip(m[:-1], r[:-1], strict=True)
    ]
    return sum(parts) / len(parts)
