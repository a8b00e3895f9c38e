"""A portrait of nobody for renderer tests: the open head drawn in plain colours, with the face track that is true of it."""

import numpy as np
import torch

from deep_3drecon import camera, rasterizer, unwrap
from deep_3drecon.face_model import load_face_model
from deep_3drecon.shading import sh_shade
from deep_3drecon.track import FaceTrack

SKIN, LIPS, WHITE, IRIS = (210, 160, 135), (190, 90, 85), (240, 240, 240), (40, 60, 30)
SIZE = 256


def draw(exp=None, angle=(0.05, 0.08, 0.0), size=SIZE, lit=True, background=(60, 110, 150)):
    """Picture (size, size, 3) uint8 and its one-frame FaceTrack; the head takes half of the height.

    lit: light from the front; else all places show their own colour.
    """
    model = load_face_model()
    exp = torch.zeros(52) if exp is None else exp
    id = torch.from_numpy(np.random.default_rng(1).normal(0, 0.5, 80).astype(np.float32))
    angle, trans = torch.tensor(angle, dtype=torch.float32), torch.tensor([0.0, 0.0, 0.3])
    posed = camera.pose(model.vertices(id, exp), angle, trans)
    scale = 0.4 * size / 224
    to_picture = torch.tensor([[scale, 0.0, size / 2 - 112 * scale], [0.0, scale, size * 0.55 - 112 * scale]])
    place = unwrap.places(posed, to_picture)

    albedo = np.tile(np.float32(SKIN), (model.n_vertices, 1))
    albedo[model.regions["lips"]] = LIPS
    for name in ("eyeball_left", "eyeball_right"):
        ids = model.regions[name]
        albedo[ids] = WHITE
        albedo[ids[model.mean[ids, 2] > 0.185]] = IRIS
    gamma = torch.zeros(27)
    gamma[[1, 10, 19]], gamma[[2, 11, 20]] = (0.12, 0.15) if lit else (0.0, 0.0)
    colour = sh_shade(torch.from_numpy(albedo), model.normals(posed), gamma).numpy()
    clip = unwrap.box_clip(place, (-0.5, -0.5, size))[None].numpy()
    drawn, mask = rasterizer.raster_attributes(clip, model.triangles, colour[None], (size, size))
    row, column = np.mgrid[:size, :size]
    behind = np.float32(background) + 20 * np.sin(row / 9)[..., None] * np.cos(column / 7)[..., None]
    picture = np.where(mask[0][..., None], drawn[0], behind).clip(0, 255).astype(np.uint8)

    landmarks = camera.apply_affine(camera.project(model.landmarks(posed)), to_picture).numpy()
    coeff = model.layout.join(id=id, exp=exp, angle=angle, trans=trans).numpy()
    track = FaceTrack(
        coeff=coeff[None],
        landmarks=landmarks[None],
        crop=camera.invert_affine(to_picture)[None].numpy(),
        valid=np.ones(1, bool),
        scores=exp.numpy()[None],
        fps=25.0,
        frame_size=(size, size),
        face_model=model.name,
        face_model_hash=model.hash,
    )
    return picture, track
