"""Networks of the headpose paper's photo stage (Yi et al., 2020) and our small form of its generator.

MemoryGenerator     three composites and an identity feature -> colour and attention; 259,055,556 parameters in the paper's size,
                    204.5 million of them in the perceptron that makes the norms' scales and shifts
PatchDiscriminator  70 x 70 patches; 2,774,849 parameters in the paper's size
"""

import re

import torch
import torch.nn.functional as F
from torch import nn

FRAMES = 3  # composites a generator sees: two before and the present one
COLOURS = 3
EPSILON = 1e-5
PAPER_WIDTHS = (64, 128, 256, 512, 512, 512, 512, 512)
SMALL_WIDTHS = (32, 64, 128, 256, 320, 320, 320, 320)


class Perceptron(nn.Module):
    """All scales and shifts at once, as the paper: identity (B, I) -> for each norm (shift, scale), each (B, C)."""

    def __init__(self, n_identity, channels):
        super().__init__()
        n = 2 * sum(channels)
        self.channels = channels
        self.model = nn.Sequential(
            nn.Linear(n_identity, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n)
        )  # fmt: skip

    def forward(self, identity):
        return [part.chunk(2, 1) for part in self.model(identity).split([2 * c for c in self.channels], 1)]


class Heads(nn.Module):
    """Ours: one linear map for each norm; begins as plain instance norm."""

    def __init__(self, n_identity, channels):
        super().__init__()
        self.model = nn.ModuleList(nn.Linear(n_identity, 2 * c) for c in channels)
        for layer, c in zip(self.model, channels, strict=True):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
            nn.init.ones_(layer.bias[c:])

    def forward(self, identity):
        return [layer(identity).chunk(2, 1) for layer in self.model]


def adaptive_norm(x, shift, scale):
    """Each image's channel to mean `shift` and deviation `scale`, (B, C) both."""
    return F.instance_norm(x, eps=EPSILON) * scale[..., None, None] + shift[..., None, None]


class MemoryGenerator(nn.Module):
    """Composites (B, 9, S, S) in [-1, 1] and identity (B, I) -> colour (B, 3, S, S) in [-1, 1], attention (B, 1, S, S) in [0, 1].

    U-Net of 4 x 4 convolutions, one level a width, norms driven by the identity; S is a multiple of 2 ** levels.
    perceptron: the paper's one for all norms; else one linear map a norm.
    dropout: in three levels of the decoder while training. The original leaves it on at test; here a test is deterministic.
    """

    def __init__(self, widths=PAPER_WIDTHS, n_identity=512, perceptron=True, dropout=0.5):
        super().__init__()
        self.levels, self.dropout = len(widths), dropout
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, 2, 1) for a, b in zip((COLOURS * FRAMES, *widths), widths, strict=False)
        )
        up = (*widths[-2::-1], widths[0])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a if k == 0 else 2 * a, b, 4, 2, 1)
            for k, (a, b) in enumerate(zip(widths[::-1], up, strict=True))
        )
        norms = [*widths[1:-1], *up]
        self.norms = (Perceptron if perceptron else Heads)(n_identity, norms)
        self.colour = nn.Conv2d(widths[0], COLOURS, 7, padding=3)
        self.attention = nn.Conv2d(widths[0], 1, 7, padding=3)

    def forward(self, frames, identity):
        norms = iter(self.norms(identity))
        x, skips = self.down[0](frames), []
        for k, layer in enumerate(self.down[1:], 1):
            x = F.leaky_relu(x, 0.2)
            skips.append(x)
            x = layer(x)
            if k < self.levels - 1:  # the innermost is one pixel: nothing to normalise
                x = adaptive_norm(x, *next(norms))
        for k, layer in enumerate(self.up):
            x = adaptive_norm(layer(F.relu(x)), *next(norms))
            if 1 <= k <= 3:
                x = F.dropout(x, self.dropout, self.training)
            if skips:
                x = torch.cat([x, skips.pop()], 1)
        x = F.relu(x)
        return torch.tanh(self.colour(x)), torch.sigmoid(self.attention(x))


class PatchDiscriminator(nn.Module):
    """Conditions and picture (B, 12, S, S) -> scores (B, 1, S/8 - 2, S/8 - 2), above 0 for "real": no sigmoid."""

    def __init__(self, n_in=COLOURS * (FRAMES + 1), width=64):
        super().__init__()
        layers = [nn.Conv2d(n_in, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for k, stride in enumerate((2, 2, 1)):
            a, b = width * 2**k, width * 2 ** (k + 1)
            layers += [nn.Conv2d(a, b, 4, stride, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


def released_name(name):
    """The name that the original generator's checkpoint gives to one entry of ours; it holds level convolutions twice.

    Of the two, e2.conv.weight and e2.body.1.weight, the second is meant here: they are one tensor there.
    """
    name = name.replace("norms.model.", "mlp.model.").replace("colour.", "d8.img_reg.0.")
    name = name.replace("attention.", "d8.attention_reg.0.")
    level = re.match(r"(down|up)\.(\d+)\.(.*)", name)
    if level is None:
        return name
    way, number, rest = level.groups()
    place = f"{'e' if way == 'down' else 'd'}{int(number) + 1}"
    return f"{place}.{rest}" if place == "e1" else f"{place}.body.1.{rest}"
