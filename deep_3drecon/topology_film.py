"""Pictures of a moving mesh without a display: matte grey, three lamps and a rim, in front of a light ground.

    film = MeshFilm(show(topology), template, size=800)
    frame = film.frame(vertices)            # (V, 3) -> (800, 800, 3) uint8 RGB

Drawn by our rasterizer; backend "torch" is its plain twin for machines without numba. Unlike the published scripts one renderer
serves all frames, and a frame that cannot be drawn is an error, not a blank picture.
"""

import cv2
import numpy as np
import torch

from deep_3drecon import camera
from deep_3drecon.rasterizer import raster_attributes
from deep_3drecon.shading import vertex_normals

HEIGHT_DM = 2.05  # of the head in the space of the camera, whose picture is 2.2 dm high
LAMPS = (((0.35, 0.45, 0.85), 0.62), ((-0.75, 0.15, 0.55), 0.25), ((0.0, -0.6, 0.5), 0.1))
AMBIENT = 0.16
GLINT, GLINT_WIDTH = 0.5, 60  # of wet vertices: light of the first lamp that comes straight back, and how narrowly
GROUND = (238, 196)  # grey at top and bottom; not white and not even, where the invisible mark would be seen
FINER = 2  # drawn so many times as fine and averaged, for outlines without stairs


class MeshFilm:
    """Draws one head.

    shown: `topology_shown.Shown`; template (V, 3) in any unit; size in px; yaw, pitch in degrees turn the head.
    """

    def __init__(self, shown, template, size=800, yaw=0.0, pitch=0.0, backend="numba"):
        self.shown, self.size, self.backend = shown, size, backend
        rest = shown.vertices(template)
        low, high = rest.min(0), rest.max(0)
        self.centre = (low + high) / 2
        # a head is shown whole: the taller of its height and its width fills the picture
        self.scale = HEIGHT_DM / float((high - low)[:2].max())
        angle = torch.tensor([np.radians(pitch), np.radians(yaw), 0.0], dtype=torch.float32)
        self.turn = camera.rotation_matrix(angle)
        rows = np.linspace(*GROUND, size).astype(np.float32)[:, None, None]
        self.ground = np.broadcast_to(rows, (size, size, 3))
        lamps = np.array([d for d, _ in LAMPS])
        self.lamps = (lamps / np.linalg.norm(lamps, axis=1, keepdims=True)).astype(np.float32)
        self.power = np.array([p for _, p in LAMPS], np.float32)

    def frame(self, vertices):
        """(V, 3) in the template's unit -> (size, size, 3) uint8 RGB."""
        placed = torch.from_numpy((np.asarray(vertices, np.float32) - self.centre) * self.scale) @ self.turn.T
        normals = self.shown.vertices(vertex_normals(placed, self.shown.mesh_faces))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)
        # colours times opacity, so that averages of pixels are right where the head ends
        lit = (
            np.concatenate([self._lit(normals), np.ones((len(normals), 1), np.float32)], 1)
            * self.shown.opacity[:, None]
        )
        corners = camera.clip_positions(torch.from_numpy(self.shown.vertices(placed)))[None].numpy()
        fine = (FINER * self.size, FINER * self.size)
        # meshes this dense look alike lit at their vertices or at every pixel, and the former is ten times faster
        seen, _ = raster_attributes(corners, self.shown.faces, lit[None], fine, backend=self.backend)
        seen = cv2.resize(seen[0, ::-1], (self.size, self.size), interpolation=cv2.INTER_AREA)
        return (seen[..., :3] + (1 - seen[..., 3:]) * self.ground + 0.5).astype(np.uint8)

    def _lit(self, normals):
        """Unit normals (N, 3) -> colours (N, 3) from 0 to 255, gamma applied."""
        light = AMBIENT + np.maximum(normals @ self.lamps.T, 0) @ self.power
        light += 0.25 * (1 - normals[:, 2].clip(0, 1)) ** 3
        halfway = self.lamps[0] + [0, 0, 1]
        glint = self.shown.gloss * GLINT * (normals @ (halfway / np.linalg.norm(halfway))).clip(0) ** GLINT_WIDTH
        return (255 * np.clip(light[:, None] * self.shown.colours + glint[:, None], 0, 1) ** (1 / 1.6)).astype(
            np.float32
        )
