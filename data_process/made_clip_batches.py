"""Batches of frames of `made_crops_clips` with their truth, and what a correction of their fit costs."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from data_process.made_crops_clips import CropClip
from data_process.made_turns import TEN
from deep_3drecon import camera, fit, landmarks
from deep_3drecon.clip_mirror import Mirror
from deep_3drecon.clip_regressor import ClipNetwork, ClipRegressor
from deep_3drecon.clip_views import FINER, POINTS, Viewer, corrected, logarithms
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmark_bias import bias, noise
from deep_3drecon.photometric import with_parts

TEST_EVERY = 16  # each sixteenth person is kept for testing
N_KEPT = 33  # frames of a clip
FRAMES = 12  # of each clip in a batch
NEARER_EVERY = 4  # people of whom there is a fit nearer to the truth as well
FITS = 0.8  # share of a batch that is a fit as it came; the others are nearer to the truth, which is rarely asked for
PICTURES = ("mouth", "face")
# deviations, correlation, millimetres, pixels of the canonical crop and degrees against each other
WEIGHTS = {"exp": 2.5, "mean": 0.3, "corr": 5.0, "lips": 1.0, "turn": 0.5, "shape": 0.3, "id": 0.2, "points": 0.5,
           "lip points": 1.0}  # fmt: skip
TEN_WEIGHT = 3.0  # of the channels that reports judge by, against the other ones of the mouth
LEAST_MOVED = 0.02  # deviation of a channel under which its correlation does not count
N_SHAPE = 300  # vertices of the face by which identities are compared


def whole(costs):
    """Weighted sum."""
    return sum(WEIGHTS[name] * value for name, value in costs.items())


class ClipData:
    """Views of all clips of a folder in memory, 3 MB each. split: "train", where the fits of all people come first and then, for
    each fourth of them, one that is nearer to the truth, or "test", fits alone."""

    regressor = ClipRegressor
    whole = staticmethod(whole)

    def __init__(self, folder, split, seed=0):
        paths = sorted(Path(folder).glob("[0-9]*[0-9].npy"))
        paths = [p for p in paths if (int(p.stem) % TEST_EVERY == TEST_EVERY - 1) == (split == "test")]
        if not paths:
            raise ValueError(f"{folder}: no people for {split}: render at least {TEST_EVERY}")
        self.model = model = load_face_model("open")
        self.n_people, self.mirror, self.moved = len(paths), Mirror(model), corrected(model.expression_names)
        viewer, linear, self.values = Viewer(model, bias), fit.linear_landmarks(model, noise()), {}
        again = paths[::NEARER_EVERY] if split == "train" else []
        for row, path in enumerate(tqdm([*paths, *again], unit="clip", desc=split)):
            clip = CropClip.load(path.with_suffix(""))
            track = clip.fit
            if row >= len(paths):
                track = nearer(track, clip.truth, model, linear, np.random.default_rng((seed, 3, int(path.stem))))
            for name, value in _views(viewer, track, clip).items():
                if row == 0:
                    self.values[name] = np.empty((len(paths) + len(again), *value.shape), value.dtype)
                self.values[name][row] = value

    def __len__(self):
        return len(self.values["exp"])

    def batch(self, clips, frames, rng=None):
        """Rows `clips` (C,) at frames (C, K): {"mouth", "face", "numbers", "exp", "angle", "id" (C, 80), "points"}.

        rng: look and side are altered by it, if given.
        """
        at = np.asarray(clips)[:, None], frames
        out = {name: torch.from_numpy(value[at]) for name, value in self.values.items() if name not in PICTURES}
        out["id"] = out["id"][:, 0]
        for name in PICTURES:
            out[name] = torch.from_numpy(logarithms(self.values[name][at])).movedim(-1, 2).contiguous()
        if rng is not None:
            for name in PICTURES:
                alter(out[name], rng, FINER if name == "mouth" else 1)
            turn_over(out, torch.from_numpy(rng.random(len(clips)) < 0.5), self.mirror)
        return out

    @property
    def n_pictures(self):
        return self.n_people * N_KEPT

    def new_network(self, rng, width=24):
        """A network that knows what is usual in the numbers and how far fits are off."""
        network, moved = ClipNetwork(len(corrected(self.model.expression_names)), width), self.moved
        numbers, n_exp = torch.from_numpy(self.values["numbers"]).flatten(0, 1), len(self.model.expression_names)
        network.usual[:], network.spread[:] = numbers.mean(0), numbers.std(0).clamp(min=1e-3)
        true = {name: torch.from_numpy(self.values[name]).flatten(0, 1) for name in ("exp", "angle", "id")}
        off = true["exp"][:, moved] - numbers[:, moved]
        turn = true["angle"] - numbers[:, 2 * n_exp : 2 * n_exp + 3]
        network.step[:] = torch.cat([off.std(0).clamp(min=0.02), turn.std(0)])
        network.step_id[:] = (true["id"] - numbers[:, -true["id"].shape[1] :]).std(0).clamp(min=0.05)
        return network

    def cost(self, network):
        """`ClipCost` by what is usual for the network."""
        return ClipCost(self.model, network.step)

    def batches(self, seed, size):
        """One batch of `size` frames of a few clips, altered."""
        rng, n_clips = np.random.default_rng(seed), size // FRAMES
        clips = rng.choice(self.n_people, n_clips, replace=False)
        others = rng.integers(self.n_people, len(self), n_clips)
        clips = np.where(rng.random(n_clips) < FITS, clips, others)
        yield self.batch(clips, np.stack([np.sort(rng.choice(N_KEPT, FRAMES, replace=False)) for _ in clips]), rng)

    @staticmethod
    def run(network, batch):
        """The network's output."""
        return network(batch["mouth"], batch["face"], batch["numbers"])


