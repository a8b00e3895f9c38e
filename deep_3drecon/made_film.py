"""Films of made people: the open head with its made skin, hair, shirt and backdrop, every picture with its regions.

    actor = Actor(load_face_model(), identity, made_look(7), size=256)
    for picture, regions in actor.film(exp, angle, trans):
        ...

The look is that of `made_portrait`, which takes its time; here all that does not change from picture to picture is made once for
a person (atlas, strands, how much of the sky each place sees) or once for a stage (shirt, backdrop, shadows of the lamp for nine
turns of the head), light is computed at the vertices, and pixels only mix. Two by two samples to a pixel.
"""

import copy
import functools
from dataclasses import replace

import cv2
import numpy as np
import torch

from deep_3drecon import camera
from deep_3drecon import made_film_kernels as kernels
from deep_3drecon.made_body import hold_neck
from deep_3drecon.made_hair import hair_shells, scalp_triangles, strands
from deep_3drecon.made_noise import smoothstep
from deep_3drecon.made_portrait import backdrop, creases, film, shade
from deep_3drecon.made_scene import (
    KIND,
    OIL,
    TEETH_SEE,
    TOOTH,
    WET,
    Scene,
    clip_in_picture,
    lamp_directions,
    seen_from,
    seen_sky,
    unit,
)
from deep_3drecon.made_skin import Texels, linear, made_skin, to_srgb
from deep_3drecon.made_stage import usual_stage
from deep_3drecon.rasterizer import raster_attributes, rasterize
from deep_3drecon.shading import vertex_normals

# what a pixel of a mask shows; a mask holds places in this list
REGIONS = ("background", "body", "head", "face", "lips", "mouth", "eyes", "hair")
BACKGROUND, BODY, HEAD, FACE, LIPS, MOUTH, EYES, HAIR = range(len(REGIONS))
SAMPLES = 2
CHUNK = 16  # frames whose vertices are made at a time
N_SHELLS = 8
TONGUE_SEES = 0.17  # of the light, at its tip in an open mouth
JAWS = np.array([0.0, 0.12, 0.35])  # jawOpen for which the light in the mouth is known
TURNS = np.array([-0.35, 0.0, 0.35])  # rad, yaw and pitch for which the lamp's shadows are known
N_FILM_SKY, N_FILM_LAMP = 32, 6


