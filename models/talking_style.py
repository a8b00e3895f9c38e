"""talking_style: speech and a manner of talking -> a moving mesh. After Song et al., TVCG 2024, whose code takes one-hot speakers.

Ours promises what that paper's abstract does: the manner comes from 4 to 20 s of anyone's animation, or animation and sound.

    method = checkpoint.load("data/runs/mesh/best")
    style = method.style_of(motion, fps, features)          # MeshStyle; also .identity(name), .fit(...), MeshStyle.blend
    for frames in method.stream(features, style, template, fps=30):   # (n, V, 3), any length in bounded memory

The network works on 50 Hz rows of sound with convolutions over time and gives coefficients of a basis of the mesh at 50 Hz, which
are read off at the times of the frames: any frame rate, no frame stretched, and a clip cut in pieces equals the whole. Motion is

    rest(style) + spread(style) * network(sound, style)

so that amplitude follows people who were never trained on. `paper` networks: `models.talking_style_paper`.
"""

import hashlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models import augment, losses, metrics
from models import talking_style_losses as mesh_losses
from models.presets import preset_dims
from models.streams import Streams
from models.talking_style_codes import MeshStyle, MeshStyleError
from models.talking_style_networks import CODE, PRESETS, MotionNet, StyleEncoder
from models.windows import at_positions

FEATURE_HZ, STYLE_HZ = 50, 25
FEWEST_FRAMES = 10  # of a style sample
RATE_OF_TABLE, RATE_OF_PIVOT = 0.2, 0.05


