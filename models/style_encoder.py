"""A learnt style code: what a network finds in the motion of any clip that tells how its person talks.

Beside the statistics of `models.style`, which say how far each expression goes, it may hold what these leave out: which expressions go
together, how fast, how they follow each other. It learns with the motion network that uses it, and from telling speakers apart.
"""

import hashlib

import torch
import torch.nn.functional as F
from torch import nn

MIN_FRAMES = 50  # 2 s: from shorter clips a code says more of the sentence than of the person
TEMPERATURE = 0.1
CHANGE_GAIN = 3.0  # changes from frame to frame are about this much smaller than the motion itself


class ClipEncoder(nn.Module):
    """Motion (B, T, E + P) -> codes (B, n) of unit mean square, T from some 50 on.

    Motion is z-scored expression and head pose about the clip's mean; its changes from frame to frame join it. Three strided
    convolutions see about a second, then mean and deviation over time are taken, so a code of a long clip is that of its parts.
    """

    def __init__(self, n_motion, n_code, width=96):
        super().__init__()
        sizes = [2 * n_motion, width, width, width]
        self.layers = nn.Sequential(
            *[
                layer
                for a, b in zip(sizes, sizes[1:], strict=False)
                for layer in (nn.Conv1d(a, b, 5, 2, 2), nn.GroupNorm(1, b), nn.GELU())
            ]
        )
        self.out = nn.Linear(2 * width, n_code)

    def forward(self, motion, valid):
        """motion (B, T, n), valid (B, T) bool: frames that count."""
        weight = valid.to(motion.dtype)[..., None]
        change = F.pad(motion.diff(dim=1) * weight[:, 1:] * weight[:, :-1], (0, 0, 1, 0))
        x = torch.cat([motion * weight, CHANGE_GAIN * change], -1).transpose(1, 2)
        x = self.layers(x)
        weight = F.interpolate(weight.transpose(1, 2), x.shape[-1])  # nearest
        total = weight.sum(-1).clamp_min(1)
        mean = (x * weight).sum(-1) / total
        spread = ((x - mean[..., None]).square() * weight).sum(-1).div(total).add(1e-6).sqrt()
        return F.normalize(self.out(torch.cat([mean, spread], -1)), dim=-1) * self.out.out_features**0.5

    def fingerprint(self):
        """Twelve hexadecimal digits that tell this encoder's codes from another's."""
        digest = hashlib.sha256()
        for value in self.state_dict().values():
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]


def contrast(first, second, speaker):
    """How badly codes (B, n) of one stretch of each clip find those of another among other speakers': cross entropy, nats.

    speaker (B,). Other clips of the same speaker count neither as right nor as wrong. 0 with one speaker alone.
    """
    first, second = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    same = (speaker[:, None] == speaker[None]) & ~torch.eye(len(speaker), dtype=torch.bool, device=speaker.device)
    scores = (first @ second.T / TEMPERATURE).masked_fill(same, -torch.inf)
    right = torch.arange(len(scores), device=scores.device)
    return 0.5 * (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right))
