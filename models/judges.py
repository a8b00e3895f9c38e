"""Judges: networks of other people that compare films, each optional, all behind one interface.

    judge = JUDGES["efficient_distance"]()       JUDGES["arcface"](weights="ms1mv3_arcface_r100_fp16.pth")
    judge.missing()                              "" when it can be asked, else what to install or where to put which file
    judge.distance(true, pred)                   films (T, H, W, 3) uint8 RGB
    ask(judge, true, pred)                       the same as numbers for a report, or why there are none

Networks are written here, with the parameter names of the released files, so that these load strictly by name; no package of their
authors is needed and nothing is unpickled but tensors. What a judge says depends on its weights: give its name with every number.
"""

import pickle
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from deep_3drecon.assets import assets_dir, find_asset, find_damage, hash_file
from models.image_metrics import pool, read_films
from models.metrics import frechet_distance

BATCH = 16  # frames a pass


def lazily(module, cls):
    """A factory that imports its module when it is called, so that one judge's needs cannot break the others."""

    def make(**options):
        return getattr(import_module(module), cls)(**options)

    return make


# A new judge is one class, one line here. Options of all: device; of those with weights of the user's: weights, a path.
JUDGES = {
    "efficient_distance": lazily("models.judge_efficientnet", "EfficientDistance"),
    "efficient_frechet": lazily("models.judge_efficientnet", "EfficientFrechet"),
    "identity_dlib": lazily("models.judge_faces", "DlibIdentity"),
    "arcface": lazily("models.judge_faces", "ArcFace"),
    "vgg_lpips": lazily("models.judge_lpips", "VggLpips"),
    "alex_lpips": lazily("models.judge_lpips", "AlexLpips"),
    "inception_fid": lazily("models.judge_inception", "InceptionFid"),
    "syncnet": lazily("models.judge_syncnet", "SyncNet"),
}


class JudgeError(ValueError):
    """A judge that cannot be asked: a file is missing, damaged or of another network, or the call lacks something."""


@dataclass(frozen=True)
class WeightFile:
    """A file the user brings: its released name, what it is and where it comes from."""

    name: str
    source: str

    def path(self, given=None):
        """Where it is looked for: the path that was given, else the folder `judges` of the assets."""
        return Path(given) if given else assets_dir() / "judges" / self.name

    def missing(self, given=None):
        """What to do when it is not there, else ""."""
        path = self.path(given)
        return "" if path.is_file() else f"{path} is missing: {self.source}; put it there or give its path"


class Judge:
    """What all judges share.

    kind "frame": `distance` gives one number a frame, NaN where the judge could not look (no face found);
    "set": one number for two sets of frames, which needs hundreds of frames; "sound": `measure(frames, wav)` compares film and sound.
    """

    name = unit = ""
    better = "lower"
    kind = "frame"
    asset = None  # name in data/assets.json
    files = ()  # WeightFile, the first being the one that `weights` replaces

    def __init__(self, weights=None, device="cpu"):
        self.weights, self.device = weights, torch.device(device)

    def missing(self):
        """ "" when the judge can be asked, else what to install or where to put which file."""
        found = [file.missing(self.weights if n == 0 else None) for n, file in enumerate(self.files)]
        if self.asset:
            asset = find_asset(self.asset)
            damage = find_damage(asset)
            found.append(f"{asset.file}: {damage}: {asset.remedy}" if damage else "")
        return "; ".join(filter(None, found))

    @cached_property
    def network(self):
        """The network, loaded when it is first needed."""
        if self.missing():
            raise JudgeError(f"{self.name}: {self.missing()}")
        return self.load().to(self.device).eval()

    def load(self):
        """The network with its weights, on the CPU."""
        raise NotImplementedError(self.name)

    @torch.inference_mode()
    def embed(self, frames, points=None):
        """Frames (T, H, W, 3) uint8 -> numbers (T, D) float32, NaN rows for frames the judge could not look at.

        points: landmarks (T, 68, 2) or (T, 5, 2) px, for judges of faces.
        """
        network = self.network
        batches = [network(self.prepare(frames[k : k + BATCH])) for k in range(0, len(frames), BATCH)]
        return torch.cat(batches).float().cpu().numpy()

    def prepare(self, frames):
        """Frames (B, H, W, 3) uint8 -> what the network takes."""
        raise NotImplementedError(self.name)

    def compare(self, true, pred):
        """Distance of two sets of `embed`'s rows: (T,), or one number for a judge of sets."""
        if self.kind == "set":
            true, pred = (rows[np.isfinite(rows).all(1)].astype(np.float64) for rows in (true, pred))
            if len(true) + len(pred) < true.shape[1]:
                # the same distance in the space that the rows span, which has fewer axes: seconds less
                basis = np.linalg.qr(np.concatenate([true, pred]).T)[0]
                true, pred = true @ basis, pred @ basis
            return frechet_distance(true, pred)
        return np.linalg.norm(true - pred, axis=1)

    def distance(self, true, pred, true_points=None, pred_points=None):
        """Distance of `pred` from `true`, films (T, H, W, 3) uint8: (T,), or one number for a judge of sets (any two lengths)."""
        if self.kind == "frame":
            read_films(true, pred)
        return self.compare(self.embed(true, true_points), self.embed(pred, pred_points))


