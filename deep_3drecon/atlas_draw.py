"""A person drawn again from a track and a texture, over the frames the track was made from."""

import numpy as np
import torch

from deep_3drecon import camera, rasterizer, unwrap
from deep_3drecon.mouth_atlas import LAYERS, SETTLED, inner_parts
from deep_3drecon.photometric_light import drawn_shade
from deep_3drecon.shading import sh_basis

SHOWN = 0.05  # confidence at a corner from which a triangle of the skin is drawn
SINK_DM = 0.2  # by which what lies in the mouth counts as deeper, so that no tooth pierces a lip


class PersonPainter:
    """Draws one person: model, and the `atlas.PersonTexture`. Skin of which the texture knows nothing is left to the frame."""

    def __init__(self, model, person):
        self.model, size = model, len(person.colour)
        column, row = ((model.uv * size).astype(int).clip(0, size - 1)).T
        known = person.confidence[row, column] > SHOWN
        self.texture = np.ascontiguousarray(person.colour[None], np.float32)
        self.shift, self.sink = torch.zeros(model.n_vertices, 3), torch.zeros(model.n_vertices)
        self.inside = np.zeros((model.n_vertices, 1), np.float32)
        self.mouth, self.layer = person.mouth, np.zeros((model.n_vertices, len(LAYERS)), np.float32)
        for name, ids in inner_parts(model).items():
            self.shift[ids] = torch.tensor(SETTLED.get(name, (0.0, 0.0, 0.0)))
            self.inside[ids], known[ids] = 1, True
        cavity = model.regions["mouth_inside"]
        self.sink[cavity] = SINK_DM * ((0.3 - model.mean[cavity, 2]) / 0.1).clamp(0, 1)
        for name in SETTLED:
            self.sink[model.regions[name]] = SINK_DM
        for k, parts in enumerate(LAYERS.values()):
            for name in parts:
                self.layer[model.regions[name], k] = 1
        for name in ("eyeball_left", "eyeball_right", "eyelids", "lips", "mouth_inside"):
            known[model.regions[name]] = True
        # all is drawn, since it hides what lies behind it; what the texture does not know is left out at the end
        self.known = known.astype(np.float32)[:, None]

    def draw(self, frame, parts, crop):
        """The frame (H, W, 3) uint8 with the head over it. parts: {"id", "exp", "angle", "trans", "gamma": (n,) float32 tensors};
        crop (2, 3): source pixels -> canonical crop."""
        height, width = frame.shape[:2]
        vertices = self.model.vertices(parts["id"], parts["exp"]) + self.shift
        posed = camera.pose(vertices, parts["angle"], parts["trans"])
        back = camera.invert_affine(torch.as_tensor(np.asarray(crop, np.float64))).float()
        place = unwrap.places(posed, back)
        model = self.model
        attributes = np.concatenate(
            [model.uv, model.normals(posed), self.inside, self.known, model.mean[:, :2], self.layer], 1
        )
        side = max(height, width)
        clip = unwrap.box_clip(place, (-0.5, -0.5, side), self.sink)[None].numpy()
        at, mask = rasterizer.raster_attributes(
            clip, self.model.triangles, attributes[None].astype(np.float32), (side, side)
        )
        at, mask = at[0, :height, :width], mask[0, :height, :width]
        colour = rasterizer.texture(self.texture, np.ascontiguousarray(at[None, ..., :2]))[0]
        if self.mouth is not None:
            for k, layer in enumerate(self.mouth.layers.values()):
                own = at[..., 9 + k] > 0.5
                colour[own] = layer.at(at[own][:, 7:9])[0]
        normals = torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(at[..., 2:5])), dim=-1)
        shade = drawn_shade(sh_basis(normals), parts["gamma"]).numpy()
        # the mouth keeps the light it was seen in
        shade = shade + at[..., 5:6] * (1 - shade)
        return np.where((mask & (at[..., 6] > 0.9))[..., None], (colour * shade).clip(0, 255), frame).astype(np.uint8)
