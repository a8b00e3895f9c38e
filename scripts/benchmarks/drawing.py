"""Stages that draw: rasterizer, mesh renderer, made film. Each prepares a `Case` from the folder of shared material."""

import numpy as np
import torch

from deep_3drecon import camera, rasterizer
from deep_3drecon.face_model import load_face_model
from deep_3drecon.made_film import Actor
from deep_3drecon.made_portrait import render_portrait
from deep_3drecon.made_skin import made_look, made_skin
from models import RENDERERS, find
from scripts.benchmarks import material
from scripts.benchmarks.case import Case, Missing

SIZE = (256, 256)
N_FRAMES = 8  # of one call
DENSE_ROWS = 188  # 2 x 188 x 188 = 70,688 triangles


def open_scene(folder):
    """Clip positions (8, V, 4) of the open head in different expressions and poses, triangles (F, 3)."""
    model = load_face_model("open")
    chosen = {
        name: torch.from_numpy(value[:: len(value) // N_FRAMES][:N_FRAMES])
        for name, value in material.motion(folder).items()
    }
    with torch.no_grad():
        heads = model.vertices(torch.zeros(N_FRAMES, model.layout.sizes["id"]), chosen["exp"])
        clip = camera.clip_positions(camera.pose(heads, chosen["angle"], chosen["trans"]))
    return np.ascontiguousarray(clip.numpy(), np.float32), np.asarray(model.triangles)


def dense_scene():
    """Clip positions (8, V, 4) and triangles (F, 3) of a bumpy ball that fills three quarters of the picture."""
    along, up = np.meshgrid(np.linspace(0, 2 * np.pi, DENSE_ROWS + 1), np.linspace(-1, 1, DENSE_ROWS + 1))
    across = np.sqrt(1 - up**2)
    frames = []
    for k in range(N_FRAMES):
        radius = 1 + 0.05 * np.sin(9 * along + k) * np.cos(14 * up)
        ball = radius[..., None] * np.stack([across * np.sin(along), up, across * np.cos(along)], -1)
        w = 4 - ball[..., 2]
        frames.append(np.stack([3 * ball[..., 0], 3 * ball[..., 1], w - 2, w], -1).reshape(-1, 4))
    row, column = np.divmod(np.arange(DENSE_ROWS**2), DENSE_ROWS)
    corner = row * (DENSE_ROWS + 1) + column
    below = corner + DENSE_ROWS + 1
    triangles = np.concatenate([np.stack([corner, corner + 1, below], 1), np.stack([corner + 1, below + 1, below], 1)])
    return np.stack(frames).astype(np.float32), triangles.astype(np.int32)


def rasterize_case(clip, triangles):
    """numba against plain torch on a scene; the compiled code is loaded here."""
    rasterizer.rasterize(clip[:1, :3], np.zeros((0, 3), np.int32), (2, 2))
    tensors = torch.from_numpy(clip), torch.from_numpy(triangles)
    return Case(
        lambda: rasterizer.rasterize(clip, triangles, SIZE),
        lambda: rasterizer.rasterize(tensors[0][:2], tensors[1], SIZE, backend="torch"),
        n=len(clip),
        n_reference=2,
    )


def rasterize_open(folder):
    return rasterize_case(*open_scene(folder))


def rasterize_dense(folder):
    return rasterize_case(*dense_scene())


def rasterize_cuda(folder):
    if not torch.cuda.is_available():
        raise Missing("no CUDA device that torch can use")
    clip, triangles = open_scene(folder)
    tensors = torch.from_numpy(clip).cuda(), torch.from_numpy(triangles).cuda()
    return Case(
        lambda: rasterizer.rasterize(*tensors, SIZE, backend="torch"),
        lambda: rasterizer.rasterize(clip, triangles, SIZE),
        n=len(clip),
    )


def attributes(n_vertices):
    """(1, V, 6) float32."""
    return np.random.default_rng(0).random((1, n_vertices, 6), np.float32)


def interpolate_open(folder):
    clip, triangles = open_scene(folder)
    values, rast = attributes(clip.shape[1]), rasterizer.rasterize(clip, triangles, SIZE)
    rasterizer.interpolate(values, rast[:1, :2, :2].copy(), triangles)
    tensors = [torch.from_numpy(array) for array in (values, rast, triangles)]
    return Case(
        lambda: rasterizer.interpolate(values, rast, triangles),
        lambda: rasterizer.interpolate(*tensors, backend="torch"),
        n=len(clip),
    )


def raster_attributes_open(folder):
    clip, triangles = open_scene(folder)
    values = attributes(clip.shape[1])
    rasterizer.raster_attributes(clip[:1], triangles[:0], values, (2, 2))

    def two_passes():
        rast = rasterizer.rasterize(clip, triangles, SIZE)
        return rasterizer.interpolate(values, rast, triangles), rast[..., 3] > 0

    return Case(lambda: rasterizer.raster_attributes(clip, triangles, values, SIZE), two_passes, n=len(clip))


def forward_backward_case(clip, triangles):
    """6 attributes drawn, and a picture's gradient sent back to positions and attributes."""
    values, picture = attributes(clip.shape[1]), np.random.default_rng(2).random((len(clip), *SIZE, 6), np.float32)
    picture = torch.from_numpy(picture)

    def work(n_frames, backend):
        positions = torch.from_numpy(clip[:n_frames]).requires_grad_()
        attr = torch.from_numpy(values).requires_grad_()
        out, _ = rasterizer.raster_attributes(positions, triangles, attr, SIZE, backend=backend)
        out.backward(picture[:n_frames])

    work(1, "numba")
    return Case(lambda: work(len(clip), "numba"), lambda: work(1, "torch"), n=len(clip), n_reference=1)


def forward_backward_open(folder):
    return forward_backward_case(*open_scene(folder))


def forward_backward_dense(folder):
    return forward_backward_case(*dense_scene())


def texture_open(folder):
    """Look-ups at the head's places only, against look-ups everywhere by torch, which knows no mask."""
    clip, triangles = open_scene(folder)
    values = attributes(clip.shape[1])[..., :2].copy()
    uv, mask = rasterizer.raster_attributes(clip, triangles, values, SIZE)
    atlas = np.random.default_rng(1).random((1, 512, 512, 3), np.float32)
    rasterizer.texture(atlas, uv[:1, :2, :2].copy(), mask=mask[:1, :2, :2].copy())
    tensors = torch.from_numpy(atlas), torch.from_numpy(uv)
    return Case(
        lambda: rasterizer.texture(atlas, uv, mask=mask),
        lambda: rasterizer.texture(*tensors, backend="torch"),
        n=len(clip),
    )


def render_case(folder, full, n_frames=25):
    """The mesh renderer on a second of motion with 2 threads, and with 1."""
    renderer = find(RENDERERS, "mesh")()
    ready = renderer.prepare(*material.portrait(folder), size=256, full=full)
    whole = material.motion(folder)
    rest = renderer.rest(**whole)
    part = {name: value[50 : 50 + n_frames] for name, value in whole.items()}
    next(renderer.render(ready, **part, rest=rest))

    def draw(threads):
        for _ in renderer.render(ready, **part, rest=rest, threads=threads):
            pass

    return Case(lambda: draw(2), lambda: draw(1), n=n_frames, seconds=n_frames / 25)


def render_crop(folder):
    return render_case(folder, full=False)


def render_full(folder):
    return render_case(folder, full=True)


def made_film(folder):
    """A made person in motion, and the same by the slower way that makes single portraits."""
    model, look, n_frames = load_face_model("open"), made_look(0), 25
    part = {name: value[50 : 50 + n_frames] for name, value in material.motion(folder).items()}
    identity, atlas = np.zeros(model.layout.sizes["id"], np.float32), made_skin(model, look, 512)
    actor = Actor(model, identity, look, size=SIZE[0])
    next(iter(actor.frames(**{name: value[:1] for name, value in part.items()})))

    def draw():
        for _ in actor.frames(**part):
            pass

    def draw_portrait():
        render_portrait(model, identity, part["exp"][0], part["angle"][0], atlas, SIZE[0], look=look)

    return Case(draw, draw_portrait, n=n_frames, n_reference=1, seconds=n_frames / 25)