def ask(judge, true, pred, true_points=None, pred_points=None):
    """{"mean", "frames", "skipped_frames"} of a judge's distances, or {"skipped": what is missing}."""
    if judge.missing():
        return {"skipped": judge.missing()}
    values = judge.distance(true, pred, true_points, pred_points)
    if judge.kind == "set":
        return {"mean": float(values), "frames": len(pred), "skipped_frames": 0}
    return pool(values)


def to_tensor(frames, device):
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in 0..255."""
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float()


def load_weights(network, path, unused=()):
    """Fill a network from a released file, strictly by name and shape; returns the network.

    path: .safetensors, or a file of torch.save that holds tensors by name. unused: beginnings of names that the file may hold beyond the
    network's. Counters of batch normalisation may be absent or extra. Raises JudgeError that names what does not fit.
    """
    found, wanted = read_tensors(path), network.state_dict()
    counters = {name for name in (*found, *wanted) if name.endswith("num_batches_tracked")}
    lacking = [name for name in wanted if name not in found and name not in counters]
    extra = [n for n in found if n not in wanted and n not in counters and not n.startswith(tuple(unused))]
    shapes = [
        f"{name} {tuple(found[name].shape)} where {tuple(x.shape)} is needed"
        for name, x in wanted.items()
        if name in found and found[name].shape != x.shape
    ]
    faults = [
        f"{what} {shorten(names)}"
        for what, names in (("lacks", lacking), ("also has", extra), ("has", shapes))
        if names
    ]
    if faults:
        raise JudgeError(f"{path}: not the weights of {type(network).__name__}: it {'; it '.join(faults)}")
    network.load_state_dict({name: found.get(name, x).to(x.dtype) for name, x in wanted.items()})
    return network.requires_grad_(False).eval()


def read_tensors(path):
    """{name: tensor} of a released file; the prefix of data-parallel training is dropped.

    A file that bears the first digits of its sha256 in its name, as torchvision's do, must agree with them.
    """
    path = Path(path)
    try:
        stated = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
        digest = hash_file(path) if stated else ""
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise JudgeError(f"{path}: could not be read as tensors by name ({reason}): fetch it again") from error
    if stated and not digest.startswith(stated[1]):
        raise JudgeError(f"{path}: damaged, its sha256 begins with {digest[:8]}, not {stated[1]}: fetch it again")
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(x, torch.Tensor) for x in found.values()):
        raise JudgeError(f"{path}: holds {type(found).__name__}, tensors by name (a state dict) are needed")
    return {name.removeprefix("module."): x for name, x in found.items()}


def shorten(names, n=4):
    """The first few of a list, and how many more there are."""
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
