"""style_avatar: Wu et al., "Imitating Arbitrary Talking Style for Realistic Audio-Driven Talking Face Synthesis".

Audio features and a style code measured on any clip -> expression coefficients and head pose, 25 frames a second. The
network is one-dimensional residual convolution over time; the style code joins half way. Two presets:

paper   32 frames at once from 80 audio rows (32 frames + 4 on each side, at 50 Hz), strided down to a latent of 10
        steps and stretched back to 32. 9,211,904 parameters for 29 + 1 audio channels, a style of 135 numbers and 64
        coefficients. Plain mean squared error on the coefficients; windows are faded into each other.
tiny    ours, the default: the same blocks, but one stride only, from 50 Hz to 25 fps, so that every latent step
        belongs to one frame and sees half a second to each side. Any length at once; a clip cut in pieces agrees
        exactly with the whole.

How style enters `tiny`. The network says where between this speaker's extremes the face is; the style says where those
lie:

    expression = style.mean_exp + style.std_exp * network(audio, style)

Amplitude then follows the style of people who were never trained on, instead of being looked up among the few who
were. The network is still given the whole code, because a speaker's rest is not at their mean, and is trained on
styles made livelier and calmer at random (`augment.scale_expression`).
"""

import numpy as np
import torch
from torch import nn

from deep_3drecon.face_model import load_face_model
from deep_3drecon.track import FPS
from models import augment, losses, metrics, windows
from models.amplitude import POSE, measure
from models.blinks import add_blinks, generate_blinks
from models.presets import preset_dims
from models.streams import Streams
from models.style import STYLE_PARTS, Style
from models.style_encoder import MIN_FRAMES, ClipEncoder, contrast
from models.style_fusion import PAPER_CONTEXT, PAPER_STRIDE, PAPER_WINDOW, PRESETS, StyleFusionNet

MIN_STD = 0.01  # of a coefficient: ones that never moved in the corpus are not blown up
MIN_SPREAD = 0.1  # share of the corpus's deviation that every style is granted
LEARNT_DROP = 0.2  # share of training windows that are not told the learnt code
MAX_STYLE = 4.0  # deviations; a style further out is treated like one there


