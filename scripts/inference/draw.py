"""Motion -> pictures of a portrait. A drawer has

views           endings of its videos' names: ("",), ("_full", "_face"), ...
group           frames that are drawn together: parts of a motion give the same pictures if they are cut at multiples of it
rest(motion)    what a motion is counted from, for `draw`; None where nothing is
draw(motion, rest)   iterator of tuples of pictures (H, W, 3) uint8 RGB, one for each view; calls go on where the last one ended
"""

import numpy as np

from deep_3drecon.landmarks import interocular, lip_opening
from models.mesh_renderer import CHUNK


class PortraitDrawer:
    """The mesh renderer on one picture; materials: as `MeshRenderer.prepare` makes them, {view: material}."""

    group = CHUNK

    def __init__(self, renderer, materials, threads=1):
        self.renderer, self.materials, self.views, self.threads = renderer, materials, tuple(materials), threads

    def rest(self, motion):
        return self.renderer.rest(**motion)

    def draw(self, motion, rest=None):
        rest = rest or self.rest(motion)
        streams = [
            self.renderer.render(material, **motion, rest=rest, threads=self.threads)
            for material in self.materials.values()
        ]
        return zip(*streams, strict=True)


def portrait_drawer(renderer, image, track, args, views=None):
    """`PortraitDrawer` of a picture and its track; views: {ending: is it the whole picture?}."""
    views = views or {"": args.preprocess == "full"}
    materials = {view: renderer.prepare(image, track, size=args.size, full=full) for view, full in views.items()}
    return PortraitDrawer(renderer, materials)


def portrait_frame(person):
    """The frame of a person's clip that is the best portrait: near the usual pose, sharp-eyed, lips closed."""
    first, end = person.learning
    track = person.track.select(slice(first, end))
    parts = track.parts()
    away = np.abs(parts["angle"] - np.median(parts["angle"][track.valid], 0)).sum(1) / 0.1
    lips = lip_opening(track.landmarks) / interocular(track.landmarks)
    lids = track.scores[:, list(person.model.index("eyeBlinkLeft", "eyeBlinkRight"))].mean(1)
    cost = away + lips / 0.05 + np.maximum(lids - np.median(lids), 0) / 0.1
    return first + int(np.argmin(np.where(track.valid, cost, np.inf)))


def mesh_person_drawer(renderer, person, args):
    """The mesh renderer on the best portrait in a person's clip."""
    frame = portrait_frame(person)
    (image,) = person.frames([frame])
    return portrait_drawer(renderer, image, person.track.select([frame]), args, person_views(args))


def person_views(args):
    """Views of a person: the whole frame and the face, or the face alone."""
    return {"_full": True, "_face": False} if args.preprocess == "full" else {"_face": False}
