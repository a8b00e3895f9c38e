"""The regressor of Deep3DFaceRecon: an aligned picture of a face -> the 257 numbers of the Basel model (Deng et al. 2019; Xu 2022).

    network = load_regressor()                       # data/assets/bfm/epoch_20.pth, which the user brings
    coeff = regress(network, crops)                  # (T, 224, 224, 3) uint8 RGB -> (T, 257) float32

ResNet-50 and seven linear heads; the crops are those of `align` (five points on the template, 102 px to its unit). The network is
the released one by name and number; its weights are MIT, the face model that gives the numbers a meaning is licensed to each user.
"""

import pickle
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from deep_3drecon.assets import asset_path
from deep_3drecon.camera import CROP_SIZE
from deep_3drecon.coeffs import BFM_LAYOUT
from deep_3drecon.resnet import N_FEATURES, ResNet50

HEADS = (80, 64, 80, 3, 27, 2, 1)  # identity, expression, texture, angle, light, translation in x and y, in z
CHECKPOINT_KEY = "net_recon"  # where the released checkpoint keeps the network, beside the state of its training


class WeightsError(ValueError):
    """A file of weights that cannot be read or belongs to another network."""


class CoefficientNetwork(nn.Module):
    """Aligned pictures (B, 3, 224, 224), RGB in [0, 1] -> face vectors (B, 257) in the order of `coeffs.BFM_LAYOUT`.

    The heads start at zero, as the paper's training does: an untrained network gives the mean face, facing the camera.
    """

    def __init__(self):
        super().__init__()
        self.backbone = ResNet50()
        self.final_layers = nn.ModuleList(nn.Conv2d(N_FEATURES, n, 1) for n in HEADS)
        for head in self.final_layers:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, pictures):
        features = self.backbone(pictures)
        return torch.cat([head(features) for head in self.final_layers], 1).flatten(1)


def load_regressor(path=None, device="cpu"):
    """`CoefficientNetwork` with the weights at `path`, by default the user's epoch_20.pth among the assets; ready to use.

    An absent file is named with where to get it (AssetError); one that does not fit, by what it lacks or has too much (WeightsError).
    """
    path = asset_path("bfm_regressor") if path is None else Path(path)
    network = CoefficientNetwork()
    load_strictly(network, read_weights(path), path)
    return network.to(device).requires_grad_(False).eval()


def read_weights(path):
    """{name: tensor} of the network in a released checkpoint, a plain state dict or a .safetensors file. Unpickles tensors only."""
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        reason = (str(error) or "the file is empty").splitlines()[0]
        raise WeightsError(f"{path}: could not be read as tensors by name ({reason}): fetch it again") from error
    if isinstance(found, dict):
        found = found.get(CHECKPOINT_KEY, found)
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise WeightsError(
            f"{path}: holds {type(found).__name__}, tensors by name or {CHECKPOINT_KEY} with such is needed"
        )
    return {name.removeprefix("module."): value for name, value in found.items()}


def load_strictly(network, state, source):
    """Fill the network with {name: tensor}; every name and every shape must agree. `source` names the weights in the error."""
    wanted = network.state_dict()
    shapes = [
        f"{name} {tuple(state[name].shape)} where {tuple(value.shape)} is needed"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    faults = {
        "lacks": sorted(wanted.keys() - state.keys()),
        "also has": sorted(state.keys() - wanted.keys()),
        "has": shapes,
    }
    said = [f"{verb} {_shorten(names)}" for verb, names in faults.items() if names]
    if said:
        raise WeightsError(f"{source}: not the weights of {type(network).__name__}: it {'; it '.join(said)}")
    network.load_state_dict(state)


def _shorten(names, n=4):
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


@torch.no_grad()
def regress(network, crops, batch_size=32):
    """Aligned crops (T, 224, 224, 3) uint8 RGB -> face vectors (T, 257) float32, on the network's device."""
    crops = np.asarray(crops)
    if crops.dtype != np.uint8 or crops.shape[1:] != (CROP_SIZE, CROP_SIZE, 3):
        raise ValueError(
            f"crops {crops.shape} {crops.dtype} came, (T, {CROP_SIZE}, {CROP_SIZE}, 3) uint8 RGB is needed"
        )
    parameter = next(network.parameters())
    out = [np.zeros((0, BFM_LAYOUT.size), np.float32)]
    for start in range(0, len(crops), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(crops[start : start + batch_size])).to(parameter.device)
        out.append(network(batch.permute(0, 3, 1, 2).to(parameter.dtype) / 255).float().cpu().numpy())
    return np.concatenate(out)
