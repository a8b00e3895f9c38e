"""What the mesh renderer knows of one portrait before the first frame: geometry that fits it, textures, how its surroundings follow.

Pixels: a *work picture* is the portrait at the size of the output. It continues beyond its edges by reflection on a *canvas*, so that a
head cut by the picture's edge can move without a hole. `region` is the square of the work picture in which anything moves.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from deep_3drecon import camera, rasterizer, unwrap
from deep_3drecon.face_model import FaceModel
from deep_3drecon.made_noise import smoothstep
from models import background, mouth, own_head, retarget

MAX_SIDE = 1280  # pixels of the longer side of a full-size output
REGION_HEADS = 1.9  # side of the moving region in heights of the head
CROP_HEADS = 1.35  # side of the face crop in heights of the head
NODES = 49  # of the grid that carries the surroundings, along each side of the region
HAIR_DM = 0.30  # how far around the head the surroundings move as fast as the head itself
LID_LIGHT = 0.4  # share of the cheek's colour in a lid that comes down
# portrait pixels for one drawn pixel below which a place is a smear and made colour replaces it
LID_STRETCH, LIP_STRETCH = 0.85, 0.45


class PortraitError(ValueError):
    """A picture and a track that cannot be rendered together."""


@dataclass
class Material:
    """One portrait made ready; all arrays are read only.

    work (H, W, 3) uint8; canvas: work with reflected rims, `pad` pixels on each side; to_work (2, 3) canonical -> work pixels;
    region, box: (left, top, side) in work pixels of what moves and of the head's drawing, `grid` cells a side;
    head: the face model with this person's mean and no identity left; angle, trans: its pose in the portrait;
    attributes (1, V, 6) see `_attributes`; follow (V,) 1 head .. 0 shoulders; triangles (F, 3) drawn; sink (V,) dm by which
    parts inside the mouth are drawn deeper; texture (S, S, 6) see `_texture`; nodes (NODES**2, 3) surroundings in head space;
    node_follow (NODES, NODES) share of the head's motion, node_pixels (NODES, NODES, 2); rest: its own expression and openings.
    """

    work: np.ndarray
    canvas: np.ndarray
    pad: int
    to_work: torch.Tensor
    region: tuple
    box: tuple
    grid: int
    head: FaceModel
    angle: torch.Tensor
    trans: torch.Tensor
    attributes: np.ndarray
    follow: torch.Tensor
    triangles: np.ndarray
    sink: torch.Tensor
    texture: np.ndarray
    nodes: torch.Tensor
    node_follow: np.ndarray
    node_pixels: np.ndarray
    rest: retarget.Rest


def prepare(image, track, model, size, full):
    """Material of a portrait (H, W, 3) uint8 RGB whose FaceTrack has one frame; arguments as in `MeshRenderer.prepare`."""
    _check(image, track, model)
    parts = {name: torch.from_numpy(np.asarray(value[0], np.float32)) for name, value in track.parts().items()}
    angle, trans, exp = parts["angle"], parts["trans"], parts["exp"]
    to_source = camera.invert_affine(torch.from_numpy(track.crop[0]).double())
    observed = torch.from_numpy(track.landmarks[0]).double()

    target = camera.apply_affine(observed, torch.from_numpy(track.crop[0]).double()).float()
    own = own_head.fit(model, parts["id"], exp, angle, trans, target)
    posed = camera.pose(own.vertices(torch.zeros(0), exp), angle, trans)

    follow = torch.from_numpy(own_head.follow(model))
    head = follow > 0.5
    window = unwrap.bounding_box(unwrap.places(posed[head], to_source.float()), 0.0)
    work, to_work = _work_picture(image, to_source, window, size, full)
    gain = mouth.brightness(work, unwrap.places(posed, to_work), unwrap.facing(model, posed), model)
    teeth_shown = mouth.teeth_shown(work, camera.apply_affine(target, to_work).numpy(), gain)
    own.mean = own.mean + mouth.settle(own, exp, angle, teeth_shown)
    posed = camera.pose(own.vertices(torch.zeros(0), exp), angle, trans)
    place = unwrap.places(posed, to_work)
    region = unwrap.bounding_box(place[head], (REGION_HEADS - 1) / 2)
    box = unwrap.bounding_box(place[head], 0.14)
    low, high = np.array(region[:2]), np.array(region[:2]) + region[2]
    pad = int(np.ceil(max(0, *-low, *(high - work.shape[1::-1])))) + 8
    cosine = unwrap.facing(model, posed)
    triangles = drawn_triangles(model, place, cosine, follow.numpy(), work.shape[1::-1])
    texture, rast = _texture(work, place, cosine, model, gain, teeth_shown)
    nodes, node_follow, node_pixels = surroundings_grid(place, follow, triangles, region, to_work, angle, trans)
    return Material(
        work=work,
        canvas=background.continued(work, pad, (place[head, :2] / place[head, 2:]).numpy()),
        pad=pad,
        to_work=to_work,
        region=region,
        box=box,
        grid=int(np.clip(2 * size, 256, 768)),
        head=own,
        angle=angle,
        trans=trans,
        attributes=_attributes(place, texture, rast, model),
        follow=follow,
        triangles=triangles,
        sink=mouth.sink(model),
        texture=texture,
        nodes=nodes,
        node_follow=node_follow,
        node_pixels=node_pixels,
        rest=retarget.portrait_rest(own, exp),
    )


def _check(image, track, model):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise PortraitError(
            f"portrait of shape {image.shape}, {image.dtype}: (H, W, 3) uint8 RGB is needed, as read_image gives"
        )
    if len(track) != 1 or not track.valid[0]:
        raise PortraitError(f"a track of {len(track)} frames, {int(track.valid.sum())} valid: one frame with a face is needed; "
                            "use track.select([k])")  # fmt: skip
    if track.face_model_hash != model.hash:
        raise PortraitError(
            f"the track was made with head {track.face_model_hash}, this one is {model.hash}: fit the portrait again"
        )
    if tuple(track.frame_size) != image.shape[1::-1]:
        raise PortraitError(
            f"the picture is {image.shape[1]}x{image.shape[0]}, its track {track.frame_size}: use the picture that was fitted"
        )


def _work_picture(image, to_source, window, size, full):
    """The portrait at output size and the affine (2, 3) float32 from canonical to its pixels."""
    height, width = image.shape[:2]
    left, top, right, bottom = 0, 0, width, height
    if full:
        scale = min(1.0, MAX_SIDE / max(height, width))
        out = max(1, round(width * scale)), max(1, round(height * scale))
    else:
        side = int(min(height, width, round(window[2] * CROP_HEADS)))
        left = int(np.clip(round(window[0] + (window[2] - side) / 2), 0, width - side))
        top = int(np.clip(round(window[1] + (window[2] - side) / 2), 0, height - side))
        right, bottom, out = left + side, top + side, (size, size)
    part = image[top:bottom, left:right]
    if out != part.shape[1::-1]:
        part = cv2.resize(part, out, interpolation=cv2.INTER_AREA if out[0] < part.shape[1] else cv2.INTER_CUBIC)
    scale = torch.tensor([out[0] / (right - left), out[1] / (bottom - top)], dtype=torch.float64)
    to_work = to_source.clone()
    to_work[:, 2] -= torch.tensor([left, top])
    to_work *= scale[:, None]
    to_work[:, 2] += 0.5 * scale - 0.5
    return np.ascontiguousarray(part), to_work.float()


def drawn_triangles(model, place, cosine, follow, extent):
    """Triangles (F, 3) of the head that are drawn: the face, eyes and mouth whole, and below them the neck that the portrait shows.

    Ears, scalp and all that turns away are left to the surroundings, which carry the portrait's own ears, hair and outline: the fitted
    ones lie beside them, and drawn with their own depth they would smear background over themselves when the head turns.
    """
    box = unwrap.bounding_box(place, 0.02)
    depths = unwrap.depth_picture(place, model.triangles, box)
    shown = unwrap.seen((place[:, :2] / place[:, 2:]).numpy(), place[:, 2].numpy(), cosine, depths, box, extent) & (
        cosine > 0.2
    )
    shown[model.regions["ears"]] = shown[model.regions["scalp"]] = False
    inner = np.ones(model.n_vertices, bool)
    inner[model.regions["skin"]] = False
    for name in ("face", "lips", "mouth_inside", "eyelids"):
        inner[model.regions[name]] = True
    corners = model.triangles
    return corners[(shown | inner)[corners].all(1) & (follow[corners] > 0.05).any(1)]


def _texture(work, place, cosine, model, gain, teeth_shown):
    """Texture (S, S, 6) float32 and its triangles (S, S, 4) in uv space.

    Colour 0..255 (3); share of the portrait 0..1; mouth inside 0..1; stretch below which the colour replaces the portrait.
    """
    blink = np.linalg.norm(model.exp_basis[..., model.index("eyeBlinkLeft", "eyeBlinkRight")].numpy(), axis=1).max(1)
    lids = np.flatnonzero(blink > 0.2 * blink.max())
    # lashes and brows are not to colour the lid that comes over the eye
    blotted = [lids, model.regions["brows"], model.regions["mouth_inside"]]
    atlas = unwrap.unwrap(work, place, cosine, model, distrust=np.concatenate(blotted))
    fold = np.zeros((1, model.n_vertices, 1), np.float32)
    fold[0, np.r_[model.regions["lips"], model.regions["mouth_inside"]]] = LIP_STRETCH
    fold[0, lids] = LID_STRETCH
    fold = rasterizer.interpolate(fold, atlas.rast[None], model.triangles)[0]
    smooth = _lighter_lids(atlas, model, lids)
    atlas.colour += np.clip(fold / LIP_STRETCH, 0, 1) * (smooth - atlas.colour)
    colour, seen, inside = mouth.paint(atlas, model, gain, teeth_shown)
    return np.ascontiguousarray(
        np.concatenate([colour, seen[..., None], inside[..., None], fold], -1).astype(np.float32)
    ), atlas.rast


def _lighter_lids(atlas, model, lids):
    """The atlas's smooth colours with lids drawn towards the cheek below them: a lid that comes down leaves the shadow it was in."""
    mean = model.mean.numpy()
    tint = np.zeros((1, model.n_vertices, 4), np.float32)
    face = np.zeros(model.n_vertices, bool)
    face[model.regions["face"]] = True
    for name in ("eyeball_left", "eyeball_right"):
        eye = mean[model.regions[name]].mean(0)
        away = mean - eye
        cheek = face & (np.abs(away[:, 0]) < 0.2) & (away[:, 1] < -0.15) & (away[:, 1] > -0.4) & (mean[:, 2] > 0)
        at = (model.uv[cheek] * (len(atlas.smooth) - 1)).astype(int)
        own = lids[mean[lids, 0] * eye[0] > 0]
        tint[0, own, :3] = LID_LIGHT * atlas.smooth[at[:, 1], at[:, 0]].mean(0)
        tint[0, own, 3] = LID_LIGHT
    tint = rasterizer.interpolate(tint, atlas.rast[None], model.triangles)[0]
    return atlas.smooth * (1 - tint[..., 3:]) + tint[..., :3]


