"""Perceptual loss: how far two pictures are in the features of a network that was trained to recognise things.

    loss = PerceptualLoss()                          EfficientNet-Lite0, whose weights a small pip wheel carries
    loss = PerceptualLoss("vgg19", "vgg19-dcbb9e9d.pth")     torchvision's VGG19, the file being the user's
    loss(made, real)                                 (B, 3, H, W) in [0, 1] -> scalar

The backbone is frozen and kept out of the state of the model that uses it.
"""

import torch
import torch.nn.functional as F

from deep_3drecon.assets import asset_path
from models.judge_efficientnet import EfficientNetLite0
from models.judge_lpips import Trunk, vgg_layers
from models.judges import load_weights

VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of pix2pixHD, fine to coarse
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
N_DEPTHS = 3  # of EfficientNet: 1/2, 1/4 and 1/8 of the size; deeper ones see whole faces and cost more than they tell


def vgg19():
    """VGG19's `features` up to relu5_1; parameter names of torchvision."""
    stages = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1))
    return Trunk(vgg_layers(stages)[:-1], (1, 6, 11, 20, 29))


class PerceptualLoss:
    """Mean absolute difference of features; of EfficientNet in units of their own deviation, of VGG19 weighed as pix2pixHD does.

    backbone: "efficientnet" or "vgg19"; weights: file of the latter.
    """

    def __init__(self, backbone="efficientnet", weights=None):
        if backbone == "efficientnet":
            self.network = load_weights(EfficientNetLite0(), asset_path("efficientnet_lite0"), unused=("_fc.",))
        elif backbone == "vgg19":
            self.network = load_weights(vgg19(), weights, unused=("classifier.", "features."))
        else:
            raise ValueError(f'perceptual backbone {backbone!r} came: use "efficientnet" or "vgg19" with its file')
        self.backbone = backbone
        self.network.eval().requires_grad_(False)

    def features(self, x):
        """Maps of a batch (B, 3, H, W) in [0, 1], fine to coarse."""
        if self.backbone == "efficientnet":
            return self._stages((x * 255 - 127) / 128)
        mean, std = (x.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return self._vgg((x - mean) / std)

    def _stages(self, x):
        network, found, depth = self.network, [], 0
        x = F.relu6(network._bn0(network._conv_stem(x)))
        for block in network._blocks:
            x = block(x)
            if depth == 0 and not found or block is network._blocks[2] or block is network._blocks[4]:
                found.append(x)
            if len(found) == N_DEPTHS:
                return found
        return found

    def _vgg(self, x):
        found = []
        for number, layer in enumerate(self.network.features):
            x = layer(x)
            if number in self.network.taps:
                found.append(x)
        return found

    def to(self, device):
        """Moved to where the pictures are."""
        self.network.to(device)
        return self

    def __call__(self, made, real):
        with torch.no_grad():
            wanted = self.features(real)
        total = 0.0
        for k, (a, b) in enumerate(zip(self.features(made), wanted, strict=True)):
            if self.backbone == "vgg19":
                total = total + VGG_WEIGHTS[k] * F.l1_loss(a, b)
            else:
                total = total + F.l1_loss(a, b) / (b.std() + 1e-3) / N_DEPTHS
        return total