def _views(viewer, track, clip):
    sheets = viewer.sheets_of(track)
    pictures = viewer.look(sheets, track, clip.crops, clip.mouths)
    true = clip.truth.parts()
    row = dict(zip(PICTURES, pictures, strict=True)) | {"numbers": viewer.numbers(track)}
    row |= {name: true[name] for name in ("exp", "angle", "id")}
    row["points"] = viewer.misses(track, clip.truth.landmarks).astype(np.float32)
    return {name: value[:N_KEPT] for name, value in row.items()}


def nearer(track, truth, model, linear, rng):
    """The fit moved towards the truth by a random share, with some noise: what a second look will see."""
    here, there, out = track.parts(), truth.parts(), {}
    for name, off in (("exp", 0.02), ("angle", 0.015), ("id", 0.12)):
        wrong = rng.normal(0, off, here[name].shape[1])
        if name != "id":
            wrong = wrong + rng.normal(0, off / 2, here[name].shape)
        out[name] = torch.from_numpy(here[name] + rng.uniform() * (there[name] - here[name]) + wrong).double()
    out["exp"] = out["exp"].clamp(0, 1)
    found = camera.apply_affine(torch.from_numpy(track.landmarks).double(), torch.from_numpy(track.crop).double())
    state = out["exp"], out["angle"], torch.from_numpy(here["trans"]).double()
    mask = torch.ones(found.shape[:2], dtype=torch.float64)
    trans = fit.solve_place(linear, out["id"], state, found - bias(out["angle"]), mask)
    return with_parts(track, model, trans=trans, **out)


def alter(views, rng, finer=1):
    """Change contrast, sharpness and noise of views (C, K, 2, h, w), those of one clip alike, in place; blur grows with `finer`."""
    n_clips = len(views)
    views *= torch.from_numpy(np.exp(rng.normal(0, 0.15, (n_clips, 1, 2, 1, 1))).astype(np.float32))
    grain = np.where(rng.random(n_clips) < 0.4, np.abs(rng.normal(0, 0.06, n_clips)), 0).astype(np.float32)
    views += torch.from_numpy(grain)[:, None, None, None, None] * torch.randn(views.shape)
    for c in np.flatnonzero(rng.random(n_clips) < 0.3):
        sigma = finer * float(rng.uniform(0.4, 1.5))
        reach = int(2 * sigma) + 1
        bell = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
        bell, soft = bell / bell.sum(), views[c].flatten(0, 1)[:, None]
        soft = functional.conv2d(functional.pad(soft, (reach, reach, 0, 0), "replicate"), bell[None, None, None])
        soft = functional.conv2d(functional.pad(soft, (0, 0, reach, reach), "replicate"), bell[None, None, :, None])
        views[c] = soft.view_as(views[c])


