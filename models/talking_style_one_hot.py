"""talking_style_paper: the published network in the training loop, one-hot speakers and frame-by-frame decoding.

    python train_style.py --config configs/talking_style_paper_vocaset.yaml

Network and golden numbers: `talking_style_paper`. Like the release it rolls out fully, without the truth as input; unlike it, a
batch may be larger than one, and the rollout goes through the folded map (same numbers, `PaperNet._fast`). `dims: {legacy: 1}`
brings back what was wrong: the mouth loss whose vertex ids index coordinates. Speech is the store's features or rows of an encoder,
read off at the motion's own times.
"""

import numpy as np
import torch
from torch import nn

from models import losses
from models import talking_style_losses as mesh_losses
from models.presets import preset_dims
from models.streams import Streams
from models.talking_style import FEATURE_HZ
from models.talking_style_codes import MeshStyleError
from models.talking_style_paper import PRESETS, PaperNet, coordinates_of
from models.windows import at_positions

STACK_ROWS = 2  # of 50 Hz between stacked rows


class TalkingStylePaper(nn.Module):
    """settings: {"preset": name of PRESETS, "dims": {"width", "layers", "legacy", "stack"}}; stats: `meshes_dataset` about().

    stack: rows of sound, 40 ms apart and about the frame's own, that make up one row of speech: 1 as published, whose HuBERT knows
    what is before and after; more for features that do not.
    """

    phases = ("motion",)
    data_kind = "mesh_vertices"
    face = None

    def __init__(self, settings, stats, face=None):
        super().__init__()
        self.settings, self.stats = settings, stats
        dims = dict(settings.get("dims", {}))
        self.legacy, n_layers = bool(dims.pop("legacy", 0)), dims.pop("layers", 6)
        self.stack = dims.pop("stack", 1)
        if self.stack < 1 or self.stack % 2 == 0:
            raise ValueError(f"dims.stack {self.stack} came, an odd number of rows is needed")
        self.streams = tuple(stats["features"])
        shape = preset_dims(PRESETS, settings["preset"], dims)
        shape |= {"n_vertices": stats["n_vertices"], "n_speakers": len(stats["subjects"])}
        self.normalised = Streams(self.streams, stats["features"])
        n_sound = sum(self.normalised.sizes.values())
        self.net = PaperNet(**shape, speech_dims=self.stack * n_sound, n_layers=n_layers)
        self.unit_mm, self.rows = float(stats["unit_mm"]), shape["rows_per_frame"]
        ids = np.asarray(stats["regions"].get("lips", np.arange(stats["n_vertices"])))
        self.lip_ids = torch.as_tensor(ids)
        mouth = torch.as_tensor(ids) if self.legacy else coordinates_of(ids)
        self.register_buffer("mouth", mouth, persistent=False)

    @property
    def context_frames(self):
        """Frames of 25 fps of sound that windows bring on each side."""
        return self.stack // 2

    def speech(self, batch):
        """z-scored features at the times of the frames: (B, rows_per_frame T, C); two rows a frame are half a frame apart."""
        places = batch["positions"]
        if self.rows == 2:
            places = torch.stack([places, places + 1], -1).flatten(1)
        joined, half = torch.cat(list(self.normalised(batch).values()), -1), self.stack // 2
        return torch.cat([at_positions(joined, places + STACK_ROWS * k) for k in range(-half, half + 1)], -1)

    def one_hot(self, speaker):
        """(B,) rows of the training subjects -> (B, N); -1, a stranger, is refused."""
        if (speaker < 0).any():
            raise MeshStyleError("the published network knows training subjects only: choose one of them as condition")
        return nn.functional.one_hot(speaker, len(self.stats["subjects"])).to(self.net.vertice_decoder.weight)

    def losses(self, batch, phase="motion"):
        """all, mouth: mean squared coordinates in mm^2 (the released loss is .4 all + .6 mouth, in squared units)."""
        speech, rest = self.speech(batch), torch.zeros_like(batch["motion"][:, 0])
        pred = self.net.predict(speech, rest, self.one_hot(batch["speaker"]))
        return self._errors(pred, batch["motion"], batch["valid"].bool())

    def _errors(self, pred, true, valid):
        error = (pred - true).square() * self.unit_mm**2
        return {"all": losses.masked_mean(error, valid), "mouth": losses.masked_mean(error[..., self.mouth], valid)}

    @torch.no_grad()
    def evaluate(self, batch):
        """Losses of a whole clip with its own speaker's condition, and lve in mm."""
        speaker = batch["speaker"].clamp_min(0)
        rest, valid = torch.zeros_like(batch["motion"][:, 0]), batch["valid"].bool()
        pred = self.net.predict(self.speech(batch), rest, self.one_hot(speaker))
        out = self._errors(pred, batch["motion"], valid)
        moved = [x.unflatten(-1, (-1, 3))[:, :, self.lip_ids] * self.unit_mm for x in (pred, batch["motion"])]
        out["lve"] = losses.masked_mean((moved[0] - moved[1]).norm(dim=-1).amax(-1), valid)
        every = mesh_losses.thinned(np.arange(len(self.lip_ids)))
        return out | {"lips_velocity": mesh_losses.velocity_distance(*moved, every, valid)}

    @torch.no_grad()
    def stream(self, features, subject, template, fps, n_frames=None, chunk=300):
        """Vertices (n, V, 3) piece by piece, in the manner of a training subject; features {name: (A, C)} at 50 Hz."""
        subjects = self.stats["subjects"]
        if subject not in subjects:
            raise MeshStyleError(f"condition {subject!r} came, there is {', '.join(subjects)}: use one of these names")
        self.eval()
        batch = {name: torch.as_tensor(np.asarray(features[name], np.float32))[None] for name in self.streams}
        length = next(iter(batch.values())).shape[1]
        n_frames = int(length / FEATURE_HZ * fps + 1e-6) if n_frames is None else n_frames
        batch["positions"] = (torch.arange(n_frames) * (FEATURE_HZ / fps))[None]
        condition = self.one_hot(torch.tensor([subjects.index(subject)]))
        flat = torch.as_tensor(np.asarray(template, np.float32)).reshape(1, -1)
        for piece in self.net.stream(self.speech(batch), flat, condition, chunk):
            yield piece[0].unflatten(-1, (-1, 3)).numpy()

    def predict(self, features, subject, template, fps, n_frames=None):
        """Vertices (T, V, 3) of a whole clip."""
        return np.concatenate(list(self.stream(features, subject, template, fps, n_frames)))
