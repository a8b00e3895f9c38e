"""Batches of crops with their truth out of folders of `made_faces`, and what a guess about them costs."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from data_process.made_crops import draw_crop
from data_process.made_faces import Faces
from deep_3drecon import camera, landmarks
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import linear_landmarks
from deep_3drecon.open_regressor import FaceNetwork, OpenRegressor, into_crop, matrix_from_6d

TEST_EVERY = 10  # each tenth person is kept for testing
# millimetres, degrees, pixels of the canonical crop and deviations against each other
WEIGHTS = {"mouth": 1.0, "lips": 0.15, "exp": 20.0, "shape": 0.05, "id": 0.3, "turn": 0.06, "place": 0.05,
           "presence": 0.5, "sure": 0.03}  # fmt: skip
HARDNESS = (0.0, 0.3, 0.7, 1.0)
N_FOR_SPREAD = 2048
ROUND = 16  # batches whose crops are drawn together, and used twice


def whole(costs):
    """Weighted sum."""
    return sum(WEIGHTS[name] * value for name, value in costs.items())


class FaceData:
    """All pictures of a folder in memory. split: "train" or "test", by person."""

    def __init__(self, folder, split):
        paths = sorted(Path(folder).glob("[0-9]*.npz"))
        held = [int(path.stem) % TEST_EVERY == TEST_EVERY - 1 for path in paths]
        self.people = [Faces.load(p) for p, is_test in zip(paths, held, strict=True) if is_test == (split == "test")]
        if not self.people:
            raise ValueError(f"{folder}: {len(paths)} people, none of them for {split}: render at least {TEST_EVERY}")
        self.places = [(p, k) for p, person in enumerate(self.people) for k in range(len(person))]

    regressor = OpenRegressor
    whole = staticmethod(whole)

    def __len__(self):
        return len(self.places)

    @property
    def n_pictures(self):
        return len(self)

    @property
    def n_people(self):
        return len(self.people)

    def new_network(self, rng, width=24):
        """A network that knows mean and spread of the faces it will see."""
        network = FaceNetwork(width)
        batch = self.crops(rng.choice(len(self), min(N_FOR_SPREAD, len(self)), replace=False), rng)
        for name, start in zip(network.parts, np.cumsum([0, *network.parts.values()]), strict=False):
            part = slice(start, start + network.parts[name])
            if name in ("trans", "exp", "id"):
                network.mean[part], network.spread[part] = batch[name].mean(0), batch[name].std(0).clamp(min=0.02)
        network.mean[:6] = torch.tensor([1.0, 0, 0, 0, 1, 0])
        network.mean[-3:] = torch.tensor([2.0, 1.5, 0.5])
        network.spread[:6] = 0.5
        return network

    def cost(self, network):
        """`Cost` by what is usual for the network."""
        parts = dict(zip(network.parts, network.spread.split(list(network.parts.values())), strict=True))
        return Cost(load_face_model("open"), parts["exp"], parts["id"])

    def batches(self, seed, size):
        """Batches whose crops are drawn together, each used twice."""
        rng = np.random.default_rng(seed)
        pool = self.crops(rng.choice(len(self), ROUND * size), rng)
        order = np.concatenate([rng.permutation(ROUND * size) for _ in range(2)])
        for numbers in np.split(order, 2 * ROUND):
            yield {name: value[numbers] for name, value in pool.items()}

    @staticmethod
    def run(network, batch):
        """The network's output."""
        return network(batch["crops"].float())

    def crops(self, numbers, rng, hard=None):
        """Batch of samples: crops (B, 80, 80) uint8; rotation (B, 3, 3), trans, exp, id, present (B,), of the crops.

        hard: see `draw_crop`; None for a mixture.
        """
        rows = {"crops": [], "change": [], "present": [], "angle": [], "trans": [], "exp": [], "id": []}
        for number in numbers:
            person, k = self.people[self.places[number][0]], self.places[number][1]
            degree = hard if hard is not None else rng.choice(HARDNESS)
            crop, change, present = draw_crop(
                person.pictures[k], person.regions[k], person.landmarks[k], person.affine[k], rng, degree
            )
            rows["crops"].append(crop), rows["change"].append(change), rows["present"].append(present)
            for name in ("angle", "trans", "exp", "id"):
                rows[name].append(getattr(person, name)[k])
        batch = {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()}
        rotation, trans = into_crop(
            camera.rotation_matrix(batch["angle"].double()), batch["trans"].double(), batch.pop("change").double()
        )
        return batch | {"rotation": rotation.float(), "trans": trans.float()}


class Cost:
    """What is wrong with a guess: named scalars in units that can be read."""

    def __init__(self, model, exp_spread, id_spread):
        linear = linear_landmarks(model)
        self.mean, self.id, self.exp = (x.float() for x in (linear.mean, linear.id, linear.exp))
        self.weight = (linear.weight / linear.weight.sum()).float()
        self.exp_spread, self.id_spread = exp_spread, id_spread
        upper, lower = landmarks.INNER_LIP_UPPER[3:6], landmarks.INNER_LIP_LOWER[3:6]
        self.gap = (self.exp[upper] - self.exp[lower]).mean(0)  # (3, 52)

    def __call__(self, out, true):
        """Network's output and batch -> {name: scalar}."""
        seen = true["present"]
        out_seen = {name: value[seen] for name, value in out.items()}
        rotation, trans, exp, id = (true[name][seen] for name in ("rotation", "trans", "exp", "id"))
        exp_off, id_off = out_seen["exp"] - exp, out_seen["id"] - id
        to_mm = camera.MM_PER_DM
        turned = matrix_from_6d(out_seen["turn"])
        degrees = rotation_angle(turned, rotation)
        points = self.mean + torch.einsum("bk,lck->blc", id, self.id) + torch.einsum("bk,lck->blc", exp, self.exp)
        here, there = (self._seen(points, *pose) for pose in ((turned, out_seen["trans"]), (rotation, trans)))
        lip = to_mm * torch.einsum("bk,ck->bc", exp_off, self.gap).norm(dim=-1)
        errors = torch.stack([degrees, lip], 1).detach()
        log_error = out_seen["sure"][:, 1:]
        return {
            "mouth": to_mm * self._length(torch.einsum("bk,lck->blc", exp_off, self.exp)),
            "lips": lip.mean(),
            "exp": functional.smooth_l1_loss(exp_off / self.exp_spread, torch.zeros_like(exp_off), beta=0.5),
            "shape": to_mm * self._length(torch.einsum("bk,lck->blc", id_off, self.id)),
            "id": (id_off / self.id_spread).square().mean(),
            "turn": degrees.mean(),
            "place": self._length(here - there),
            "presence": functional.binary_cross_entropy_with_logits(out["sure"][:, 0], seen.float()),
            # likelihood of Laplace: the expected error at its best
            "sure": (log_error + errors * (-log_error).exp()).mean(),
        }

    def _length(self, offsets):
        return (offsets.square().sum(-1) + 1e-10).sqrt().mul(self.weight).sum(-1).mean()

    def _seen(self, points, rotation, trans):
        posed = points @ rotation.transpose(-1, -2) + trans[:, None]
        return camera.project(torch.cat([posed[..., :2], posed[..., 2:].clamp(max=camera.CAMERA_Z_DM - 2)], -1))


def rotation_angle(first, second):
    """Angle in degrees between rotations (..., 3, 3); its gradient is finite at zero."""
    chord = (first - second).square().sum((-1, -2)).clamp(1e-8, 8 - 1e-4).sqrt() / 8**0.5
    return torch.rad2deg(2 * torch.asin(chord))
