"""The composite: everything about one frame that a renderer starts from, drawn at the size of its crop.

    compositor = Compositor(model, texture, size=256)      # texture: deep_3drecon.atlas.PersonTexture
    source = compositor.source(picture, id, exp, angle, trans, affine)
    composite = compositor.make([source], id, exp, angle, trans, gamma, affine)

A *source* is a frame of the person, or a portrait. In a new pose and expression each place of the head takes its colour from
where the source shows it, hair and background follow on a grid and come to rest at the crop's rim; what the source does not show
comes from the person's texture. In its own pose and expression a source is given back bit by bit. `composite_passes` draws.

The crop is a square of `size` pixels; affine (2, 3) takes canonical pixels (see `camera`) of a frame to pixels of the crop. Source
and frame use the same crop.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from deep_3drecon import camera, rasterizer, unwrap
from deep_3drecon.made_noise import smoothstep
from deep_3drecon.mouth_atlas import LAYERS, SETTLED, inner_parts
from models import composite_passes, mouth, own_head, portrait
from models.composite_passes import compose, head_layer, surroundings
from models.stance import TORSO, head_places

__all__ = ["Composite", "Compositor", "Source", "compose", "head_layer", "surroundings", "to_picture"]

# largest motion of any vertex below which the composite is the source itself, and above which made colour counts in full
STILL_PX, MOVED_PX = 0.02, 1.0
CELLS = 128  # in which nearness to the head is measured, see `portrait.surroundings_grid`


@dataclass
class Composite:
    """B frames at crop size S. RGB in [0, 1], float32 tensors.

    background (B, 3, S, S): the source moved; mesh (B, 3, S, S): the textured head under its light, 0 where there is none;
    mask (B, 1, S, S): 1 where the head is drawn; uv (B, S, S, 2): place in the atlas in [0, 1], v up; normals (B, 3, S, S): of the posed
    head, in camera axes; mouth (B, 1, S, S): 1 on lips and what lies between them; places (B, 2, stance.N_STANCE):
    where head and torso of the frame, and of its source, lie.
    """

    background: torch.Tensor
    mesh: torch.Tensor
    mask: torch.Tensor
    uv: torch.Tensor
    normals: torch.Tensor
    mouth: torch.Tensor
    places: torch.Tensor | None = None

    def to(self, device):
        """The same on a device."""
        return Composite(**{name: x if x is None else x.to(device) for name, x in vars(self).items()})


def to_picture(x):
    """(3, S, S) in [0, 1] -> (S, S, 3) uint8."""
    return (x.permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).contiguous().cpu().numpy()


@dataclass
class Source:
    """A frame made ready to be moved; read only. See `portrait.Material`, whose names these are."""

    picture: np.ndarray
    canvas: np.ndarray
    pad: int
    place: np.ndarray
    seen: np.ndarray
    triangles: np.ndarray
    nodes: torch.Tensor
    node_follow: np.ndarray
    node_pixels: np.ndarray
    angle: torch.Tensor
    trans: torch.Tensor
    affine: torch.Tensor
    places: torch.Tensor


class Compositor:
    """Composites of one person: face model, what is known of the person's colours (`atlas.PersonTexture`), and, where places of the torso
    are wanted, `stance.Torso`."""

    def __init__(self, model, texture, size=256, torso=None):
        self.model, self.size, self.torso = model, size, torso
        self.region = (-0.5, -0.5, float(size))
        self.colour = np.ascontiguousarray(texture.colour, np.float32)
        self.shift, self.sink = torch.zeros(model.n_vertices, 3), mouth.sink(model)
        for name, by in SETTLED.items():
            self.shift[model.regions[name]] = torch.tensor(by)
        self.follow = torch.from_numpy(own_head.follow(model))
        self.layers = _layers(texture.mouth)
        self.fixed = self._fixed_attributes(texture.mouth is not None)

    def _fixed_attributes(self, has_mouth):
        """(V, 7) float32: uv, inside of the mouth, lips and inside, place on the mean head (2), mouth layer (1: upper, 2: lower)."""
        model, inside, region, layer = self.model, *(np.zeros((self.model.n_vertices, 1), np.float32) for _ in range(3))
        for ids in inner_parts(model).values():
            inside[ids] = 1
        for name in ("lips", "mouth_inside", *SETTLED):
            region[model.regions[name]] = 1
        if has_mouth:
            for k, parts in enumerate(LAYERS.values()):
                for name in parts:
                    layer[model.regions[name]] = k + 1
        return np.concatenate([model.uv, inside, region, model.mean[:, :2].numpy(), layer], 1).astype(np.float32)

    def vertices(self, id, exp):
        """Unposed vertices (B, V, 3) with teeth and tongue where they show."""
        return self.model.vertices(id, exp) + self.shift

    # geometry needs every digit, also where a network about it computes in bf16
    @torch.autocast("cpu", enabled=False)
    def source(self, picture, id, exp, angle, trans, affine):
        """A picture (S, S, 3) uint8 RGB in the crop and its coefficients (n,) as `Source`; takes some 20 ms."""
        if picture.shape != (self.size, self.size, 3) or picture.dtype != np.uint8:
            raise ValueError(f"{picture.dtype} {picture.shape} came: uint8 {(self.size, self.size, 3)} is needed")
        id, exp, angle, trans, affine = (torch.as_tensor(x).float() for x in (id, exp, angle, trans, affine))
        model, extent = self.model, picture.shape[1::-1]
        posed = camera.pose(self.vertices(id, exp), angle, trans)
        place, cosine = unwrap.places(posed, affine), unwrap.facing(model, posed)
        box = unwrap.bounding_box(place, 0.02)
        depths = unwrap.depth_picture(place, model.triangles, box)
        flat = (place[:, :2] / place[:, 2:]).numpy()
        seen = unwrap.seen(flat, place[:, 2].numpy(), cosine, depths, box, extent) & (cosine > 0.15)
        triangles = portrait.drawn_triangles(model, place, cosine, self.follow.numpy(), extent)
        nodes, node_follow, node_pixels = portrait.surroundings_grid(
            place, self.follow, triangles, self.region, affine, angle, trans, CELLS
        )
        pad, torso = self.size // 8, self.torso and self.torso.shift(picture)[None]
        return Source(
            picture=picture,
            canvas=cv2.copyMakeBorder(picture, pad, pad, pad, pad, cv2.BORDER_REFLECT_101),
            pad=pad,
            place=place.numpy(),
            seen=seen[:, None].astype(np.float32),
            triangles=triangles,
            nodes=nodes,
            node_follow=node_follow,
            node_pixels=node_pixels,
            angle=angle,
            trans=trans,
            affine=affine,
            places=self.places(angle[None], trans[None], affine[None], torso)[0],
        )

    def places(self, angle, trans, affine, torso=None):
        """(B, N_STANCE) of frames: angle, trans (B, 3), affine (B, 2, 3), torso (B, 2) or None where it is not known."""
        unknown = torch.full((len(angle), TORSO), torch.nan)
        torso = unknown if torso is None else torch.as_tensor(torso)
        return torch.cat([head_places(angle, trans, affine, self.size), torso], 1)

    def faded(self, first, second, share, *state, **square):
        """`make` from two lists of sources: the background is that of `first` going over into that of `second` by `share` (B,)."""
        composite = self.make(first, *state, **square)
        other = self.make(second, *state, **square)
        share = torch.as_tensor(share, dtype=torch.float32)[:, None, None]
        background = composite.background + share[..., None] * (other.background - composite.background)
        places = composite.places + share * (other.places - composite.places)
        return replace(composite, background=background, places=places)

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def make(self, sources, id, exp, angle, trans, gamma, affine, corners=None, side=None, threads=1, torso=None):
        """`Composite` of B frames: a source and coefficients (B, n), light gamma (B, 27) and affine (B, 2, 3) of each.

        corners, side: only squares of `side` pixels are drawn, [(row, column)] being the first pixel of each frame's. torso (B, 2): where
        it lies (`stance.Torso.shift`), where film tells.
        """
        id, exp, angle, trans, gamma, affine = (
            torch.as_tensor(x).float() for x in (id, exp, angle, trans, gamma, affine)
        )
        side, corners = side or self.size, corners or [(0, 0)] * len(sources)
        local = self.vertices(id, exp)
        posed = camera.pose(local, angle, trans)
        normals = self.model.normals(posed).numpy()
        place = unwrap.places(posed, affine)
        planes = np.empty((len(sources), 11, side, side), np.float32)
        uv = np.empty((len(sources), side, side, 2), np.float32)
        states = []
        for k, source in enumerate(sources):
            still = unwrap.places(camera.pose(local[k], source.angle, source.trans), source.affine)
            here = still + self.follow[:, None] * (place[k] - still)
            grid = camera.apply_affine(camera.project(camera.pose(source.nodes, angle[k], trans[k])), affine[k])
            states.append((source, here, normals[k], grid.numpy(), gamma[k].numpy(), corners[k], planes[k], uv[k]))
        if threads == 1:
            for state in states:
                self._draw(*state)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda state: self._draw(*state), states))
        planes = torch.from_numpy(planes)
        background, mesh, mask, mouth, normals = planes.split([3, 3, 1, 1, 3], 1)
        places = torch.stack([self.places(angle, trans, affine, torso), torch.stack([s.places for s in sources])], 1)
        return Composite(background, mesh, mask, torch.from_numpy(uv), normals, mouth, places)

    def _draw(self, source, place, normals, grid, gamma, corner, planes, uv):
        """One frame's planes (11, s, s) (background, mesh, mask, mouth, normals) and uv (s, s, 2)."""
        (top, left), side = corner, planes.shape[-1]
        box = (left - 0.5, top - 0.5, float(side))
        attributes = np.concatenate([source.place, source.seen, normals, self.fixed], 1)[None]
        clip = unwrap.box_clip(place, box, self.sink)[None].numpy()
        at, mask = rasterizer.raster_attributes(clip, source.triangles, attributes, (side, side))
        home = torch.from_numpy(source.place)
        moved = float((place[:, :2] / place[:, 2:] - home[:, :2] / home[:, 2:]).abs().max())
        made = float(smoothstep(STILL_PX, MOVED_PX, moved))
        layer = composite_passes.paint_head(at[0], mask[0], self.colour, self.layers, gamma, made, corner, planes, uv)
        grid = grid.reshape(*source.node_pixels.shape)
        field = surroundings(source.node_follow, source.node_pixels, grid, self.region)
        picture = compose(
            source.picture.copy(),
            source.canvas,
            source.pad,
            field,
            self.region,
            layer,
            composite_passes.cell_kinds(layer),
            box,
            (top, top + side, left, left + side),
        )
        composite_passes.lay_picture(picture, top, left, planes)


def _layers(parts):
    """Pictures of the mouth's layers as (colour (h, w, 3) float32, origin (2,) float32), twice; one black pixel without."""
    if parts is None:
        return ((np.zeros((2, 2, 3), np.float32), np.zeros(2, np.float32)),) * 2
    return tuple(
        (np.ascontiguousarray(layer.colour, np.float32), np.asarray(layer.origin, np.float32))
        for layer in (parts.layers[name] for name in LAYERS)
    )
