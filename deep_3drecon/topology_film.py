"""Pictures of a moving mesh without a display: matte grey, three lamps and a rim, in front of a light ground.

    film = MeshFilm(faces, template, size=800)
    frame = film.frame(vertices)            # (V, 3) -> (800, 800, 3) uint8 RGB

Drawn by our rasterizer; backend "torch" is its plain twin for machines without numba. Unlike the published scripts one renderer
serves all frames, and a frame that cannot be drawn is an error, not a blank picture.
"""

import numpy as np
import torch

from deep_3drecon import camera
from deep_3drecon.rasterizer import raster_attributes
from deep_3drecon.shading import vertex_normals
from deep_3drecon.topology import SKIN

HEIGHT_DM = 2.05  # of the head in the space of the camera, whose picture is 2.2 dm high
LAMPS = (((0.35, 0.45, 0.85), 0.62), ((-0.75, 0.15, 0.55), 0.25), ((0.0, -0.6, 0.5), 0.1))
AMBIENT = 0.16
GROUND = (238, 196)  # grey at top and bottom; not white and not even, where the invisible mark would be seen


class MeshFilm:
    """Draws one head.

    faces (F, 3); template (V, 3) in any unit; size in px; yaw, pitch in degrees turn the head; colours (V, 3) in [0, 1], default
    one grey.
    """

    def __init__(self, faces, template, size=800, yaw=0.0, pitch=0.0, colours=None, backend="numba"):
        self.faces = np.ascontiguousarray(faces, np.int32)
        self.shape, self.backend = (size, size), backend
        template = np.asarray(template, np.float32)
        self.colours = np.tile(np.array(SKIN, np.float32), (len(template), 1)) if colours is None else colours
        low, high = template.min(0), template.max(0)
        self.centre = (low + high) / 2
        # a head is shown whole: the taller of its height and its width fills the picture
        self.scale = HEIGHT_DM / float((high - low)[:2].max())
        angle = torch.tensor([np.radians(pitch), np.radians(yaw), 0.0], dtype=torch.float32)
        self.turn = camera.rotation_matrix(angle)
        rows = np.linspace(*GROUND, size).astype(np.uint8)[:, None, None]
        self.ground = np.broadcast_to(rows, (size, size, 3))
        lamps = np.array([d for d, _ in LAMPS])
        self.lamps = (lamps / np.linalg.norm(lamps, axis=1, keepdims=True)).astype(np.float32)
        self.power = np.array([p for _, p in LAMPS], np.float32)

    def frame(self, vertices):
        """(V, 3) in the template's unit -> (size, size, 3) uint8 RGB."""
        placed = torch.from_numpy((np.asarray(vertices, np.float32) - self.centre) * self.scale) @ self.turn.T
        shown = self._lit(vertex_normals(placed, self.faces).numpy())
        seen, mask = raster_attributes(
            camera.clip_positions(placed)[None].numpy(), self.faces, shown[None], self.shape, backend=self.backend
        )
        # meshes this dense look alike lit at their vertices or at every pixel, and the former is ten times faster
        return np.where(mask[0, ::-1, :, None], seen[0, ::-1].astype(np.uint8), self.ground)

    def _lit(self, normals):
        """Unit normals (V, 3) -> colours (V, 3) from 0 to 255, gamma applied."""
        light = AMBIENT + np.maximum(normals @ self.lamps.T, 0) @ self.power
        light += 0.25 * (1 - normals[:, 2].clip(0, 1)) ** 3
        return (255 * np.clip(light[:, None] * self.colours, 0, 1) ** (1 / 1.6)).astype(np.float32)
