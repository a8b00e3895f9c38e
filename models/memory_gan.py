"""memory_gan: the headpose paper's photo stage (Yi et al., 2020): three composites and a remembered identity feature -> the frame.

The composite is the shaded head over its background, as the paper's; the generator says for each pixel a new colour and how much of
the composite stays. Presets:

paper  the paper's sizes: 259 million parameters of the generator, 30,000 pairs in memory, ArcFace features (the user's file)
small  ours: under 20 million, one linear map for each norm, 512 pairs, features that pip carries; nothing random at test
tiny   for tests

dims.slots 0 leaves the memory out: one learnt vector takes the feature's place, which is the ablation. dims.levels takes the first levels
of the U-Net, for pictures of less than 256 px.
"""

import itertools

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from deep_3drecon.face_model import load_face_model
from models.judges import JUDGES
from models.memory import Memory
from models.memory_gan_networks import FRAMES, PAPER_WIDTHS, SMALL_WIDTHS, MemoryGenerator, PatchDiscriminator
from models.neural_texture import Stage

# preset -> widths of the generator, paper's perceptron, pairs, numbers of a key, judge whose embedding is the identity and its length
PRESETS = {
    "paper": (PAPER_WIDTHS, True, 30_000, 512, "arcface", 512),
    "small": (SMALL_WIDTHS, False, 512, 128, "efficient_frechet", 1280),
    "tiny": ((8, 8, 16, 16), False, 16, 16, "efficient_frechet", 1280),
}
KEY_FEATURES = 1280  # of EfficientNet-Lite0 on a composite; the paper's ResNet-18 is no part of any small wheel
EVERY = 25  # frames between questions to the memory; in between, features run evenly


class MemoryGan(nn.Module):
    """Renderer. settings: preset, dims {"slots"}; stats: `about()` of data_process.pictures.PictureWindows, windows of three frames."""

    data_kind = "pictures"
    not_released = ("discriminator.",)
    window_frames = FRAMES

    def __init__(self, settings, stats, face=None):
        super().__init__()
        widths, perceptron, slots, n_key, judge, n_identity = PRESETS[settings["preset"]]
        dims = settings.get("dims", {})
        slots, widths = dims.get("slots", slots), widths[: dims.get("levels", len(widths))]
        self.settings, self.stats = settings, stats
        self.face = face or load_face_model(stats["face_model"])
        if stats["size"] % 2 ** len(widths):
            raise ValueError(
                f"pictures of {stats['size']} px came, multiples of {2 ** len(widths)} are needed: set data.picture_size"
            )
        self.generator = MemoryGenerator(widths, n_identity, perceptron)
        self.discriminator = PatchDiscriminator(width=min(64, 2 * widths[0]))
        self.memory = Memory(slots, KEY_FEATURES, n_key, n_identity) if slots else None
        self.identity = None if slots else nn.Parameter(F.normalize(torch.randn(1, n_identity), dim=1))
        self.phases = ("generator", "discriminator", *(["memory"] if slots else []))
        self.stage, self._made = None, (None,)
        self.eyes = Eyes(judge)

    def attach(self, train_set):
        """What training needs and no checkpoint holds: composites of the set's people."""
        self.stage = Stage(train_set.people, self.stats["size"])

    def parameters_of(self, phase):
        if phase == "discriminator":
            return list(self.discriminator.parameters())
        if phase == "memory":
            return list(self.memory.parameters())
        return [*self.generator.parameters(), *([] if self.identity is None else [self.identity])]

    def forward(self, frames, identity):
        """Composites (B, 9, S, S) in [0, 1] and identity (B, I) -> picture (B, 3, S, S) in [0, 1], share of the composite that stays."""
        frames = 2 * frames - 1
        colour, attention = self.generator(frames, identity)
        picture = attention * frames[:, -3:] + (1 - attention) * colour
        return (picture + 1) / 2, attention

    def losses(self, batch, phase):
        """{name: scalar}. generator: adversarial, l1, attention (mean share of the composite that stays), roughness of it (sum of
        absolute differences); discriminator: discriminator; memory: memory. Values are those of the paper for [-1, 1]."""
        if phase == "generator" or self._made[0] is not batch:
            self._made = (batch, *self._frames(batch))
        _, frames, real, key, feature = self._made
        if phase == "memory":
            query = self.memory.query(key)
            loss = self.memory.loss(query, feature)
            self.memory.write(query.detach(), feature)
            return {"memory": loss}
        conditions = 2 * frames - 1
        if phase == "discriminator":
            scores = [self.discriminator(torch.cat([conditions, 2 * x - 1], 1)) for x in (real, self._picture)]
            wanted = (torch.ones_like(scores[0]), torch.zeros_like(scores[1]))
            parts = [F.binary_cross_entropy_with_logits(s, w) for s, w in zip(scores, wanted, strict=True)]
            return {"discriminator": sum(parts) / 2}
        picture, attention = self(frames, feature if self.memory is not None else self.identity.expand(len(frames), -1))
        self._picture = picture.detach()
        score = self.discriminator(torch.cat([conditions, 2 * picture - 1], 1))
        rough = attention.diff(dim=2).abs().sum() + attention.diff(dim=3).abs().sum()
        return {
            "adversarial": F.binary_cross_entropy_with_logits(score, torch.ones_like(score)),
            "l1": 2 * (picture - real).abs().mean(),
            "attention": attention.mean(),
            "roughness": rough / len(attention),
        } | ({"memory": rough * 0} if self.memory is None else {})

    def _frames(self, batch):
        """Composites (B, 9, S, S), real last frames (B, 3, S, S), key features (B, F), true identities (B, I) of a batch."""
        device = next(self.generator.parameters()).device
        composite = self.stage.composites(batch)
        laid = blend(composite).unflatten(0, (-1, FRAMES)).flatten(1, 2).to(device)
        real = batch["pictures"][:, -1]
        pictures = real.permute(0, 2, 3, 1).cpu().numpy()
        feature = self.eyes.identity(pictures, batch["points"][:, -1].cpu().numpy()).to(device)
        return laid, real.to(device).float() / 255, self.eyes.key(laid[:, -3:]).to(device), feature

    @torch.no_grad()
    def remembered(self, key):
        """Identities (T, I) for key features (T, F) of consecutive frames: asked every 25th frame and at the end, even in between."""
        if self.memory is None:
            return self.identity.expand(len(key), -1)
        at = sorted({*range(0, len(key), EVERY), len(key) - 1})
        values = self.memory.read(self.memory.query(key[at])).cpu().numpy()
        even = [np.interp(np.arange(len(key)), at, column) for column in values.T]
        return torch.from_numpy(np.stack(even, 1).astype(np.float32)).to(key.device)

    @torch.no_grad()
    def render(self, compositor, sources, id, exp, angle, trans, gamma, affine, person=None):
        """Yield (picture (S, S, 3) uint8 RGB, new (S, S) float32 0..1, mask (S, S) of the head) of each frame.

        sources: iterable of `composite.Source`, one a frame; coefficients (T, n), affine (T, 2, 3). 25 frames are made at a time.
        """
        state = [torch.as_tensor(x) for x in (id, exp, angle, trans, gamma, affine)]
        sources, before, feature, start = iter(sources), None, None, 0
        while block := list(itertools.islice(sources, EVERY)):
            part = slice(start, start + len(block))
            composite = compositor.make(block, *(x[part] for x in state))
            laid = blend(composite)
            # the question of this block's first frame and of its last one
            key = self.eyes.key(laid[[0, -1]])
            asked = self.remembered(key)
            first = asked[:1] if feature is None else feature
            step = torch.linspace(0, 1, len(block))[:, None]
            feature = asked[1:]
            for k in range(len(block)):
                past = [laid[max(k - d, 0)] if k >= d or before is None else before[k - d] for d in (2, 1, 0)]
                picture, kept = self(torch.cat(past)[None], first + step[k] * (feature - first))
                yield to_picture(picture[0]), 1 - kept[0, 0].numpy(), composite.mask[k, 0].numpy()
            before, start = laid[-2:], start + len(block)

    @torch.no_grad()
    def evaluate(self, batch):
        """Losses that need no other network, and dB of face and mouth: of the picture, and of the composite it began with."""
        frames, real, key, _ = self._frames(batch)
        picture, attention = self(frames, self.remembered(key))
        zero = picture.new_zeros(())
        found = {"adversarial": zero, "discriminator": zero, "memory": zero, "roughness": zero}
        found |= {"l1": 2 * (picture - real).abs().mean(), "attention": attention.mean()}
        for name, ids in (("face", slice(0, 68)), ("mouth", slice(48, 68))):
            points = batch["points"][:, -1, ids]
            for kind, x in (("", picture), ("composite_", frames[:, -3:])):
                found[f"{kind}{name}_db"] = torch.stack(
                    [box_db(*each) for each in zip(x, real, points, strict=True)]
                ).mean()
        return found


