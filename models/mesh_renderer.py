"""The renderer that needs no training: the portrait on its own fitted head.

Each visible place of the fitted head has a place in the portrait. In a new pose and expression the head is drawn anew and every
pixel takes its colour from its place in the portrait, which keeps the portrait's sharpness and, in the portrait's own pose and
expression, gives the portrait back exactly. Places the portrait does not show, and skin that unfolds (lids), come from a filled
texture; the inside of the mouth is painted. Hair, neck and background follow the head on a grid and come to rest towards the edge
of a region around it. `portrait` prepares, `retarget` turns a speaker's motion into the portrait's, `composite` draws.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from deep_3drecon import camera, rasterizer, unwrap
from deep_3drecon.face_model import load_face_model
from deep_3drecon.made_noise import smoothstep
from models import composite, portrait, retarget

CHUNK = 8  # frames whose vertices are made together; bounds memory
LIT_OPENING_DM = 0.13  # inner-lip distance at which full light reaches the teeth
# largest motion of any vertex below which the frame is the portrait itself, and above which made colour counts in full
STILL_PX, MOVED_PX = 0.02, 1.0


class MeshRenderer:
    """Frames of a talking portrait from expression and pose.

    >>> renderer = MeshRenderer()
    >>> material = renderer.prepare(image, track)          # image (H, W, 3) uint8 RGB, its FaceTrack of one frame
    >>> for frame in renderer.render(material, **motion):  # exp (T, 52), angle (T, 3), trans (T, 3) at 25 fps
    ...     writer.write(frame)
    """

    def __init__(self, model=None):
        self.model = model or load_face_model("open")

    def prepare(self, image, track, size=256, full=True):
        """Everything about one portrait that does not change from frame to frame; takes about a second.

        image: (H, W, 3) uint8 RGB. track: FaceTrack of one frame of it. size: pixels along a side of the face crop; the head
        is drawn on 2 size cells a side (256 to 768), which is what outlines and made colours are as fine as; the portrait keeps its own
        sharpness. full: frames are the whole portrait, at most 1280 pixels long; else the face crop, size x size pixels.
        """
        return portrait.prepare(image, track, self.model, size, full)

    def rest(self, exp, angle, trans):
        """What a motion (T, 52), (T, 3), (T, 3) is counted from; pass it to `render` to render parts of one motion alike."""
        return retarget.motion_rest(self.model, exp, angle, trans)

    def render(self, material, exp, angle, trans, *, relative=True, rest=None, pose_scale=1.0, threads=1):
        """Yield T frames (H, W, 3) uint8 RGB.

        exp (T, 52), angle (T, 3) rad, trans (T, 3) dm. relative: the motion belongs to another face and is carried over by the
        rules of `retarget`, counted from `rest` (default: that of this motion) and its pose scaled by pose_scale;
        else the numbers are the portrait's own and are used as they are. threads: frames drawn at a time.
        """
        exp, angle, trans = (np.asarray(x, np.float32) for x in (exp, angle, trans))
        if relative:
            rest = rest or self.rest(exp, angle, trans)
            exp = retarget.expression(self.model, material.rest, rest, exp)
            angle, trans = retarget.pose(material.angle.numpy(), material.trans.numpy(), rest, angle, trans, pose_scale)
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(exp), CHUNK):
                part = slice(start, start + CHUNK)
                yield from pool.map(
                    lambda state: self._frame(material, *state),
                    self._geometry(material, exp[part], angle[part], trans[part]),
                )

    def _geometry(self, material, exp, angle, trans):
        """[(places (V, 3), moved grid (N, N, 2), light in the mouth 0..1, share of made colour 0..1)] of some frames."""
        exp, angle, trans = (torch.from_numpy(x) for x in (exp, angle, trans))
        with torch.no_grad():
            local = material.head.vertices(torch.zeros(len(exp), 0), exp)
            posed = camera.pose(local, angle, trans)
            still = camera.pose(local, material.angle, material.trans)
            posed = still + material.follow[:, None] * (posed - still)
            place = unwrap.places(posed, material.to_work)
            grid = camera.apply_affine(camera.project(camera.pose(material.nodes, angle, trans)), material.to_work)
            grid = grid.reshape(len(exp), portrait.NODES, portrait.NODES, 2)
        opening = material.rest.openings.of(exp.numpy())[:, 0]
        light = 0.8 + 0.2 * smoothstep(0.0, LIT_OPENING_DM, opening)
        home = torch.from_numpy(material.attributes[0, :, :3])
        moved = (place[..., :2] / place[..., 2:] - home[:, :2] / home[:, 2:]).abs().amax((-1, -2)).numpy()
        made = smoothstep(STILL_PX, MOVED_PX, moved)
        return list(zip(place, grid.numpy(), light, made, strict=True))

    def _frame(self, material, place, grid, light, made):
        size = (material.grid, material.grid)
        clip = unwrap.box_clip(place, material.box, material.sink)[None].numpy()
        at, mask = rasterizer.raster_attributes(clip, material.triangles, material.attributes, size)
        layer, kinds = composite.head_layer(at[0], mask[0], material.texture, material.box, light, made)
        field = composite.surroundings(material.node_follow, material.node_pixels, grid, material.region)
        return composite.compose(
            material.work.copy(), material.canvas, material.pad, field, material.region, layer, kinds, material.box
        )
