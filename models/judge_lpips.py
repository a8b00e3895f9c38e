"""LPIPS v0.1 (Zhang et al. 2018) on the user's VGG16 or AlexNet of torchvision; the learned heads come by `python -m scripts.download`."""

import torch
import torch.nn.functional as F
from torch import nn

from deep_3drecon.assets import asset_path
from models.image_metrics import read_films
from models.judges import BATCH, Judge, WeightFile, load_weights, to_tensor

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB in [-1, 1], from the authors' code
EPSILON = 1e-10
SMALLEST = 64  # px; AlexNet's last layers need a few places to look at


class Trunk(nn.Module):
    """The convolutions of a torchvision classifier up to the last layer LPIPS reads; parameter names of torchvision."""

    def __init__(self, layers, taps):
        """layers: modules of `features`. taps: their numbers whose outputs are compared."""
        super().__init__()
        self.features, self.taps = nn.Sequential(*layers), taps

    def forward(self, x):
        """(B, 3, H, W) in [-1, 1] -> five maps (B, C, H', W')."""
        shift, scale = (x.new_tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        x, found = (x - shift) / scale, []
        for number, layer in enumerate(self.features[: self.taps[-1] + 1]):
            x = layer(x)
            if number in self.taps:
                found.append(x)
        return found


def vgg_layers(stages):
    """Layers of a VGG's `features`, in torchvision's numbering. stages: [(width, convolutions)], each ended by a pooling."""
    layers, n_in = [], 3
    for width, repeats in stages:
        for _ in range(repeats):
            layers += [nn.Conv2d(n_in, width, 3, padding=1), nn.ReLU()]
            n_in = width
        layers.append(nn.MaxPool2d(2))
    return layers


def vgg16():
    """VGG16's `features`, 14,714,688 numbers; compared after the last ReLU of each size: 64, 128, 256, 512, 512 channels."""
    stages = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    return Trunk(vgg_layers(stages), (3, 8, 15, 22, 29))


def alexnet():
    """AlexNet's `features`, 2,469,696 numbers; compared after each ReLU: 64, 192, 384, 256, 256 channels."""
    layers = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for n_in, n_out in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
    return Trunk([*layers, nn.MaxPool2d(3, 2)], (1, 4, 7, 9, 11))


class Heads(nn.Module):
    """One weight a channel of each map, not negative; names of the authors' file, lin0.model.1.weight to lin4.model.1.weight."""

    def __init__(self, widths):
        super().__init__()
        for number, width in enumerate(widths):
            head = nn.Module()
            head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))
            setattr(self, f"lin{number}", head)

    def forward(self, squares):
        """Squared differences of unit features, a list of (B, C, H, W) -> (B,)."""
        parts = [getattr(self, f"lin{n}").model(x).mean((1, 2, 3)) for n, x in enumerate(squares)]
        return torch.stack(parts).sum(0)


class Lpips(nn.Module):
    def __init__(self, trunk, heads):
        super().__init__()
        self.trunk, self.heads = trunk, heads

    def forward(self, a, b):
        """(B, 3, H, W) in [-1, 1], two of them -> LPIPS (B,)."""
        sides = []
        for maps in (self.trunk(a), self.trunk(b)):
            sides.append([x / (x.square().sum(1, keepdim=True).sqrt() + EPSILON) for x in maps])
        return self.heads([(x - y).square() for x, y in zip(*sides, strict=True)])


class VggLpips(Judge):
    """LPIPS v0.1, VGG16: 0 for equal frames, published as LPIPS-VGG. weights: torchvision's VGG16. `embed` pools its last map."""

    name, unit, asset = "vgg_lpips", "LPIPS", "lpips_vgg"
    files = (
        WeightFile(
            "vgg16-397923af.pth",
            "torchvision's VGG16, download.pytorch.org/models/vgg16-397923af.pth (528 MB, BSD-3-Clause)",
        ),
    )
    widths, build = (64, 128, 256, 512, 512), staticmethod(vgg16)

    def load(self):
        trunk = load_weights(self.build(), self.files[0].path(self.weights), unused=("classifier.",))
        return Lpips(trunk, load_weights(Heads(self.widths), asset_path(self.asset)))

    def prepare(self, frames):
        if min(frames.shape[1:3]) < SMALLEST:
            raise ValueError(f"frames of {frames.shape[2]} x {frames.shape[1]} px came, {self.name} needs {SMALLEST}")
        return to_tensor(frames, self.device) / 127.5 - 1

    @torch.inference_mode()
    def embed(self, frames, points=None):
        parts = [self.network.trunk(self.prepare(frames[k : k + BATCH]))[-1] for k in range(0, len(frames), BATCH)]
        return F.adaptive_avg_pool2d(torch.cat(parts), 1).flatten(1).cpu().numpy()

    @torch.inference_mode()
    def distance(self, true, pred, true_points=None, pred_points=None):
        read_films(true, pred)
        network = self.network
        steps = [slice(k, k + BATCH) for k in range(0, len(true), BATCH)]
        return torch.cat([network(self.prepare(true[s]), self.prepare(pred[s])).cpu() for s in steps]).double().numpy()


class AlexLpips(VggLpips):
    """LPIPS v0.1, AlexNet, the authors' default: published as LPIPS or LPIPS-Alex. weights: torchvision's AlexNet."""

    name, asset = "alex_lpips", "lpips_alex"
    files = (
        WeightFile(
            "alexnet-owt-7be5be79.pth",
            "torchvision's AlexNet, download.pytorch.org/models/alexnet-owt-7be5be79.pth (233 MB, BSD-3-Clause)",
        ),
    )
    widths, build = (64, 192, 384, 256, 256), staticmethod(alexnet)
