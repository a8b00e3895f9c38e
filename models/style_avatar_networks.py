"""Networks of style_avatar's renderer (Wu et al., MM 2021), at the paper's sizes by default.

TextureEncoder   textures of three frames -> neural texture of 16 channels             13,223,824 parameters
sample_texture   neural texture + UV picture -> its picture, without parameters
LocalEnhancer    that picture -> the face; pix2pixHD's generator on two resolutions    183,470,019 parameters
TwoScales        pictures -> judgements of their patches, at two scales                  5,547,906 parameters

Pictures of these networks are BGR in [-1, 1]: x / 128 - 1. Instance norms have no parameters of their own, so the biases of
the convolutions before them do nothing; they exist because the released weights have them.
"""

import torch
import torch.nn.functional as F
from torch import nn

# Our names -> names in the released files tex_encoder.pkl and face_unet.pkl; the order of the entries is the same.
RELEASED_ENCODER = ((".layers.", ".conv."),)
RELEASED_ENHANCER = (
    ("coarse.", "model."),
    ("fine_in.", "model1_1."),
    ("fine_out.", "model1_2."),
    (".layers.", ".conv_block."),
)
RELEASED_DISCRIMINATOR = (("coarse.", "scale0_layer"), ("fine.", "scale1_layer"))


def released_name(name, table):
    """The name in the released file of one entry of a state dict; table: one of the RELEASED_ ones."""
    for ours, theirs in table:
        name = name.replace(ours, theirs)
    return name


class Down(nn.Module):
    """Convolution of stride 2, norm, leaky ReLU: (B, n_in, H, W) -> (B, n_out, ceil(H / 2), ceil(W / 2))."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(n_in, n_out, 3, 2, 1), nn.InstanceNorm2d(n_out), nn.LeakyReLU(0.2))

    def forward(self, x):
        return self.layers(x)


class Up(nn.Module):
    """Twice the size by bilinear stretching, convolution, and, but for the last one, norm and leaky ReLU."""

    def __init__(self, n_in, n_out, last=False):
        super().__init__()
        stretch = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        finish = [] if last else [nn.InstanceNorm2d(n_out), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(stretch, nn.Conv2d(n_in, n_out, 3, padding=1), *finish)

    def forward(self, x):
        return self.layers(x)


class TextureEncoder(nn.Module):
    """Textures (B, 9, H, W) of three frames -> neural texture (B, 16, H / 4, W / 4) in [-1, 1]; H, W multiples of 32.

    A U-Net whose largest skip connection is left out.
    """

    def __init__(self, n_in=9, n_out=16, widths=(64, 128, 256, 512, 512)):
        super().__init__()
        a, b, c, d, e = widths
        self.down1, self.down2, self.down3 = Down(n_in, a), Down(a, b), Down(b, c)
        self.down4, self.down5 = Down(c, d), Down(d, e)
        self.up1, self.up2, self.up3 = Up(e, d), Up(d + d, d), Up(c + d, c)
        self.up4, self.up5 = Up(b + c, b), Up(b, n_out, last=True)
        self.pool = nn.AvgPool2d(4, 4, 1)

    def forward(self, textures):
        skips = [self.down1(textures)]
        for down in (self.down2, self.down3, self.down4, self.down5):
            skips.append(down(skips[-1]))
        x = self.up1(skips[4])
        for up, skip in ((self.up2, skips[3]), (self.up3, skips[2]), (self.up4, skips[1])):
            x = up(torch.cat([skip, x], 1))
        return torch.tanh(self.pool(self.up5(x)))


def sample_texture(texture, uv):
    """Bilinear look-up of (B, C, h, w) at uv (B, H, W, 2) in [0, 1] -> (B, C, H, W); u to the right, v down, 0 outside."""
    return F.grid_sample(texture, 2 * uv - 1, mode="bilinear", padding_mode="zeros", align_corners=False)


class Residual(nn.Module):
    """Two convolutions with reflected borders beside the identity."""

    def __init__(self, width):
        super().__init__()
        first = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*first, nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width))

    def forward(self, x):
        return x + self.layers(x)


def wide_convolution(n_in, n_out):
    """7 x 7 with reflected borders, norm, ReLU."""
    return [nn.ReflectionPad2d(3), nn.Conv2d(n_in, n_out, 7), nn.InstanceNorm2d(n_out), nn.ReLU()]


def halve(n_in, n_out):
    """Convolution of stride 2, norm, ReLU."""
    return [nn.Conv2d(n_in, n_out, 3, 2, 1), nn.InstanceNorm2d(n_out), nn.ReLU()]


def double(n_in, n_out):
    """Nearest-neighbour stretching, convolution with reflected borders, norm, ReLU."""
    stretch = [nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1)]
    return [*stretch, nn.Conv2d(n_in, n_out, 3), nn.InstanceNorm2d(n_out), nn.ReLU()]


class LocalEnhancer(nn.Module):
    """Picture (B, n_in, H, W) -> (B, n_out, H, W) in [-1, 1]; H, W multiples of 16.

    A generator on the half-size picture (three halvings, `blocks` residual blocks, three doublings), whose features join those
    of a smaller one on the whole picture.
    width: channels of the whole picture; the half-size one has twice as many, doubled by each halving.
    """

    def __init__(self, n_in=16, n_out=3, width=64, blocks=9, fine_blocks=3, halvings=3):
        super().__init__()
        widths = [2 * width * 2**n for n in range(halvings + 1)]
        coarse = wide_convolution(n_in, widths[0])
        for a, b in zip(widths, widths[1:], strict=False):
            coarse += halve(a, b)
        coarse += [Residual(widths[-1]) for _ in range(blocks)]
        for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True):
            coarse += double(a, b)
        self.coarse = nn.Sequential(*coarse)
        self.fine_in = nn.Sequential(*wide_convolution(n_in, width), *halve(width, 2 * width))
        fine = [*[Residual(2 * width) for _ in range(fine_blocks)], *double(2 * width, width)]
        self.fine_out = nn.Sequential(*fine, nn.ReflectionPad2d(3), nn.Conv2d(width, n_out, 7), nn.Tanh())

    def forward(self, x):
        half = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return self.fine_out(self.fine_in(x) + self.coarse(half))


class TwoScales(nn.Module):
    """Pictures (B, n_in, H, W) -> five maps of the whole picture, five of the half-size one; the last of each judges patches."""

    def __init__(self, n_in=12, width=64):
        super().__init__()
        self.coarse, self.fine = self._scale(n_in, width), self._scale(n_in, width)

    @staticmethod
    def _scale(n_in, width):
        layers = nn.ModuleList([nn.Sequential(nn.Conv2d(n_in, width, 4, 2, 2), nn.LeakyReLU(0.2))])
        for a, b, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            convolution = nn.Conv2d(a * width, b * width, 4, stride, 2)
            layers.append(nn.Sequential(convolution, nn.InstanceNorm2d(b * width), nn.LeakyReLU(0.2)))
        layers.append(nn.Sequential(nn.Conv2d(8 * width, 1, 4, 1, 2)))
        return layers

    def forward(self, x):
        """[[map (B, C, h, w), ...] of the whole picture, the same of the half-size one]."""
        found = []
        for scale in (self.fine, self.coarse):
            maps, y = [], x
            for layer in scale:
                y = layer(y)
                maps.append(y)
            found.append(maps)
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return found