def turn_over(batch, chosen, mirror):
    """Exchange left and right of some clips of a batch, in place."""
    for name in PICTURES:
        batch[name][chosen] = batch[name][chosen].flip(-1)
    batch["numbers"][chosen] = mirror.numbers(batch["numbers"][chosen])
    batch["exp"][chosen] = batch["exp"][chosen][..., mirror.exp]
    batch["angle"][chosen] *= mirror.angle
    batch["id"][chosen] = batch["id"][chosen] @ mirror.id
    batch["points"][chosen] = mirror.misses(batch["points"][chosen])


class ClipCost:
    """What is wrong with a correction: named scalars."""

    def __init__(self, model, step):
        names = model.expression_names
        self.moved, self.spread, self.n_exp = corrected(names), step[:-3].clone(), len(names)
        self.weight = torch.tensor([TEN_WEIGHT if names[k] in TEN else 1.0 for k in self.moved])
        lips = model.landmark_ids[landmarks.LIPS][:, 0]
        self.lips = model.exp_basis[torch.from_numpy(lips)][..., self.moved]
        self.lip_points = np.flatnonzero(np.isin(POINTS, landmarks.LIPS))
        face = model.regions["face"]
        chosen = np.sort(np.random.default_rng(0).choice(face, min(N_SHAPE, len(face)), replace=False))
        self.shape = free_of_moves(model.id_basis[chosen], model.mean[chosen])

    def __call__(self, out, true):
        """Network's output and batch -> {name: scalar}."""
        fitted, n_id = true["numbers"], true["id"].shape[-1]
        wanted = true["exp"][..., self.moved]
        got = fitted[..., : self.n_exp][..., self.moved] + out["exp"]
        off = got - wanted
        motion = off - off.mean(1, keepdim=True)
        angle = fitted[..., 2 * self.n_exp : 2 * self.n_exp + 3] + out["angle"]
        id_off = fitted[:, 0, -n_id:] + out["id"] - true["id"]
        points = out["points"] - true["points"]
        lips = points[:, :, self.lip_points]
        return {
            "exp": _mild(motion / self.spread),
            "mean": _mild(off.mean(1) / self.spread),
            "corr": self._unlike(got, wanted),
            "lips": camera.MM_PER_DM * _length(torch.einsum("cke,lde->ckld", motion, self.lips)),
            "turn": turn_between(angle, true["angle"]).mean(),
            "shape": camera.MM_PER_DM * _length((id_off @ self.shape.T).unflatten(-1, (-1, 3))),
            "id": id_off.square().mean(),
            "points": _length(points),
            "lip points": _length(lips - lips.mean(1, keepdim=True)),
        }

    def _unlike(self, got, wanted):
        """One minus the correlation over a clip's frames."""
        got, wanted = (x - x.mean(1, keepdim=True) for x in (got, wanted))
        power, true_power = got.square().mean(1), wanted.square().mean(1)
        weight = (true_power > LEAST_MOVED**2) * self.weight
        correlation = (got * wanted).mean(1) / ((power + 1e-5) * (true_power + 1e-5)).sqrt()
        return ((1 - correlation) * weight).sum() / weight.sum().clamp(min=1)


def free_of_moves(basis, points):
    """Basis (n, 3, k) of displacements of points (n, 3) without what a turn or a shift of all of them would do: (3 n, k)."""
    about, axes = points - points.mean(0), torch.eye(3)
    moves = [axes[k].expand_as(about).flatten() for k in range(3)]
    moves += [torch.cross(axes[k].expand_as(about), about, dim=1).flatten() for k in range(3)]
    rigid, _ = torch.linalg.qr(torch.stack(moves, 1))
    flat = basis.flatten(0, 1)
    return flat - rigid @ (rigid.T @ flat)


def turn_between(first, second):
    """Degrees between the rotations of angles (..., 3); its gradient is finite at zero."""
    chord = (camera.rotation_matrix(first) - camera.rotation_matrix(second)).square().sum((-1, -2))
    return torch.rad2deg(2 * torch.asin(((chord + 1e-9) / 8).sqrt().clamp(max=0.99)))


def _mild(values):
    return functional.smooth_l1_loss(values, torch.zeros_like(values), beta=0.5)


def _length(offsets):
    return (offsets.square().sum(-1) + 1e-8).sqrt().mean()
