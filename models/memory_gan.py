"""memory_gan: the headpose paper's photo stage (Yi et al., 2020): three composites and a remembered identity feature -> the frame.

The composite is the shaded head over its background, as the paper's; the generator says for each pixel a new colour and how much of
the composite stays. Presets:

paper  the paper's sizes: 259 million parameters of the generator, 30,000 pairs in memory, ArcFace features (the user's file)
small  ours: under 20 million, one linear map for each norm, no memory, nothing random at test
tiny   for tests

dims.slots: pairs in memory; with 0 one learnt vector takes the feature's place. dims.levels takes the first levels of the U-Net, for
pictures of less than 256 px. Ours goes without a memory because none was found to help: configs/renderer_memory_gan.yaml has the figures.
"""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from deep_3drecon.face_model import load_face_model
from models.composite import to_picture
from models.judges import JUDGES
from models.memory import Memory
from models.memory_gan_networks import COLOURS, FRAMES, PAPER_WIDTHS, SMALL_WIDTHS, MemoryGenerator, PatchDiscriminator
from models.presets import check_preset
from models.stage import Stage

# preset -> widths of the generator, paper's perceptron, pairs, numbers of a key, judge whose embedding is the identity and its length
PRESETS = {
    "paper": (PAPER_WIDTHS, True, 30_000, 512, "arcface", 512),
    "small": (SMALL_WIDTHS, False, 0, 128, "efficient_frechet", 1280),
    "tiny": ((8, 8, 16, 16), False, 16, 16, "efficient_frechet", 1280),
}
KEY_FEATURES = 1280  # of EfficientNet-Lite0 on a composite; the paper's ResNet-18 is no part of any small wheel
EVERY = 25  # frames made at a time: the memory is asked for the first and the last of them; in between, identities run evenly


@dataclass
class Past:
    """What the frames drawn so far leave for those that follow: the last composites (up to 2, 3, S, S) and identity (1, I)."""

    composites: torch.Tensor | None = None
    identity: torch.Tensor | None = None


class MemoryGan(nn.Module):
    """Renderer. settings: preset, dims {"slots"}; stats: `about()` of data_process.pictures.PictureWindows, windows of three frames."""

    data_kind = "pictures"
    not_released = ("discriminator.",)
    window_frames = FRAMES
    group = EVERY  # frames made at a time; a motion cut at multiples of it gives the same pictures

    def __init__(self, settings, stats, face=None):
        super().__init__()
        check_preset(PRESETS, settings["preset"])
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
        picture = attention * frames[:, -COLOURS:] + (1 - attention) * colour
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
        picture, attention = self(frames, feature)
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
        """Composites (B, 9, S, S), real last frames (B, 3, S, S), key features (B, F), true identities (B, I) of a batch; without a
        memory, nothing and the learnt identity in place of the latter two."""
        device = next(self.generator.parameters()).device
        composite = self.stage.composites(batch)
        laid = blend(composite).unflatten(0, (-1, FRAMES)).flatten(1, 2).to(device)
        real = batch["pictures"][:, -1]
        pictures, real = real.permute(0, 2, 3, 1).cpu().numpy(), real.to(device).float() / 255
        if self.memory is None:
            return laid, real, None, self.identity.expand(len(laid), -1)
        feature = self.eyes.identity(pictures, batch["points"][:, -1].cpu().numpy()).to(device)
        return laid, real, self.eyes.key(laid[:, -COLOURS:]).to(device), feature

    @torch.no_grad()
    def remembered(self, composites):
        """Identities (B, I) for composites (B, 3, S, S): what the memory answers, or the learnt one."""
        if self.memory is None:
            return self.identity.expand(len(composites), -1)
        return self.memory.read(self.memory.query(self.eyes.key(composites)))

    @torch.no_grad()
    def render(self, compositor, sources, id, exp, angle, trans, gamma, affine, past=None):
        """Yield (picture (S, S, 3) uint8 RGB, new (S, S) float32 0..1, mask (S, S) of the head) of each frame.

        sources: iterable of `composite.Source`, one a frame; coefficients (T, n), affine (T, 2, 3). 25 frames are made at a time.
        past: `Past` of the frames before, brought up to date while these are drawn: a stream passes the same one in every call.
        """
        state = [torch.as_tensor(x) for x in (id, exp, angle, trans, gamma, affine)]
        sources, past, start = iter(sources), past or Past(), 0
        device = next(self.generator.parameters()).device
        while block := list(itertools.islice(sources, EVERY)):
            composite = compositor.make(block, *(x[start : start + len(block)] for x in state))
            start += len(block)
            drawn = self.draw(blend(composite).to(device), past)
            for (picture, kept), mask in zip(drawn, composite.mask, strict=True):
                yield to_picture(picture), 1 - kept[0].cpu().numpy(), mask[0].numpy()

    @torch.no_grad()
    def draw(self, composites, past=None, identity=None):
        """Yield (picture (3, S, S) in [0, 1], share of the composite that stays (1, S, S)) of consecutive composites (T, 3, S, S).

        The memory is asked for the first and the last of every 25, unless the identities (T, I) are given. past: as in `render`.
        """
        past = past or Past()
        for start in range(0, len(composites), EVERY):
            block = composites[start : start + EVERY]
            before = block[:1] if past.composites is None else past.composites
            frames = torch.cat([before[:1].expand(FRAMES - 1 - len(before), -1, -1, -1), before, block])
            felt = self._identities(block, past) if identity is None else identity[start : start + EVERY]
            past.composites = frames[1 - FRAMES :]
            for k in range(len(block)):
                picture, kept = self(frames[k : k + FRAMES].flatten(0, 1)[None], felt[k : k + 1])
                yield picture[0], kept[0]

    def _identities(self, block, past):
        """(T, I) of consecutive composites, even between the last one before them, or the first of them, and the last of them."""
        asked = self.remembered(block[[0, -1]])
        first = asked[:1] if past.identity is None else past.identity
        past.identity = asked[1:]
        return first + torch.linspace(0, 1, len(block), device=first.device)[:, None] * (past.identity - first)

    @torch.no_grad()
    def evaluate(self, batch):
        """Losses that need no other network, and dB of face and mouth: of the picture, and of the composite it began with."""
        frames, real, _, _ = self._frames(batch)
        picture, attention = self(frames, self.remembered(frames[:, -COLOURS:]))
        zero = picture.new_zeros(())
        found = {"adversarial": zero, "discriminator": zero, "memory": zero, "roughness": zero}
        found |= {"l1": 2 * (picture - real).abs().mean(), "attention": attention.mean()}
        for name, ids in (("face", slice(0, 68)), ("mouth", slice(48, 68))):
            points = batch["points"][:, -1, ids]
            for kind, x in (("", picture), ("composite_", frames[:, -COLOURS:])):
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