class StyleAvatar(nn.Module):
    """Audio and a clip's style to expression and head pose.

    settings  {"preset": name of PRESETS, "dims": {number of the preset: other value}, "pose": bool, "augment": {...}};
              the fields of configs.ModelConfig and configs.AugmentConfig. `augment` matters in training only.
    stats     stats.json of the training split, as a dict
    face      FaceModel of the coefficients; None loads the one that stats names
    """

    phases = ("motion",)

    def __init__(self, settings, stats, face=None):
        super().__init__()
        self.settings, self.stats = settings, stats
        dims = preset_dims(PRESETS, settings["preset"], settings.get("dims", {}))
        self.face = load_face_model(stats["face_model"]) if face is None else face
        self.relative = settings["preset"] == "tiny"
        self.streams = tuple(dims["stems"])
        self.style_parts = STYLE_PARTS if self.relative else STYLE_PARTS[:3]
        sizes = stats["style"]["parts"]
        n_exp = len(stats["exp"]["mean"])
        heads = {"expression": n_exp} | ({"pose": POSE} if settings.get("pose", True) else {})
        self.normalised = Streams(self.streams, stats["features"])
        streams = {name: (self.normalised.sizes[name], stem) for name, stem in dims.pop("stems").items()}
        n_learnt = dims.pop("learnt_style", 0)
        self.net = StyleFusionNet(streams, sum(sizes[p] for p in self.style_parts) + n_learnt, heads, **dims)
        self.encoder = ClipEncoder(n_exp + POSE, n_learnt) if n_learnt else None
        self.context_frames = self.net.radius if self.relative else PAPER_CONTEXT
        self.window_frames = None if self.relative else PAPER_WINDOW
        self._register_statistics(stats)
        self.register_buffer("pose_power", torch.ones(POSE))  # running mean square of the predicted pose, z-scored
        names = list(self.face.expression_names)
        self.blink_columns = [names.index(n) for n in ("eyeBlinkLeft", "eyeBlinkRight") if n in names]
        self.mouth_columns = (augment.expression_groups(names) == 0).numpy()
        # mm up of the upper inner lip over the lower, for one of each expression
        self.opening = losses.lip_gauge(self.face)["exp"][:, 1].mean(0).numpy()
        self._geometry = None

    def _register_statistics(self, stats):
        """Means and deviations as buffers that move with the module; they come from the checkpoint's JSON, not its weights."""

        def buffer(name, values):
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32), persistent=False)

        buffer("exp_mean", stats["exp"]["mean"])
        buffer("exp_std", np.maximum(stats["exp"]["std"], MIN_STD))
        buffer("pose_std", np.maximum(stats["pose"]["std"], 1e-4))
        buffer("style_mean", stats["style"]["mean"])
        buffer("style_std", np.maximum(stats["style"]["std"], 1e-4))

    @property
    def mean_style(self):
        """Style of the average training clip."""
        return Style.from_vector(
            self.stats["style"]["mean"], self.stats["style"]["parts"], source="corpus mean", face_model=self.face.name
        )

    def geometry(self):
        """What the losses need of the face model; made at first use, because inference does without."""
        device = self.exp_std.device
        if self._geometry is None or self._geometry["face"].device != device:
            self._geometry = {name: x.to(device) for name, x in losses.face_geometry(self.face).items()}
        return self._geometry

    def split_style(self, style):
        """Raw style vectors (B, S) -> {part: (B, n)}."""
        return dict(
            zip(STYLE_PARTS, style.split([self.stats["style"]["parts"][p] for p in STYLE_PARTS], -1), strict=True)
        )

    def style_code(self, parts):
        """What the network is told of the style: z-scored parts (B, n) joined; in `tiny`, far outliers are held."""
        mean, std = self.split_style(self.style_mean), self.split_style(self.style_std)
        found = [(parts[p] - mean[p]) / std[p] for p in self.style_parts]
        if self.relative:
            found = [x.clamp(-MAX_STYLE, MAX_STYLE) for x in found]
        if self.encoder is not None:  # 0: not told, as in a part of the training
            none = found[0].new_zeros(len(found[0]), self.encoder.out.out_features)
            found.append(parts.get("learnt", none))
        return torch.cat(found, -1)

    def learnt_code(self, exp, angle, trans, valid):
        """Code (B, n) that the clip encoder finds in a motion (B, T, E), (B, T, 3), (B, T, 3); valid (B, T) bool."""
        exp = (exp - self.exp_mean) / self.exp_std
        pose = losses.centred(torch.cat([angle, trans], -1) / self.pose_std, valid)
        motion = torch.cat([exp, pose], -1).masked_fill(~valid[..., None], 0.0)
        return self.encoder(motion, valid)

    @torch.no_grad()
    def measured_style(self, track, source=""):
        """Style of a clip's FaceTrack: its statistics and blinks, and the learnt code where this method has an encoder."""
        style = Style.from_statistics(track, source, blink_columns=self.blink_columns)
        if self.encoder is not None and len(track) >= MIN_FRAMES:
            parts = {name: torch.as_tensor(track.parts()[name]).float()[None] for name in ("exp", "angle", "trans")}
            parts = {name: x.to(self.exp_std.device) for name, x in parts.items()}
            valid = torch.from_numpy(track.valid)[None].to(self.exp_std.device)
            style.learnt = self.learnt_code(**parts, valid=valid)[0].cpu().numpy()
            style.learnt_by = self.encoder.fingerprint()
        return style

    def style_tensors(self, style):
        """{part: (1, n)} of a Style on this method's device, with its learnt code if this method's encoder made it."""
        parts = dict(style.parts)
        if self.encoder is not None and style.learnt is not None and style.learnt_by == self.encoder.fingerprint():
            parts["learnt"] = style.learnt
        return {name: torch.as_tensor(v, device=self.exp_std.device)[None] for name, v in parts.items()}

    def forward(self, features, style_parts, code=None):
        """Motion of audio features (B, 2 (T + 2 context), C) in the style given by raw parts {name: (B, n)}.

        Returns {"exp": (B, T, E) coefficients, "pose": (B, T, 6) z-scored, not yet of the style's amplitude}; no
        "pose" without a pose head. code: replaces the network's view of the style (training disturbs it).
        """
        code = self.style_code(style_parts) if code is None else code
        out = self.net({name: features[name].transpose(1, 2) for name in self.streams}, code)
        out = {name: x.transpose(1, 2) for name, x in out.items()}
        if self.relative:
            out = {name: x[:, self.context_frames : x.shape[1] - self.context_frames] for name, x in out.items()}
            # A coefficient that hardly moved in the style clip may still move a little.
            spread = (style_parts["std_exp"] ** 2 + (MIN_SPREAD * self.exp_std) ** 2).sqrt()
            exp = style_parts["mean_exp"][:, None] + spread[:, None] * out["expression"]
        else:
            exp = out["expression"]
        return {"exp": exp} | ({"pose": out["pose"]} if "pose" in out else {})

    def losses(self, batch, phase="motion"):
        """Losses of a batch (keys: data_process.schema.BATCH) by name, without weights. In training mode it is disturbed.

        paper   expression: mean squared error of the raw coefficients
        tiny    expression, expression_change: squared error, z-scored, of coefficients and their change a frame;
                face, lips, lips_change: vertex distance in mm of the whole face, of the lips, of the lips' change;
                lip_opening: difference of the inner-lip opening in mm
        both    pose, pose_change: squared error, z-scored, about the window's mean (with a pose head)
        with learnt_style  style_contrast: how badly the code of another stretch of the clip tells its speaker, nats
        """
        parts = self.split_style(batch["style"])
        exp, valid = batch["exp"], batch["valid"].bool()
        features = {name: batch[name] for name in self.streams}
        if self.encoder is not None and "style_exp" in batch:
            parts["learnt"] = self._code_of_others(batch)
        contrasts = {}
        if self.training:
            if "learnt" in parts:
                own = self.learnt_code(exp, batch["angle"], batch["trans"], valid)
                contrasts["style_contrast"] = contrast(parts["learnt"], own, batch["speaker"])
            calm = parts["std_exp"]
            exp, parts, features = self._disturb(exp, parts, features)
            if "learnt" in parts and self.relative:  # the same person, as much livelier
                gain = parts["std_exp"] / calm.clamp_min(1e-6)
                parts["learnt"] = self._code_of_others(batch, parts["mean_exp"], gain)
            code = self._disturbed_code(parts)
        else:
            features, code = self.normalised(features), None
        return self._losses(self(features, parts, code), exp, batch, valid) | contrasts

    def _code_of_others(self, batch, mean=0.0, gain=None):
        """Learnt code (B, n) of the stretches that came for it. mean, gain (B, E): made livelier about the mean.

        They are never the windows themselves, whose code could tell the very motion that is wanted.
        """
        exp = batch["style_exp"]
        if gain is not None:
            exp = mean[:, None] + gain[:, None] * (exp - mean[:, None])
        return self.learnt_code(exp, batch["style_angle"], batch["style_trans"], batch["style_valid"].bool())

    def _losses(self, motion, exp, batch, valid):
        out = self._expression_losses(motion["exp"], exp, batch["id"], valid)
        if "pose" in motion:
            out |= self._pose_losses(motion["pose"], torch.cat([batch["angle"], batch["trans"]], -1), valid)
        return out

    def _expression_losses(self, pred, true, identity, valid):
        if not self.relative:
            return {"expression": losses.squared_error(pred, true, valid)}
        return losses.expression_losses(pred, true, identity, valid, self.exp_std, self.geometry())

    def _pose_losses(self, pred, true, valid):
        # Where the head was at the start of a window cannot be heard, only how it moves.
        pred, true = losses.centred(pred, valid), losses.centred(true / self.pose_std, valid)
        if self.training:
            power = torch.stack([losses.masked_mean(x, valid) for x in pred.detach().square().unbind(-1)])
            self.pose_power.lerp_(losses.over_processes(power), 0.01)
        both = losses.change_valid(valid)
        return {
            "pose": losses.squared_error(pred, true, valid),
            "pose_change": losses.squared_error(losses.change(pred), losses.change(true), both),
        }

    def _disturb(self, exp, parts, features):
        """Training only: exp, style parts and z-scored features, with noise."""
        how = self.settings.get("augment", {})
        if self.relative and how.get("style_gain", 1) > 1:
            groups = augment.expression_groups(self.face.expression_names).to(exp.device)
            scaled = augment.scale_expression(
                exp, parts["mean_exp"], parts["std_exp"], parts["std_exp_change"], groups, how["style_gain"]
            )
            exp, parts = scaled[0], parts | {"std_exp": scaled[1], "std_exp_change": scaled[2]}
        features = self.normalised(augment.other_loudness(features, how.get("gain_db", 0)))
        return exp, parts, augment.disturb_sound(features, how)

    def _disturbed_code(self, parts):
        """Training only: the network's view of the style, with noise, or nothing."""
        how = self.settings.get("augment", {})
        code = self.style_code(parts)
        code = code + how.get("style_noise", 0) * torch.randn_like(code)
        keep = torch.rand(len(code), 1, device=code.device) >= how.get("style_drop", 0)
        code = code * keep
        if "learnt" in parts:  # a style may come without it
            told = torch.rand(len(code), 1, device=code.device) >= LEARNT_DROP
            n = self.encoder.out.out_features
            code = torch.cat([code[:, :-n], code[:, -n:] * told], -1)
        return code

    @torch.no_grad()
    def _whole_clip(self, features, parts, n_frames, chunk=500):
        """`forward` over a clip of any length: raw features {name: (A, C)}, style parts {name: (1, n)} -> {name: (T, n)}."""

        def network(piece):
            n = len(next(iter(piece.values())))
            return self(self.normalised(piece), {name: v.expand(n, -1) for name, v in parts.items()})

        was_training = self.training
        self.eval()
        if self.relative:
            motion = windows.in_chunks(network, features, n_frames, self.context_frames, chunk)
        else:
            motion = windows.in_windows(network, features, n_frames, self.context_frames, PAPER_WINDOW, PAPER_STRIDE)
        self.train(was_training)
        return motion

    @torch.no_grad()
    def evaluate(self, batch):
        """Losses of one whole clip (a batch of 1) in its own style, and lip_correlation of generated and true opening."""
        n_frames, valid = batch["exp"].shape[1], batch["valid"].bool()
        edge = windows.ROWS_PER_FRAME * self.context_frames
        features = {name: batch[name][0, edge : edge + windows.ROWS_PER_FRAME * n_frames] for name in self.streams}
        parts = self.split_style(batch["style"])
        if self.encoder is not None:
            parts["learnt"] = self.learnt_code(batch["exp"], batch["angle"], batch["trans"], valid)
        motion = {n: x[None] for n, x in self._whole_clip(features, parts, n_frames).items()}
        out = self._losses(motion, batch["exp"], batch, valid)
        opening = [losses.lip_opening(self.geometry(), batch["id"], x)[valid] for x in (motion["exp"], batch["exp"])]
        score = torch.tensor(metrics.correlation(*(x.cpu() for x in opening)))
        return out | {"lip_correlation": score.nan_to_num()}

    @torch.no_grad()
    def raw_motion(self, features, style, n_frames=None, chunk=500):
        """What the network says of a clip, of no style's amplitude yet: arrays {"exp": (T, E), "pose": (T, 6) z-scored}.

        Arguments as in `generate`; no "pose" without a pose head.
        """
        rows = {
            name: torch.as_tensor(np.asarray(features[name]), dtype=torch.float32, device=self.exp_std.device)
            for name in self.streams
        }
        n_frames = n_frames or len(rows[self.streams[0]]) // windows.ROWS_PER_FRAME
        motion = self._whole_clip(rows, self.style_tensors(style), n_frames, chunk)
        return {name: x.cpu().numpy() for name, x in motion.items()}

    def amplitude(self, raw, style):
        """`models.amplitude.Amplitude` of a style, measured on `raw_motion` in it."""
        spread = (style.parts[name] for name in ("std_exp", "std_pose", "std_pose_change"))
        usual = self.pose_power.sqrt().cpu().numpy()
        return measure(raw["exp"], raw.get("pose"), *spread, usual, self.opening, self.mouth_columns)

    def finish(self, exp, pose, closure=None):
        """Motion of expressions (T, E) and pose (T, 6) or None that have their amplitude; closure (T,) of the lids by blinks."""
        if closure is not None and self.blink_columns:
            exp[:, self.blink_columns] = add_blinks(exp[:, self.blink_columns], closure)
        if self.face.name == "open":
            exp = exp.clip(0, 1)
        pose = np.zeros((len(exp), POSE), np.float32) if pose is None else pose
        return {"exp": exp, "angle": pose[:, :3], "trans": pose[:, 3:]}

    def generate(self, features, style, n_frames=None, seed=0, blinks=True, articulate=True, chunk=500, amplitude=None):
        """Motion of one clip.

        features    {stream: (A, C)} arrays or tensors at 50 Hz
        style       Style of the same face model
        n_frames    T; None: as long as the features
        seed        of the blinks
        articulate  stretch the mouth's movement to the style's; without, it is the least-squares answer
        chunk       frames at a time (tiny); memory grows with it, results do not change
        amplitude   of `amplitude`, measured on other sound; None: measured on this clip

        Returns float32 arrays {"exp": (T, E) coefficients, ARKit ones within [0, 1], "angle": (T, 3) radians and
        "trans": (T, 3) dm about the head's rest}. Without a pose head the pose is zero.
        """
        raw = self.raw_motion(features, style, n_frames, chunk)
        amplitude = amplitude or self.amplitude(raw, style)
        exp = amplitude.expression(raw["exp"]) if articulate else raw["exp"]
        pose = amplitude.pose(raw["pose"]) if "pose" in raw else None
        return self.finish(exp, pose, generate_blinks(len(exp), FPS, style.blinks, seed) if blinks else None)

    def onnx_examples(self):
        """How `net` is called, for `models.onnx_backend`: examples of its arguments, and the axes whose length may change."""
        n_rows = windows.ROWS_PER_FRAME * ((self.window_frames or 16) + 2 * self.context_frames)
        batch = {0: "batch"} if self.window_frames else {0: "batch", 2: "rows"}
        streams = {name: torch.zeros(2, size, n_rows) for name, size in self.normalised.sizes.items()}
        style = torch.zeros(2, self.net.style_mlp[0].in_features)
        return (streams, style), {name: batch for name in self.streams} | {"argument1": {0: "batch"}}
