"""Features of sound as networks take them: z-scored by the statistics of the training split."""

import numpy as np
import torch
from torch import nn

# Some phones are so rare that their deviation is tiny: one spurious posterior must not become 30 deviations.
LEAST_STD, LEAST_STD_OF = 1e-3, {"phonemes": 0.1}


class Streams(nn.Module):
    """Raw features {name: (B, A, C)} -> z-scored ones of the named streams, in their order.

    stats: {name: {"mean": (C,), "std": (C,)}}. These are buffers that move with the module; they come from a checkpoint's JSON, not from
    its weights.
    """

    def __init__(self, names, stats):
        super().__init__()
        self.sizes = {name: len(stats[name]["mean"]) for name in names}
        for name in names:
            std = np.maximum(stats[name]["std"], LEAST_STD_OF.get(name, LEAST_STD))
            for what, values in (("mean", stats[name]["mean"]), ("std", std)):
                values = torch.as_tensor(np.asarray(values), dtype=torch.float32)
                self.register_buffer(f"{name}_{what}", values, persistent=False)

    def forward(self, features, prefix=""):
        """prefix: in front of the names in `features`."""
        return {
            name: (features[prefix + name] - getattr(self, f"{name}_mean")) / getattr(self, f"{name}_std")
            for name in self.sizes
        }