def box_db(picture, real, points):
    """dB between pictures (3, S, S) in the box about points (K, 2) px."""
    (left, top), (right, bottom) = points.amin(0).floor().int().clamp_min(0), points.amax(0).ceil().int() + 1
    error = (picture - real)[:, top:bottom, left:right].square().mean()
    return -10 * error.clamp_min(1e-10).log10()


def blend(composite):
    """The shaded head over its background, (B, 3, S, S)."""
    return composite.background + composite.mask * (composite.mesh - composite.background)


def to_picture(x):
    """(3, S, S) in [0, 1] -> (S, S, 3) uint8."""
    return (x.permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


class Eyes:
    """The frozen networks: one looks at composites for keys, one at real faces for identities. Copies of a model share them."""

    def __init__(self, judge):
        self.keys = JUDGES["efficient_frechet"]()
        self.faces = self.keys if judge == "efficient_frechet" else JUDGES[judge]()

    def __deepcopy__(self, memo):
        return self

    def key(self, pictures):
        """Features (B, 1280) of pictures (B, 3, S, S) in [0, 1]."""
        frames = np.stack([to_picture(p) for p in pictures])
        return torch.from_numpy(self.keys.embed(frames)).to(pictures.device)

    def identity(self, frames, points):
        """Identity features of length 1, (B, I), of frames (B, S, S, 3) uint8 with landmarks (B, 68, 2) px.

        EfficientNet, which knows no people, is shown the box of the landmarks and its own mean is taken off."""
        if self.faces is not self.keys:
            found = np.nan_to_num(self.faces.embed(frames, points))
        else:
            found = self.faces.embed(np.stack([face_box(f, p) for f, p in zip(frames, points, strict=True)]))
            found = found - found.mean(1, keepdims=True)
        return F.normalize(torch.from_numpy(found).float(), dim=1)


def face_box(frame, points, size=224):
    """The square about the landmarks of a frame, (size, size, 3) uint8."""
    low, high = points.min(0), points.max(0)
    side = 1.2 * float((high - low).max())
    scale = size / side
    shift = size / 2 - scale * (low + high) / 2
    affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(frame, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
