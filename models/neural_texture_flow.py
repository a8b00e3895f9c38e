"""What the flow of the neural_texture renderer is taught by: the picture it should give, and a flow that was measured."""

import cv2
import numpy as np
import torch

from models.composite import to_picture
from models.neural_texture_networks import warp

MOST_PX = 12.0  # longer flows are mistakes of the measure, or cannot be followed
TEXTURE = 25.0  # sum of gradients, levels a pixel, from which a measured flow counts in full
SURE_PX = 3.0  # miss beyond which more of it costs no more


def flow_losses(flow, background, real):
    """{warp, flow, smooth} of flow (B, 2, S/4, S/4) for composites and real pictures (B, 3, S, S) in [0, 1].

    warp: how far the moved composite is from the real picture; flow: pixels between the flow and the one measured between both, where
    there is texture; smooth: change of flow from cell to cell, pixels.
    """
    measured, weight = measured_flow(background, real, flow.shape[-1])
    miss = (flow - measured).abs().sum(1, True).clamp_max(SURE_PX)
    down, across = flow.diff(dim=2).abs().mean(), flow.diff(dim=3).abs().mean()
    return {
        "warp": (warp(background, flow) - real).abs().mean(),
        "flow": (miss * weight).sum() / (weight.sum() + 1),
        "smooth": down + across,
    }


@torch.no_grad()
def measured_flow(background, real, cells):
    """(flow (B, 2, cells, cells) as `Warper` gives it, weight (B, 1, cells, cells) 0..1), by cv2's dense inverse search."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows, weights = [], []
    for pair in zip(real, background, strict=True):
        grey = [cv2.cvtColor(to_picture(x), cv2.COLOR_RGB2GRAY) for x in pair]
        found = search.calc(*grey, None)
        gradient = sum(np.abs(cv2.Sobel(grey[0], cv2.CV_32F, *d)) for d in ((1, 0), (0, 1)))
        weight = np.minimum(cv2.blur(gradient, (9, 9)) / TEXTURE, 1) * (np.abs(found).max(-1) < MOST_PX)
        small = [
            cv2.resize(x, (cells, cells), interpolation=cv2.INTER_AREA) for x in (found, weight.astype(np.float32))
        ]
        flows.append(torch.from_numpy(small[0]).permute(2, 0, 1))
        weights.append(torch.from_numpy(small[1])[None])
    return torch.stack(flows).to(real.device), torch.stack(weights).to(real.device)
