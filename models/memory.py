"""Memory of identity features (Yoo et al., CVPR 2019, as the headpose paper uses it): how did this face look in a picture like that?

Keys are what pictures look like to a frozen network, through one linear map that is trained; values are identity features of real
frames. Training writes pairs and asks for nothing; at test a composite asks, and the value of the nearest key answers.
"""

import torch
import torch.nn.functional as F
from torch import nn

SAME_FACE = 0.98  # likeness of two values above which they count as one
NEIGHBOURS = 256
MARGIN = 0.3
AGE_NOISE = 4.0


class Memory(nn.Module):
    """slots: how many pairs; n_feature: numbers of the frozen network, n_key: of a key, n_value: of an identity feature."""

    def __init__(self, slots, n_feature, n_key, n_value):
        super().__init__()
        self.query_map = nn.Linear(n_feature, n_key)
        self.register_buffer("keys", F.normalize(torch.rand(slots, n_key), dim=1))
        self.register_buffer("values", F.normalize(torch.rand(slots, n_value), dim=1))
        self.register_buffer("ages", torch.zeros(slots))
        self.register_buffer("written", torch.zeros(slots, dtype=torch.bool))

    def query(self, feature):
        """Features (B, F) -> keys (B, K) of length 1."""
        return F.normalize(self.query_map(feature), dim=1)

    def loss(self, query, value):
        """Among each query's nearest keys, the best whose value is this one is to be nearer, by a margin, than the best other.

        query (B, K), value (B, V) of length 1. Queries without neighbours of both kinds cost nothing.
        """
        near = query @ self.keys.clone().T  # `write` changes keys before anyone asks for gradients
        near, at = near.topk(min(NEIGHBOURS, len(self.keys)), 1)
        same = (self.values[at] @ value[:, :, None])[..., 0] > SAME_FACE
        best = near.masked_fill(~same, -2).amax(1)
        other = near.masked_fill(same, -2).amax(1)
        both = same.any(1) & (~same).any(1)
        return torch.where(both, F.relu(other - best + MARGIN), 0 * query.sum(1)).mean()

    @torch.no_grad()
    def write(self, query, value):
        """Remember pairs (B, K), (B, V) one after the other: the nearest key is drawn to the query if its value is this one; else
        the slot that was not asked for longest, give or take a few, is overwritten."""
        for q, v in zip(query, value, strict=True):
            nearest = int((self.keys @ q).argmax())
            self.ages += 1
            if self.values[nearest] @ v > SAME_FACE:
                self.keys[nearest] = F.normalize(self.keys[nearest] + q, dim=0)
                place = nearest
            else:
                place = int((self.ages + AGE_NOISE * (2 * torch.rand_like(self.ages) - 1)).argmax())
                self.keys[place], self.values[place] = q, v
            self.ages[place], self.written[place] = 0, True

    @torch.no_grad()
    def read(self, query):
        """Value (B, V) of the nearest key that was written."""
        likeness = (query @ self.keys.T).masked_fill(~self.written, -2)
        return self.values[likeness.argmax(1)]
