"""headpose: a person's head motion from a short clip of theirs (Yi et al., 2020; its successor, TMM 2022; and ours).

    motion = generate_motion(features, behaviour, n_frames, seed=0)      # ours; behaviour: models.behaviour.Behaviour
    exp = lay_over(exp, motion, face.expression_names)                   # brows and blinks into an expression

Presets of the method that is trained by train_style.py:

paper   ATC-net: windows of 28 x 12 cepstra -> expression and pose, fine-tuned on 300 frames of the person with the paper's losses. Its
        pose serves to choose source frames (`background.assign`, "keyframes"), whose own pose is shown.
tmm     behaviour code of 300 frames of pose (10 numbers) + cepstra -> pose. The paper's training was never released; ours: squared
        error of pose and of its change, and a contrastive loss that tells the codes of people apart.

Ours needs no training: twelve seconds of one person are measured (`behaviour`) and new motion is drawn from what was measured
(`headpose_habit`). Head motion has few dimensions and answers little to sound, so a network that regresses it learns its mean.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from deep_3drecon.face_model import load_face_model
from models import headpose_habit, losses
from models.behaviour import BROWS, LIDS
from models.blinks import add_blinks
from models.headpose_networks import POSE, AudioNet, PoseDecoder, PoseEncoder
from models.presets import check_preset

PRESETS = ("paper", "tmm")
DEPTH_DM = 0.5  # taken off z by the paper's network
PORTRAIT_SWAY = 0.25
TEMPERATURE = 0.2  # of the contrast between behaviour codes


def generate_motion(features, behaviour, n_frames, seed=0, pose_scale=1.0, sway=1.0):
    """New head motion in a person's habits.

    features: {"energy": (A, 1)} at 50 Hz, others are not looked at. pose_scale: strength of the head motion. sway: share of the
    translation that does not go with the head's turning, but with a body that moves; a portrait, whose shoulders stand, takes
    PORTRAIT_SWAY.
    Returns float32 {"angle": (T, 3) radians, "trans": (T, 3) dm: about the person's mean; "brows": (T, 5) coefficients BROWS;
    "closure": (T,) lids shut by blinks, 0 to 1}. The same seed gives the same motion; the mouth has no part in it.
    """
    curves, closure = headpose_habit.generate(features["energy"], behaviour, n_frames, seed)
    curves = curves.astype(np.float32)
    brows = (behaviour.mean[POSE:] + curves[:, POSE:]).clip(0, 1).astype(np.float32)
    angle, trans, scale = curves[:, :3], curves[:, 3:POSE], np.float32(pose_scale)
    if sway != 1:
        with_neck = angle @ np.linalg.lstsq(angle, trans, rcond=None)[0]
        trans = with_neck + np.float32(sway) * (trans - with_neck)
    return {"angle": scale * angle, "trans": scale * trans, "brows": brows, "closure": closure}


def lay_over(exp, motion, expression_names):
    """A method's expression (T, E) with the brows of `generate_motion` in place of its own and the blinks over its lids."""
    exp, names = np.array(exp, np.float32), list(expression_names)
    brows = [names.index(name) for name in BROWS if name in names]
    lids = [names.index(name) for name in LIDS if name in names]
    if len(brows) == len(BROWS):
        exp[:, brows] = motion["brows"]
    if lids:
        exp[:, lids] = add_blinks(exp[:, lids], motion["closure"])
    return exp


class HeadPose(nn.Module):
    """The two papers' networks as a method of train_style.py.

    settings  {"preset": one of PRESETS}; stats: stats.json of the training split (face model and number of coefficients)
    """

    phases = ("motion",)
    data_kind = "poses"

    def __init__(self, settings, stats, face=None):
        super().__init__()
        check_preset(PRESETS, settings["preset"])
        self.settings, self.stats, self.preset = settings, stats, settings["preset"]
        self.face = load_face_model(stats["face_model"]) if face is None else face
        self.n_exp = len(stats["exp"]["mean"])
        if self.preset == "paper":
            self.net = AudioNet(self.n_exp + POSE)
        else:
            self.encoder, self.decoder = PoseEncoder(), PoseDecoder()

    def forward(self, batch):
        """paper: {"expression": (B, T, E), "pose": (B, T, 6), z as the network sees it}; tmm: {"pose"} about the mean, {"code"}."""
        if self.preset == "paper":
            out = self.net(batch["mfcc"])
            return {"expression": out[..., : self.n_exp], "pose": out[..., self.n_exp :]}
        own = batch["own_pose"]
        code = self.encoder(own - own.mean(1, keepdim=True))[0]
        return {"pose": self.decoder(batch["cepstra"], code), "code": code}

    def losses(self, batch, phase="motion"):
        """Losses of a batch of data_process.poses by name, without weights.

        paper  expression, pose: mean squared error; pose_change, expression_change: summed squared change of what is predicted
        tmm    pose, pose_change: mean squared error about the person's mean, and of its change; contrast: cross-entropy of finding
               the code of another window of the same speaker among the batch's
        """
        out, valid = self(batch), batch["valid"].bool()
        pose = torch.cat([batch["angle"], batch["trans"]], -1)
        if self.preset == "paper":
            pose = pose - pose.new_tensor([0, 0, 0, 0, 0, DEPTH_DM])
            return {
                "expression": losses.squared_error(out["expression"], batch["exp"], valid),
                "pose": losses.squared_error(out["pose"], pose, valid),
                "pose_change": losses.change(out["pose"]).square().sum((1, 2)).mean(),
                "expression_change": losses.change(out["expression"]).square().sum((1, 2)).mean(),
            }
        pose = pose - batch["own_pose"].mean(1, keepdim=True)
        both = losses.change_valid(valid)
        return {
            "pose": losses.squared_error(out["pose"], pose, valid),
            "pose_change": losses.squared_error(losses.change(out["pose"]), losses.change(pose), both),
            "contrast": self._contrast(out["code"], batch),
        }

    def _contrast(self, code, batch):
        other = batch["other_pose"]
        other = self.encoder(other - other.mean(1, keepdim=True))[0]
        likeness = F.normalize(code, dim=1) @ F.normalize(other, dim=1).T / TEMPERATURE
        same = (batch["speaker"][:, None] == batch["speaker"][None]).float()
        return -(likeness.log_softmax(1) * same / same.sum(1, keepdim=True)).sum(1).mean()

    @torch.no_grad()
    def evaluate(self, batch):
        """Losses of one whole clip (a batch of 1)."""
        return self.losses(batch)

    @torch.no_grad()
    def generate(self, features, own_pose=None, n_frames=None):
        """Motion of one clip, float32 arrays.

        paper  features {"mfcc": (T, 28, 12)} -> {"exp": (T, E), "angle": (T, 3), "trans": (T, 3)}
        tmm    features {"cepstra": (4 T + 24, 13)}, own_pose (N, 6) -> {"angle", "trans"} about the person's mean
        """

        def tensor(x):
            return torch.as_tensor(np.asarray(x), dtype=torch.float32)[None]

        if self.preset == "paper":
            out = {name: x[0, :n_frames].numpy() for name, x in self({"mfcc": tensor(features["mfcc"])}).items()}
            out["pose"][:, 5] += DEPTH_DM
            return {"exp": out["expression"], "angle": out["pose"][:, :3], "trans": out["pose"][:, 3:]}
        pose = self({"cepstra": tensor(features["cepstra"]), "own_pose": tensor(own_pose)})["pose"][
            0, :n_frames
        ].numpy()
        return {"angle": pose[:, :3], "trans": pose[:, 3:]}