class TalkingStyle(nn.Module):
    """settings: {"preset": name of PRESETS, "dims": {...}, "augment": {...}}; stats: `data_process.meshes_dataset` about()."""

    phases = ("motion",)
    data_kind = "meshes"
    face = None

    def __init__(self, settings, stats, face=None):
        super().__init__()
        self.settings, self.stats = settings, stats
        self.dims = preset_dims(PRESETS, settings["preset"], settings.get("dims", {}))
        self.streams = tuple(stats["features"])
        self.normalised = Streams(self.streams, stats["features"])
        n_sound = sum(self.normalised.sizes.values())
        n_basis = stats["basis_size"]
        self.n_basis, self.n_style = n_basis, CODE + 2 * n_basis
        width, style_width = self.dims["width"], self.dims["style_width"]
        self.net = MotionNet(n_sound, self.n_style, n_basis, width, self.dims["depth"], style_width)
        if self.dims["encoder"]:
            self.encoder = StyleEncoder(n_basis, n_sound, style_width)
            self.project = nn.Linear(self.n_style, CODE)
        # row 0 is the pivot, the manner of nobody in particular; then one row a training subject
        self.table = nn.Parameter(torch.zeros(1 + len(stats["subjects"]), self.n_style))
        self.unit_mm = float(stats["unit_mm"])
        self.register_buffer("basis", torch.full((n_basis, stats["n_vertices"], 3), torch.nan))
        self._constant("motion_mean", stats["motion"]["mean"])
        # a coefficient that hardly moved must not become a giant in deviations
        std = np.asarray(stats["motion"]["std"])
        self._constant("motion_std", np.maximum(std, max(0.03 * std.max(), 1e-6)))
        self.lip_ids, self.face_ids = (
            mesh_losses.thinned(self._region("lips")),
            mesh_losses.thinned(self._region("face")),
        )
        self.pairs = None if stats["aperture"] is None else torch.tensor(stats["aperture"])

    def _constant(self, name, values):
        self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=torch.float32), persistent=False)

    def _region(self, name):
        regions = self.stats["regions"]
        return np.asarray(regions[name]) if name in regions else np.arange(self.stats["n_vertices"])

    def begin(self, train_set):
        """Take the basis from the data; it then belongs to the weights."""
        self.basis.copy_(torch.from_numpy(train_set.basis))

    @property
    def basis_hash(self):
        """Twelve digits that name the basis, so that styles of another network are refused."""
        return hashlib.sha256(self.basis.cpu().numpy().tobytes()).hexdigest()[:12]

    @property
    def context_frames(self):
        """Frames of 25 fps of sound that training windows bring on each side."""
        return -(-self.net.radius // (FEATURE_HZ // STYLE_HZ))

    @property
    def context_rows(self):
        """Rows of sound an output row sees to each side."""
        return self.net.radius

    def sound(self, features, prefix=""):
        """Raw features {name: (B, A, C)} -> z-scored and joined (B, A, sum of C)."""
        return torch.cat(list(self.normalised(features, prefix).values()), -1)

    def forward(self, sound, vector):
        """z-scored sound (B, A, C), style vector (B, D) -> z-scored motion at 50 Hz (B, A, K)."""
        _, rest, spread = self.split(vector)
        out = self.net(sound.transpose(1, 2), vector).transpose(1, 2)
        return rest[:, None] + spread.clamp(-4, 2).exp()[:, None] * out

    def split(self, vector):
        """Style vector (B, D) -> code, rest, log spread."""
        return vector.split([CODE, self.n_basis, self.n_basis], -1)

    def encode(self, motion, sound, valid, present):
        """Style vector of a z-scored sample; the pivot where the network has no encoder."""
        if not self.dims["encoder"]:
            return self.table[:1].expand(len(motion), -1)
        return self.encoder(motion, sound, valid, present)

    def losses(self, batch, phase="motion"):
        """coefficients, velocity: in deviations; face, lips, lips_velocity, opening, closed: vertices in mm; contrast: no unit."""
        batch = self._prepared(batch)
        sampled = self.encode(batch["style_motion"], batch["style_sound"], batch["style_valid"], batch["present"])
        vector = self._with_identities(sampled, batch) if self.training else sampled
        pred = at_positions(self(batch["sound"], vector), batch["positions"])
        out = self.motion_losses(pred, batch["motion"], batch) | {"contrast": pred.new_zeros(())}
        if self.dims["encoder"] and len(pred) > 1:
            other = self.encode(batch["style2_motion"], batch["style2_sound"], batch["style2_valid"], batch["present2"])
            pair = [functional.normalize(self.project(x), dim=-1) for x in (sampled, other)]
            out["contrast"] = mesh_losses.contrast(*pair)
        return out

    def motion_losses(self, pred, true, batch):
        """Losses of z-scored coefficients (B, T, K)."""
        valid, both = batch["valid"], losses.change_valid(batch["valid"])
        out = {
            "coefficients": losses.squared_error(pred, true, valid),
            "velocity": losses.squared_error(losses.change(pred), losses.change(true), both),
        }
        for name, ids in (("face", self.face_ids), ("lips", self.lip_ids)):
            moved = [self.displacement(x, ids) for x in (pred, true)]
            every = torch.arange(len(ids))
            out[name] = mesh_losses.vertex_distance(*moved, every, valid)
            if name == "lips":
                out["lips_velocity"] = mesh_losses.velocity_distance(*moved, every, valid)
        # where nobody has said which vertices lie across the lips (BIWI), the opening cannot be weighed
        out |= dict.fromkeys(("opening", "closed"), pred.new_zeros(()))
        if self.pairs is not None:
            openings = [self.opening(x, batch["rest_gap"]) for x in (pred, true)]
            out["opening"] = losses.absolute_error(*openings, valid)
            out["closed"] = mesh_losses.closed_lips(*openings, valid)
        return out

    def displacement(self, motion, ids):
        """z-scored coefficients (B, T, K) -> displacements (B, T, n, 3) in mm of some vertices."""
        raw = motion * self.motion_std + self.motion_mean
        return torch.einsum("btk,kvc->btvc", raw, self.basis[:, ids]) * self.unit_mm

    def opening(self, motion, rest_gap):
        """Lip opening (B, T) in mm; rest_gap (B, P, 3) in the unit."""
        moved = self.displacement(motion, self.pairs.T.flatten())
        local = torch.arange(2 * len(self.pairs)).view(2, -1).T
        return mesh_losses.opening(moved, rest_gap * self.unit_mm, local)

    def _prepared(self, batch):
        """z-scored copies of what the losses need; in training mode people are made livelier, calmer and lopsided at random."""
        motion, n = {}, len(batch["positions"])
        for name in ("motion", "style_motion", "style2_motion"):
            motion[name] = (batch[name] - self.motion_mean) / self.motion_std
        out = dict(batch) | motion | {"sound": self.sound(batch), "valid": batch["valid"].bool()}
        for prefix in ("style", "style2"):
            out[f"{prefix}_sound"] = self.sound(batch, f"{prefix}_")
            out[f"{prefix}_valid"] = batch[f"{prefix}_valid"].bool()
        device = out["sound"].device
        out["present"] = out["present2"] = torch.ones(n, device=device)
        if not self.training:
            return out
        how = self.settings.get("augment", {})
        out["by_table"] = torch.rand(n, device=device) < (RATE_OF_TABLE if self.dims["table"] else 0)
        out["by_pivot"] = ~out["by_table"] & (torch.rand(n, device=device) < RATE_OF_PIVOT)
        plain = out["by_table"] | out["by_pivot"]
        if how.get("style_gain", 1) > 1 and self.dims["encoder"]:
            changed = augment.random_person(n, self.n_basis, how["style_gain"], device)
            for name in motion:
                out[name] = torch.where(plain[:, None, None], out[name], out[name] * changed[0] + changed[1])
        sound = out["sound"] + how.get("feature_noise", 0) * torch.randn_like(out["sound"])
        keep = torch.rand(*sound.shape[:2], 1, device=device) >= how.get("feature_drop", 0)
        out["sound"] = sound * keep
        for name in ("present", "present2"):
            out[name] = (torch.rand(n, device=device) < 0.5).float()
        return out

    def _with_identities(self, sampled, batch):
        """Some entries take their speaker's row of the table, some the pivot, instead of what the encoder says."""
        rows = torch.where(batch["by_table"], batch["speaker"] + 1, 0)
        told = (batch["by_table"] | batch["by_pivot"])[:, None]
        return torch.where(told, self.table[rows], sampled)

    @torch.no_grad()
    def evaluate(self, batch):
        """Losses of a whole clip in the manner of a sample of its person; lve in mm, correlation of the lip opening."""
        batch = self._prepared(batch)
        vector = self.encode(batch["style_motion"], batch["style_sound"], batch["style_valid"], batch["present"])
        pred = at_positions(self(batch["sound"], vector), batch["positions"])
        out = self.motion_losses(pred, batch["motion"], batch) | {"contrast": pred.new_zeros(())}
        moved = [self.displacement(x, self.lip_ids) for x in (pred, batch["motion"])]
        out["lve"] = losses.masked_mean((moved[0] - moved[1]).norm(dim=-1).amax(-1), batch["valid"])
        if self.pairs is not None:
            openings = [self.opening(x, batch["rest_gap"])[0].cpu().numpy() for x in (pred, batch["motion"])]
            out["lip_correlation"] = torch.tensor(metrics.correlation(*openings)).nan_to_num()
        return out

    # What follows takes and gives arrays of one clip.

    def coefficients_of(self, vertices, template):
        """Coefficients (T, K) of the basis nearest to vertices (T, V, 3) of a person with template (V, 3), least squares."""
        flat = self.basis.reshape(self.n_basis, -1).double().cpu().numpy()
        moved = (np.asarray(vertices, np.float32) - np.asarray(template, np.float32)).reshape(len(vertices), -1)
        gram = flat @ flat.T
        # expressions of a head may repeat each other: a little weight keeps the answer small
        gram += 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
        return np.linalg.solve(gram, flat @ moved.T).T.astype(np.float32)

    @torch.no_grad()
    def style_of(self, motion, fps, features=None, source=""):
        """MeshStyle of a sample: coefficients (T, K) at any fps, 4 to 20 s; features {name: (A, C)} of its sound, if known."""
        return self._style(self._encoded(*self._sample(motion, fps, features)), "sample", source)

    def _encoded(self, motion, sound, valid, present):
        return self.eval().encode(motion, sound, valid, present)[0]

    def _sample(self, motion, fps, features):
        """One sample as the encoder takes it: z-scored, at 25 frames a second."""
        motion = torch.as_tensor(np.asarray(motion, np.float32), device=self.basis.device)
        if motion.ndim != 2 or motion.shape[1] != self.n_basis or len(motion) < FEWEST_FRAMES:
            raise MeshStyleError(
                f"a sample {tuple(motion.shape)} came, 4 to 20 s of {self.n_basis} coefficients are meant, {FEWEST_FRAMES} frames "
                "at least"
            )
        places = torch.arange(int((len(motion) - 1) * STYLE_HZ / fps + 1e-6) + 1) * (fps / STYLE_HZ)
        motion = at_positions((motion[None] - self.motion_mean) / self.motion_std, places[None])
        n = motion.shape[1]
        sound = motion.new_zeros(1, n, sum(self.normalised.sizes.values()))
        if features is not None:
            rows = torch.arange(n)[None] * (FEATURE_HZ / STYLE_HZ)
            sound = at_positions(self.sound(self._batched(features)), rows)
        present = motion.new_full((1,), float(features is not None))
        return motion, sound, torch.ones(1, n, dtype=torch.bool, device=motion.device), present

    def _batched(self, features):
        missing = [name for name in self.streams if name not in features]
        if missing:
            raise MeshStyleError(f"sound without {missing} came, this network was trained on {', '.join(self.streams)}")
        return {
            n: torch.as_tensor(np.asarray(features[n], np.float32), device=self.basis.device)[None]
            for n in self.streams
        }

    def _style(self, vector, origin, source):
        return MeshStyle(vector.detach().cpu().numpy(), origin, source, self.basis_hash)

    def identity(self, subject):
        """MeshStyle of a person of the training set, out of the table; None: the pivot."""
        subjects = self.stats["subjects"]
        if subject is None:
            return self._style(self.table[0], "pivot", "pivot")
        if subject not in subjects:
            raise MeshStyleError(f"no training subject {subject!r}, there is {', '.join(subjects)}")
        return self._style(self.table[1 + subjects.index(subject)], "identity", subject)

    def fit(self, motion, fps, features, steps=60, rate=0.03, source=""):
        """MeshStyle fitted to a few seconds of motion with sound, from what the encoder says on; only the style changes."""
        start = torch.as_tensor(self.style_of(motion, fps, features).vector, device=self.basis.device)
        true = (
            torch.as_tensor(np.asarray(motion, np.float32), device=start.device) - self.motion_mean
        ) / self.motion_std
        places = torch.arange(len(true))[None] * (FEATURE_HZ / fps)
        with torch.no_grad():
            sound = self.sound(self._batched(features))
        vector = start.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([vector], lr=rate)
        for _ in range(steps):
            pred = at_positions(self(sound, vector[None]), places)
            loss = (pred - true).square().mean() + (losses.change(pred) - losses.change(true[None])).square().mean()
            loss = loss + 0.002 * (vector - start).square().sum() / len(vector)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.zero_grad(set_to_none=True)
        return self._style(vector, "fit", source)

    def _vector(self, style):
        if len(style.vector) != self.n_style or style.basis not in ("", self.basis_hash):
            raise MeshStyleError(f"{style.source}: a style of another network: make it with this checkpoint")
        return torch.as_tensor(style.vector, device=self.basis.device)[None]

    @torch.no_grad()
    def coefficients(self, features, style, fps, n_frames=None, chunk=500):
        """Motion of any length: features {name: (A, C)} at 50 Hz -> pieces (n, K) of at most `chunk` frames, float32.

        n_frames: default what the sound lasts. Memory does not grow with the clip; pieces equal the whole.
        """
        self.eval()
        rows, vector = self._batched(features), self._vector(style)
        length = next(iter(rows.values())).shape[1]
        n_frames = int(length / FEATURE_HZ * fps + 1e-6) if n_frames is None else n_frames
        for start in range(0, n_frames, chunk):
            places = torch.arange(start, min(start + chunk, n_frames)) * (FEATURE_HZ / fps)
            first, last = int(places[0]), int(places[-1]) + 1
            index = torch.arange(first - self.context_rows, last + 1 + self.context_rows).clamp(0, length - 1)
            out = self(self.sound({name: x[:, index] for name, x in rows.items()}), vector)
            motion = at_positions(out[:, self.context_rows :], places[None] - first)[0]
            yield (motion * self.motion_std + self.motion_mean).cpu().numpy()

    @torch.no_grad()
    def stream(self, features, style, template, fps, n_frames=None, chunk=500):
        """Vertices (n, V, 3) in the unit of `template` (V, 3), piece by piece."""
        flat = self.basis.reshape(self.n_basis, -1).cpu().numpy()
        for motion in self.coefficients(features, style, fps, n_frames, chunk):
            yield np.asarray(template, np.float32) + (motion @ flat).reshape(len(motion), -1, 3)

    def predict(self, features, style, template, fps, n_frames=None):
        """Vertices (T, V, 3) of a whole clip."""
        return np.concatenate(list(self.stream(features, style, template, fps, n_frames)))