def _attributes(place, texture, rast, model):
    """(1, V, 6) float32 drawn on the head: place in the portrait (3), uv (2), and whether the texture matters about the vertex."""
    made = (texture[..., 3] < 1) | (texture[..., 5] > 0)
    face = rast[..., 3].astype(int)
    drawn = np.bincount(face.ravel(), minlength=len(model.triangles) + 1)[1:]
    matters = (np.bincount(face.ravel(), made.ravel(), len(model.triangles) + 1)[1:] > 0) | (drawn == 0)
    flag = np.zeros(model.n_vertices, np.float32)
    flag[model.triangles[matters]] = 1
    return np.concatenate([place.numpy(), model.uv, flag[:, None]], 1)[None].astype(np.float32)


def surroundings_grid(place, follow, triangles, region, to_work, angle, trans, n=256):
    """The grid behind the head: points in head space (N, 3), share of the head's motion (N,), work pixels (N, 2).

    n: cells along a side of the region in which nearness to the head is measured.
    """
    attributes = torch.cat([place[:, 2:], follow[:, None]], 1)[None].numpy()
    drawn, mask = rasterizer.raster_attributes(
        unwrap.box_clip(place, region)[None].numpy(), triangles, attributes, (n, n)
    )
    mask = mask[0].astype(np.float32)
    dm = n / region[2] * float(to_work[:, 0].norm()) * camera.FOCAL_PX / float(place[:, 2].median())  # cells in one dm
    share = sum(w * cv2.GaussianBlur(mask, (0, 0), s * dm) for w, s in ((1, 0.05), (1e-3, 0.2), (1e-6, 0.8))) + 1e-12
    depth, near = (
        sum(
            w * cv2.GaussianBlur(mask * drawn[0, ..., k], (0, 0), s * dm)
            for w, s in ((1, 0.05), (1e-3, 0.2), (1e-6, 0.8))
        )
        / share
        for k in range(2)
    )
    depth = np.where(share > 1e-9, depth, float(place[:, 2].max()))
    head = ((mask > 0) & (drawn[0, ..., 1] > 0.5)).astype(np.uint8)
    far = cv2.distanceTransform(1 - head, cv2.DIST_L2, 5)
    row, column = np.mgrid[:n, :n]
    rim = np.minimum.reduce([row, column, n - 1 - row, n - 1 - column])
    reach = far / (far + rim + 1e-3)  # 0 on the head, 1 at the edge of the region
    start = np.minimum(HAIR_DM * dm / np.maximum(far + rim, 1), 0.5)
    weight = np.clip(near, 0, 1) * (1 - smoothstep(start, 0.97, reach))
    weight = cv2.GaussianBlur(weight.astype(np.float32), (0, 0), 0.05 * dm)
    weight[rim < 2] = 0

    edge = np.linspace(0, n, NODES)
    pick = np.minimum(edge, n - 1).astype(np.float32)
    at = np.stack(np.meshgrid(pick, pick), -1)
    depth, weight = (cv2.remap(a.astype(np.float32), at, None, cv2.INTER_LINEAR) for a in (depth, weight))
    weight[[0, -1]] = weight[:, [0, -1]] = 0
    x, y = np.meshgrid(region[0] + edge * region[2] / n - 0.0, region[1] + edge * region[2] / n)
    pixels = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2).astype(np.float32))
    z = camera.CAMERA_Z_DM - torch.from_numpy(depth.ravel())
    points = camera.unproject(camera.apply_affine(pixels, camera.invert_affine(to_work)), z)
    points = (points - trans) @ camera.rotation_matrix(angle)
    return points, weight, pixels.numpy().reshape(NODES, NODES, 2)
