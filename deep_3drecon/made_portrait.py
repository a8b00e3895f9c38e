"""A picture of the open head with its made skin: soft lights, hair, a shirt and a backdrop out of focus.

    picture = render_portrait(model, id, exp, angle, atlas, 512)

Light is computed in linear colour, several samples to a pixel. Shade comes from the mesh itself: for each vertex, the share of the
sky and of the lamp that it sees. Directions and places are those of `camera`, in dm.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from deep_3drecon import camera
from deep_3drecon.made_body import SHIRT_TRIANGLES, hold_neck, shirt
from deep_3drecon.made_hair import hair_shells, scalp_triangles
from deep_3drecon.made_noise import noise, smoothstep
from deep_3drecon.made_skin import linear, to_srgb
from deep_3drecon.rasterizer import raster_attributes, rasterize, texture

FRAMED_PX = 340.0  # a portrait shows as many pixels of the canonical crop, which is 224 wide
MIDDLE_PX = (112.0, 120.0)
WRAP = np.array([0.42, 0.20, 0.14], np.float32)  # light creeps round an edge under the skin, red furthest
BLEED = np.array([0.72, 1.0, 1.12], np.float32)  # exponent of shadow by channel: its border is red
SHADOW_SIZE, SHADOW_BIAS_DM = 224, 0.035
N_SKY, N_LAMP = 40, 10


@dataclass(frozen=True)
class Light:
    """A lamp, the sky around, and a weak lamp from behind. Directions point to the light; colours are linear."""

    lamp: tuple = (-0.55, 0.55, 0.75)
    lamp_colour: tuple = (2.20, 2.06, 1.90)
    spread: float = 0.35
    sky: tuple = (0.50, 0.54, 0.61)
    ground: tuple = (0.24, 0.20, 0.18)
    rim: tuple = (0.85, 0.35, -0.45)
    rim_colour: tuple = (0.75, 0.80, 0.95)


def portrait_affine(size, framed_px=FRAMED_PX):
    """(2, 3) tensor from pixels of the canonical crop to pixels of a portrait of `size`."""
    scale = size / framed_px
    middle = (size - 1) / 2
    return torch.tensor([[scale, 0, middle - scale * MIDDLE_PX[0]], [0, scale, middle - scale * MIDDLE_PX[1]]])


def render_portrait(model, id, exp, angle, atlas, size=512, light=None, background=(96, 104, 112), look=None,
                    affine=None, samples=2):  # fmt: skip
    """One person in front of a backdrop: (size, size, 3) uint8 RGB.

    id (80,), exp (52,), angle (3,) radians: arrays or tensors; atlas: from `made_skin`; light: a `Light`;
    background: an sRGB colour, or a picture (size, size, 3); look: the `Look` of the atlas, for the volume of the hair and
    the shirt; without it the hair is only what the atlas shows. affine: crop pixels to picture pixels, `portrait_affine` by
    default. samples: rendered pixels to a pixel, along each axis.
    """
    light = light or Light()
    id, exp, angle = (torch.as_tensor(x, dtype=torch.float32) for x in (id, exp, angle))
    affine = portrait_affine(size) if affine is None else torch.as_tensor(affine, dtype=torch.float32)
    with torch.no_grad():
        scene = _Scene(model, model.vertices(id, exp), angle, light)
    fine = size * samples
    values, mask = raster_attributes(
        scene.clip(scene.points, affine, size)[None], scene.triangles, scene.attributes[None], (fine,) * 2
    )
    values, mask = values[0, ::-1], mask[0, ::-1]
    picture = _backdrop(background, fine)
    colour = _shade(values[mask], atlas, scene, light, look)
    picture[mask] = colour * _creases(values, mask, affine, samples)[mask][:, None]
    if look is not None and look.hair_mm > 0:
        _draw_hair(picture, np.where(mask, values[..., 5], -np.inf), scene, affine, size, light, look)
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.round(to_srgb(_film(picture)) * 255).astype(np.uint8)


class _Scene:
    """Head and shirt as one mesh in posed space.

    attributes (V, 14): normal 3, place 3, rest place 3, uv 2, share of sky seen, share of lamp seen, kind (0 skin, 1 wet, 2 eye,
    3 cloth).
    """

    def __init__(self, model, vertices, angle, light):
        n_head = model.n_vertices
        head = hold_neck(vertices, camera.pose(vertices, angle, torch.zeros(3)))
        cloth = torch.from_numpy(shirt(head[model.regions["neck"]].numpy()))
        self.points = torch.cat([head, cloth])
        self.triangles = np.concatenate([model.triangles, SHIRT_TRIANGLES + n_head]).astype(np.int32)
        weld = np.concatenate([model.weld, np.arange(len(cloth)) + n_head])
        from deep_3drecon.shading import vertex_normals

        self.normals = vertex_normals(self.points, self.triangles, weld).numpy()
        self.rest = torch.cat([model.mean, cloth]).numpy()
        self.eyes = []
        for name in ("eyeball_left", "eyeball_right"):
            ids = model.regions[name]
            ball = self.points[ids].numpy()
            outward = ball - ball.mean(0)
            self.normals[ids] = outward / np.linalg.norm(outward, axis=1, keepdims=True)
        kind = np.zeros(len(self.points))
        for name in ("mouth_inside", "tongue", "teeth_upper", "teeth_lower"):
            kind[model.regions[name]] = 1
        for name in ("eyeball_left", "eyeball_right"):
            kind[model.regions[name]] = 2
        kind[n_head:] = 3
        uv = np.concatenate([model.uv, np.zeros((len(cloth), 2))])
        sky, lamp = seen_light(self.points.numpy(), self.normals, self.triangles, light)
        self.model, self.sky, self.lamp = model, sky, lamp
        self.attributes = np.concatenate(
            [self.normals, self.points.numpy(), self.rest, uv, sky[:, None], lamp[:, None], kind[:, None]], 1
        ).astype(np.float32)

    @staticmethod
    def clip(points, affine, size):
        """Clip space of the picture that `affine` leads to; it does not depend on the samples."""
        clip = camera.clip_positions(points).clone()
        scale = camera.CROP_SIZE * affine[0, 0] / size
        shift = (camera.CROP_SIZE * affine[0, 0] - affine[0, 0] + 2 * affine[:, 2] + 1) / size - 1
        clip[..., 0] = clip[..., 0] * scale + shift[0] * clip[..., 3]
        clip[..., 1] = clip[..., 1] * scale - shift[1] * clip[..., 3]
        return clip.numpy()


def seen_light(points, normals, triangles, light):
    """Share of the sky (weighted as a matte surface does) and of the lamp that each vertex sees: two (V,) in [0, 1].

    Pictures of the mesh from many directions, without perspective, say who stands in whose way.
    """
    sky_directions = _sphere(N_SKY)
    lamp = np.asarray(light.lamp, np.float32)
    lamp = lamp / np.linalg.norm(lamp)
    lamp_directions = lamp + light.spread * _sphere(N_LAMP)
    directions = np.concatenate(
        [sky_directions, lamp_directions / np.linalg.norm(lamp_directions, axis=1, keepdims=True)]
    )
    centre, radius = np.array([0, -0.3, -0.5], np.float32), 3.4
    local = (points - centre) / radius
    seen = np.empty((len(directions), len(points)), np.float32)
    for row, direction in zip(seen, directions, strict=True):
        side = np.cross([0.0, 1.0, 0.01], direction)
        side /= np.linalg.norm(side)
        basis = np.stack([side, np.cross(direction, side), -direction]).astype(np.float32)
        view = local @ basis.T
        clip = np.concatenate([view * [1, 1, 0.99], np.ones((len(view), 1))], 1).astype(np.float32)
        depth = rasterize(clip[None], triangles, (SHADOW_SIZE,) * 2)[0]
        nearest = np.where(depth[..., 3] > 0, depth[..., 2], 1).astype(np.float32)
        x, y = ((view[:, :2] + 1) / 2 * SHADOW_SIZE - 0.5).T.astype(np.float32)
        shown = cv2.remap(nearest, x[None], y[None], cv2.INTER_LINEAR, borderValue=1)[0]
        row[:] = smoothstep(2 * SHADOW_BIAS_DM / radius, SHADOW_BIAS_DM / radius, view[:, 2] * 0.99 - shown)
    facing = np.maximum(normals @ sky_directions.T, 0).T * (0.65 + 0.35 * sky_directions[:, 1:2])
    sky = (facing * seen[:N_SKY]).sum(0) / np.maximum(facing.sum(0), 1e-6)
    return sky, seen[N_SKY:].mean(0)


def _sphere(n):
    """n directions spread evenly over the sphere (Fibonacci's spiral): (n, 3) float32."""
    k = np.arange(n) + 0.5
    y = 1 - 2 * k / n
    turn = np.pi * (1 + 5**0.5) * k
    ring = np.sqrt(1 - y * y)
    return np.stack([ring * np.cos(turn), y, ring * np.sin(turn)], 1).astype(np.float32)


def _unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _shade(values, atlas, scene, light, look):
    """Linear colour (N, 3) of pixels with attributes (N, 14)."""
    normal, place, rest, uv = _unit(values[:, :3]), values[:, 3:6], values[:, 6:9], values[:, 9:11]
    sky, lamp, kind = values[:, 11:12], values[:, 12:13], np.round(values[:, 13])
    inner = (kind == 3) & ((normal * (np.float32([0, 0, camera.CAMERA_Z_DM]) - place)).sum(1) < 0)
    normal[inner] *= -1  # the collar is open at the top
    lamp[inner] = 0
    sky[inner] *= 0.35
    tex = linear(atlas)[::-1]
    albedo = texture(np.ascontiguousarray(tex)[None], uv[None, None])[0, 0]
    cloth, eye, wet, skin = kind == 3, kind == 2, kind == 1, kind == 0
    albedo[cloth] = _cloth(rest[cloth], look)
    bumps = normal.copy()
    bumps[skin] = _rough(normal[skin], rest[skin], 0.05)
    bumps[cloth] = _rough(normal[cloth], rest[cloth] * [1, 1.0, 1], 0.10)
    to_lamp, to_eye = _unit(np.asarray(light.lamp, np.float32)), _unit(np.float32([0, 0, camera.CAMERA_Z_DM]) - place)
    facing = (bumps @ to_lamp)[:, None]
    wrapped = np.maximum((facing + WRAP) / (1 + WRAP), 0) ** 1.25
    up = 0.5 + 0.5 * bumps[:, 1:2]
    ambient = np.float32(light.sky) * up + np.float32(light.ground) * (1 - up)
    open_sky = sky / (1 - 0.75 * albedo * (1 - sky))  # light that bounces in a fold takes the colour of the skin
    colour = albedo * (np.float32(light.lamp_colour) * wrapped * lamp**BLEED + ambient * open_sky**1.15)
    behind = np.maximum(bumps @ _unit(np.float32(light.rim)), 0)[:, None]
    graze = 1 - np.clip((bumps * to_eye).sum(1, keepdims=True), 0, 1)
    colour += (albedo * 0.6 + 0.06 * graze**3) * behind * np.float32(light.rim_colour) * sky
    half = _unit(to_lamp + to_eye)
    shine = np.maximum((bumps * half).sum(1, keepdims=True), 0)
    gloss = 0.05 * shine**14 + 0.05 * shine**48 + 0.10 * graze**4 * up
    amount = np.where(skin, 1.0, np.where(wet, 2.0, 0.0))[:, None] * np.maximum(0.85 + 0.5 * _oily(rest), 0)[:, None]
    colour += amount * gloss * lamp * sky * np.float32(light.lamp_colour)
    colour[eye] += _eye_glints(normal[eye], to_eye[eye], to_lamp) * lamp[eye] ** 0.5
    return colour


def _creases(values, mask, affine, samples):
    """Darkening (H, W) of what lies a little behind its surroundings on the screen: under the lids, in the nostrils."""
    z, facing = values[..., 5], smoothstep(0.35, 0.8, values[..., 2])  # the outline of the head is no crease
    shade = np.ones(z.shape, np.float32)
    for reach_dm, strength in ((0.035, 0.5), (0.09, 0.25)):
        sigma = reach_dm * camera.FOCAL_PX / camera.CAMERA_Z_DM * float(affine[0, 0]) * samples
        weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
        around = cv2.GaussianBlur(np.where(mask, z, 0), (0, 0), sigma) / np.maximum(weight, 1e-3)
        shade *= 1 - strength * facing * smoothstep(0.1, 1.0, (around - z) / reach_dm)
    return shade


def _oily(rest):
    """Nose, forehead and lips shine more."""
    nose = np.exp(-((rest - [0, 0.0, 0.45]) ** 2 / [0.02, 0.06, 0.06]).sum(1))
    lips = np.exp(-((rest - [0, -0.43, 0.36]) ** 2 / [0.03, 0.006, 0.03]).sum(1))
    x = np.abs(rest[:, 0])
    brows = np.exp(-((np.stack([x, rest[:, 1]], 1) - [0.33, 0.51]) ** 2 / [0.04, 0.003]).sum(1))
    return nose + 1.6 * lips - 1.6 * brows


def _rough(normal, rest, strength):
    """Normals bent by fine noise fixed to the surface."""
    step = 0.004
    here = noise(rest, 26, 5, 3)
    bend = np.stack([noise(rest + step * np.eye(3, dtype=np.float32)[axis], 26, 5, 3) - here for axis in range(3)], 1)
    return _unit(normal - strength * bend / step / 26)


def _eye_glints(normal, to_eye, to_lamp):
    """The lamp and a window in a wet eye."""
    mirror = 2 * (normal * to_eye).sum(1, keepdims=True) * normal - to_eye
    lamp = smoothstep(0.975, 0.992, mirror @ to_lamp)
    window = 0.12 * smoothstep(0.90, 0.97, mirror @ _unit(np.float32([0.6, 0.5, 0.6])))
    return (1.1 * lamp + window)[:, None] * np.float32([1, 1, 1])


def _cloth(rest, look):
    rng = np.random.default_rng([look.seed if look else 0, 9])
    shirts = np.array([[52, 62, 78], [88, 92, 90], [96, 58, 52], [62, 82, 72], [180, 176, 168], [44, 44, 48]])
    base = linear(shirts[rng.integers(len(shirts))])
    weave = noise(rest, (30, 90, 30), 3, 2)
    return base * (1 + 0.12 * weave + 0.08 * noise(rest, 3, 4, 2))[:, None]


def _draw_hair(picture, depth, scene, affine, size, light, look):
    """Shells of strands over the scalp, from the roots outwards, into picture (linear colour) in place."""
    model = scene.model
    triangles = scalp_triangles(model)
    fine = picture.shape[:2]
    to_lamp = _unit(np.asarray(light.lamp, np.float32))
    n_head = model.n_vertices
    normals = scene.normals[:n_head]
    hair = linear(look.hair)
    for height, moved in hair_shells(scene.points[:n_head].numpy(), normals, look.hair_mm):
        attributes = np.concatenate(
            [normals, scene.rest[:n_head], moved[:, 2:], scene.sky[:n_head, None], scene.lamp[:n_head, None]], 1
        )
        clip = scene.clip(torch.from_numpy(moved), affine, size)
        values, mask = raster_attributes(clip[None], triangles, attributes[None].astype(np.float32), fine, cull="back")
        values, mask = values[0, ::-1], mask[0, ::-1].copy()
        mask &= values[..., 6] > depth - 0.02
        from deep_3drecon.made_hair import strands_at

        v = values[mask]
        cover, lightness = strands_at(v[:, 3:6], height, look)
        normal = _unit(v[:, :3])
        facing = np.maximum((normal @ to_lamp + 0.3) / 1.3, 0)[:, None] * v[:, 8:9]
        up = 0.5 + 0.5 * normal[:, 1:2]
        ambient = (np.float32(light.sky) * up + np.float32(light.ground) * (1 - up)) * v[:, 7:8]
        root = 0.25 + 0.75 * height
        colour = hair * lightness[:, None] * root * (np.float32(light.lamp_colour) * facing + ambient)
        half = _unit(to_lamp + np.float32([0, 0, 1]))
        colour += 0.035 * height * np.maximum(normal @ half, 0)[:, None] ** 10 * lightness[:, None] * v[:, 8:9]
        picture[mask] += (colour - picture[mask]) * cover[:, None]


def _backdrop(background, size):
    """A wall out of focus: a soft light patch, darker to the corners; or the picture given. (size, size, 3) linear."""
    background = np.asarray(background)
    if background.ndim == 3:
        return linear(cv2.resize(background, (size, size), interpolation=cv2.INTER_LINEAR))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    patch = np.exp(-(((x - 0.68) / 0.5) ** 2 + ((y - 0.35) / 0.55) ** 2))
    places = np.stack([x.ravel() * 3, y.ravel() * 3, np.zeros(x.size, np.float32)], 1)
    blur = noise(places, 1.0, 11, 2).reshape(x.shape)
    return linear(background) * (0.42 + 0.75 * patch + 0.10 * blur)[..., None] * np.float32([1, 1, 1])


def _film(light):
    """Soft shoulder: linear light of any brightness -> 0..1."""
    x = light * 0.92
    return x * (1 + x / 2.2) / (1 + x)