class Actor:
    """A made person on a stage.

    model: the open head. identity: (80,) coefficients. look: a `Look`. size: side of the pictures in pixels, even.
    stage: a `Stage`; without one, that of a portrait. `on` puts the same person on another stage and is quick.
    """

    def __init__(self, model, identity, look, size=256, stage=None):
        if size % 2 or not 32 <= size <= 2048:
            raise ValueError(f"pictures of {size} px: an even number from 32 to 2048 is needed")
        self.model, self.look, self.size = model, look, size
        identity = torch.as_tensor(np.asarray(identity, np.float32))
        # with the identity folded in, vertices cost half
        self._head = replace(model, mean=model.mean + model.id_basis @ identity, id_basis=model.id_basis[..., :0])
        self._identity = identity
        detail = 512 if size <= 320 else 1024
        self._texture = linear(made_skin(model, look, detail))
        self._make_hair(detail // 2)
        self._regions_of = triangle_regions(model)
        self._triangles = np.require(model.triangles, np.int32, ["C", "W"])
        self._sky, self._jaw_points = self._seen_skies()
        self._albedo = self._vertex_albedo()
        self._take(stage or usual_stage(size))

    def on(self, stage):
        """The same person on another stage."""
        other = copy.copy(self)
        other._take(stage)
        return other

    def frames(self, exp, angle, trans):
        """Pictures (size, size, 3) uint8 RGB: exp (T, 52), angle (T, 3) radians, trans (T, 3) dm."""
        return (picture for picture, _ in self.film(exp, angle, trans))

    def masks(self, exp, angle, trans):
        """Masks (size, size) uint8, places in REGIONS, for the same arguments."""
        return (regions for _, regions in self.film(exp, angle, trans))

    def film(self, exp, angle, trans):
        """(picture, mask) of each frame, drawn as it is asked for."""
        exp, angle, trans = (np.asarray(x, np.float32) for x in (exp, angle, trans))
        for start in range(0, len(exp), CHUNK):
            part = slice(start, start + CHUNK)
            points = self._posed(exp[part], angle[part], trans[part])
            normals = vertex_normals(points, self._triangles, self.model.weld)
            clip = clip_in_picture(points, self.stage.affine, self.size)
            for k in range(len(points)):
                yield self._draw(points[k], normals[k], clip[k], exp[start + k], angle[start + k])

    # ---------------------------------------------------------------------------------------- once for a person

    def _posed(self, exp, angle, trans):
        """Vertices (T, V, 3) of the head as it stands."""
        with torch.no_grad():
            exp, angle, trans = (torch.from_numpy(np.ascontiguousarray(x)) for x in (exp, angle, trans))
            vertices = self._head.vertices(torch.zeros(len(exp), 0), exp)
            return hold_neck(vertices, camera.pose(vertices, angle, trans)).numpy()

    def _still(self, jaw=0.0, angle=(0, 0, 0)):
        exp = np.zeros((1, len(self.model.expression_names)), np.float32)
        exp[0, self.model.index("jawOpen")] = jaw
        return self._posed(exp, np.float32([angle]), np.zeros((1, 3), np.float32))[0]

    def _make_hair(self, detail):
        triangles = scalp_triangles(self.model)
        self._scalp, corners = np.unique(triangles, return_inverse=True)
        self._scalp_triangles = np.require(corners.reshape(-1, 3), np.int32, ["C", "W"])
        self._scalp_uv = np.ascontiguousarray(self.model.uv[self._scalp], np.float32)
        self._hair = linear(np.array(self.look.hair))
        texels = film_texels(self.model, detail)
        self._strands = np.zeros((detail, detail, 2), np.float32)
        self._strands[texels.row, texels.column] = np.stack(strands(texels.place, self.look), 1)

    def _seen_skies(self):
        """Share of the sky that each vertex sees for each of JAWS, (3, V), and the heads (V, 3) themselves."""
        heads = [self._still(jaw) for jaw in JAWS]
        skies = []
        for head in heads:
            normals = vertex_normals(head, self._triangles, self.model.weld)
            skies.append(seen_sky(head, normals, self._triangles, N_FILM_SKY))
        return np.float32(skies), heads

    def _vertex_albedo(self):
        size = len(self._texture)
        column, row = (
            np.clip((x * size).astype(int), 0, size - 1) for x in (self.model.uv[:, 0], 1 - self.model.uv[:, 1])
        )
        return np.ascontiguousarray(self._texture[row, column])

    # ---------------------------------------------------------------------------------------- once for a stage

    def _take(self, stage):
        self.stage, light = stage, stage.light
        self._px_to_dm = camera.FOCAL_PX / camera.CAMERA_Z_DM * float(stage.affine[0, 0])
        rest = torch.zeros(len(self.model.expression_names))
        with torch.no_grad():
            scene = Scene(self.model, self._identity, rest, torch.zeros(3), light)
        self._kind, oil = (scene.attributes[: scene.n_head, k] for k in (KIND, OIL))
        self._inside = np.flatnonzero((self._kind == WET) | (self._kind == TOOTH))
        self._oil = np.select([self._kind == TOOTH, self._kind == WET], [1.0, 2.0], oil).astype(np.float32)
        for name in ("eyeball_left", "eyeball_right"):
            self._oil[self.model.regions[name]] = 0
        self._lights = np.float32(
            [light.to_lamp, light.lamp_colour, unit(np.float32(light.rim)), light.rim_colour, light.sky, light.ground]
        )
        self._lamp, self._jaw_lamp = self._seen_lamp(scene)
        self._draw_set(scene)
        grain = np.random.default_rng(0).random((self.size, self.size), np.float32)
        self._grain = 0.999 * grain
        self._tones = tone_table()

    def _seen_lamp(self, scene):
        """How much of the lamp each vertex sees: (3, 3, V) by pitch and yaw, and (3, V) by jaw."""
        directions = lamp_directions(self.stage.light, N_FILM_LAMP)
        cloth = scene.points[scene.n_head :]

        def seen(head):
            return seen_from(np.concatenate([head, cloth]), scene.triangles, directions).mean(0)[: scene.n_head]

        turned = [[seen(self._still(0.05, (pitch, yaw, 0))) for yaw in TURNS] for pitch in TURNS]
        return np.float32(turned), np.float32([seen(head) for head in self._jaw_points])

    def _draw_set(self, scene):
        """Shirt before backdrop: colour and region of each pixel, and depth of each sample."""
        fine, light = self.size * SAMPLES, self.stage.light
        clip = clip_in_picture(scene.points, self.stage.affine, self.size)[None]
        cloth = scene.triangles[len(self._triangles) :]
        values, mask = raster_attributes(clip, cloth, scene.attributes[None], (fine, fine))
        values, mask = values[0, ::-1], mask[0, ::-1]
        picture = backdrop(self.stage.backdrop, fine)
        picture[mask] = shade(values[mask], np.zeros((2, 2, 3), np.uint8), light, self.look)
        self._set = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
        depth = rasterize(clip, cloth, (fine, fine))[0, ::-1]
        self._behind = np.where(depth[..., 3] > 0, depth[..., 2], np.float32(1)).astype(np.float32)
        share = cv2.resize(mask.astype(np.float32), (self.size, self.size), interpolation=cv2.INTER_AREA)
        self._set_regions = np.where(share > 0.5, BODY, BACKGROUND).astype(np.uint8)

    # ---------------------------------------------------------------------------------------- for each picture

    def _draw(self, points, normals, clip, exp, angle):
        picture, regions = self._set.copy(), self._set_regions.copy()
        # strands stand out beyond the skin
        window = self._window(clip, self.look.hair_mm / camera.MM_PER_DM * 1.3 * self._px_to_dm)
        if window is not None:
            top, left, bottom, right = window
            for name in ("eyeball_left", "eyeball_right"):  # the mesh is coarse, the eye is round
                ids = self.model.regions[name]
                normals[ids] = unit(points[ids] - points[ids].mean(0))
            values, hair, lamp = self._light(points, normals, exp, angle)
            size = (bottom - top, right - left)
            rast = self._raster(clip, self._triangles, window, SAMPLES)
            head = np.empty((*size, 6), np.float32)
            kernels.shade_pixels(
                rast, self._triangles, clip, values, normals, lamp, self._regions_of, EYES, self._texture,
                self._lights, np.array([top, left]), self._behind, regions, head,
            )  # fmt: skip
            kernels.over(picture, head, self._crease(head), np.array([top, left]))
            if self.look.hair_mm > 0:
                self._draw_hair(picture, regions, points, normals, hair, head, window)
        out = np.empty((self.size, self.size, 3), np.uint8)
        kernels.develop(picture, self._tones, self._grain, out)
        return out, regions

    def _window(self, clip, margin=0.0):
        """(top, left, bottom, right) in pixels of what the points cover, None where they are out of the picture."""
        x = (clip[:, 0] / clip[:, 3] + 1) / 2 * self.size
        y = (1 - clip[:, 1] / clip[:, 3]) / 2 * self.size
        low = np.clip(np.floor([y.min() - margin, x.min() - margin]).astype(int), 0, self.size)
        high = np.clip(np.ceil([y.max() + margin, x.max() + margin]).astype(int), 0, self.size)
        return (*low.tolist(), *high.tolist()) if (high > low).all() else None

    def _raster(self, clip, triangles, window, samples, cull=None):
        """`rast` (h, w, 4) of a window (top, left, bottom, right) of the picture, first row at the bottom."""
        top, left, bottom, right = window
        moved = clip.copy()
        for axis, start, stop in ((0, left, right), (1, self.size - bottom, self.size - top)):
            moved[:, axis] = (clip[:, axis] * self.size + (self.size - start - stop) * clip[:, 3]) / (stop - start)
        return rasterize(moved[None], triangles, ((bottom - top) * samples, (right - left) * samples), cull=cull)[0]

    def _light(self, points, normals, exp, angle):
        """Attributes (V, 9) of the head, light on its hair (V, 4) and how much of the lamp its vertices see (V,)."""
        jaw = float(exp[self.model.index("jawOpen")])
        sky = _between(JAWS, self._sky, jaw)
        lamp = _between(TURNS, _between(TURNS, self._lamp, float(angle[0])), float(angle[1]))
        # the mesh shades front teeth and tongue too much: light comes through parted lips, and from wall to wall
        inside, depth = self._inside, self.model.mean.numpy()[self._inside, 2]
        teeth = TEETH_SEE * smoothstep(0.08, 0.2, depth)
        tongue = TONGUE_SEES * smoothstep(0.06, 0.3, jaw) * smoothstep(-0.15, 0.2, depth)
        least = np.where(self._kind[inside] == TOOTH, teeth, tongue).astype(np.float32)
        sky[inside] = np.maximum(sky[inside], least)
        lamp[inside] = np.maximum(_between(JAWS, self._jaw_lamp, jaw)[inside], least)
        values = np.empty((len(points), kernels.N_ATTRIBUTES), np.float32)
        hair = np.empty((len(points), 4), np.float32)
        kernels.light_vertices(
            points, normals, self._albedo, sky, lamp, self._oil, self._lights, camera.CAMERA_Z_DM, values, hair
        )
        values[:, kernels.UV : kernels.UV + 2] = self.model.uv
        return values, hair, lamp

    def _crease(self, head):
        mask = head[..., 3] > 0
        return creases(-head[..., 4], head[..., 5], mask, self._px_to_dm)

    def _draw_hair(self, picture, regions, points, normals, light, head, window):
        cover = np.zeros((self.size, self.size), np.float32)
        scalp, light = self._scalp, np.ascontiguousarray(light[self._scalp])
        shells = hair_shells(points[scalp], normals[scalp], self.look.hair_mm, N_SHELLS)
        clips = clip_in_picture(np.stack([moved for _, moved in shells]), self.stage.affine, self.size)
        part = self._window(clips.reshape(-1, 4))
        part = part and tuple(f(a, b) for f, a, b in zip((max, max, min, min), part, window, strict=True))
        if part is None or part[0] >= part[2] or part[1] >= part[3]:
            return
        for (height, _), clip in zip(shells, clips, strict=True):
            rast = self._raster(clip, self._scalp_triangles, part, 1, "back")
            inside = np.array([part[0] - window[0], part[1] - window[1]])
            kernels.draw_shell(
                rast, self._scalp_triangles, clip, light, self._scalp_uv, self._strands, np.float32(height), self._hair,
                head, np.array(window[:2]), inside, picture, cover,
            )  # fmt: skip
        regions[cover > 0.5] = HAIR


def _between(places, values, x):
    """Values (n, ...) at ascending places (n,), linear between them and held beyond: (...)."""
    x = min(max(x, places[0]), places[-1])
    k = min(int(np.searchsorted(places, x, side="right")) - 1, len(places) - 2)
    part = np.float32((x - places[k]) / (places[k + 1] - places[k]))
    return values[k] + part * (values[k + 1] - values[k])


@functools.cache
def tone_table():
    """(N,) float32: 8 bit values, not rounded, of linear light by its square root; what `kernels.develop` reads."""
    root = np.linspace(0, np.sqrt(kernels.BRIGHTEST), kernels.N_TONES, dtype=np.float32)
    return (255 * to_srgb(film(root**2))).astype(np.float32)


_TEXELS = {}


def film_texels(model, detail):
    """`Texels` of a model, kept for the next actor."""
    key = model.hash, detail
    if key not in _TEXELS:
        _TEXELS[key] = Texels(model, detail)
    return _TEXELS[key]


def triangle_regions(model):
    """Place in REGIONS of each triangle of the head: (F,) uint8."""
    region = np.full(model.n_vertices, HEAD)
    region[model.regions["face"]] = FACE
    for name in ("mouth_inside", "teeth_upper", "teeth_lower", "tongue"):
        region[model.regions[name]] = MOUTH
    region[model.regions["lips"]] = LIPS
    for name in ("eyeball_left", "eyeball_right"):
        region[model.regions[name]] = EYES
    corners = np.sort(region[model.triangles], 1)
    return corners[:, 1].astype(np.uint8)  # what two of three corners are, or the one between
