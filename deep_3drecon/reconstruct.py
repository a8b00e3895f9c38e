"""Video -> face track, and a video to judge it by.

    python -m deep_3drecon.reconstruct --video talk.mp4 --output track.npz --overlay overlay.mp4
    python -m deep_3drecon.reconstruct --video talk.mp4 --output track.npz --photometric --texture face.png

Any video FFmpeg reads; the largest face is followed at 25 fps. --photometric refines the track by the pixels, from where a learnt
regressor sees the face as far as they bear it out, and adds the light of every frame. --texture writes the texture of the person
without light (first row v = 1), and beside it, as face.confidence.png, how sure each texel is. The overlay shows the frame, and
beside it the same frame under the fitted head, with the lips and lids that were found drawn as dots; with --texture, under the
head in its own texture. This is a command line only: nothing imports it.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from data_process.face_tracks import find_landmarks, track_quality, video_frames, whole_track
from data_process.landmarks import NoFaceError
from data_process.outputs import writable_file
from data_process.segments import crop_square
from data_process.video import VideoError, VideoWriter, probe, read_frames
from deep_3drecon import camera, landmarks
from deep_3drecon.assets import AssetError
from deep_3drecon.atlas import build_atlas
from deep_3drecon.atlas_draw import PersonPainter
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import FitError
from deep_3drecon.photometric import photometric_residual
from deep_3drecon.photometric_frames import PhotometricError
from deep_3drecon.rasterizer import interpolate, rasterize
from deep_3drecon.track import FPS

OVERLAY_SIZE = 512  # px, of each of the two pictures
MARGIN = 1.8  # side of the square shown, in longer sides of the face box
OPACITY = 0.75
COLOURS = {
    "teeth_upper": (240, 240, 230),
    "teeth_lower": (240, 240, 230),
    "tongue": (200, 90, 90),
    "lips": (205, 120, 115),
}
SKIN, EYE = (190, 165, 150), (235, 235, 235)
DOTS = np.concatenate(
    [
        landmarks.INNER_LIP_UPPER,
        landmarks.INNER_LIP_LOWER,
        landmarks.EYE_RIGHT,
        landmarks.EYE_LEFT,
        landmarks.MOUTH_CORNERS,
    ]
)


def frame_clip_positions(posed, crop, size):
    """Clip space of a frame instead of the canonical crop: posed (V, 3) dm, crop (2, 3), size (W, H) -> (V, 4)."""
    pixels = camera.apply_affine(camera.project(posed), camera.invert_affine(crop))
    clip = camera.clip_positions(posed)
    half = torch.tensor(size, dtype=pixels.dtype) / 2
    centred = (pixels + 0.5 - half) / half * torch.tensor([1.0, -1.0], dtype=pixels.dtype)
    return torch.cat([centred * clip[:, 3:], clip[:, 2:]], -1)


def vertex_colours(model):
    """(V, 3) float32 flat colours by region, 0-255."""
    colours = np.tile(np.float32(SKIN), (model.n_vertices, 1))
    for name, colour in COLOURS.items():
        colours[model.regions[name]] = colour
    for name in ("eyeball_left", "eyeball_right"):
        colours[model.regions[name]] = EYE
    return torch.from_numpy(colours)


def draw_head(frame, posed, crop, model, colours):
    """The frame (H, W, 3) uint8 with the posed head (V, 3) laid over it."""
    height, width = frame.shape[:2]
    clip = frame_clip_positions(posed.double(), crop, (width, height)).float()[None]
    light = model.normals(posed) @ torch.nn.functional.normalize(torch.tensor([0.3, 0.5, 0.8]), dim=0)
    shaded = colours * (0.35 + 0.65 * light.clamp(min=0))[:, None]
    rast = rasterize(clip, model.triangles, (height, width))
    image = interpolate(shaded[None].contiguous(), rast, model.triangles)[0].flip(0).numpy()
    weight = OPACITY * (rast[0, ..., 3:].flip(0).numpy() > 0)
    return (frame * (1 - weight) + image * weight).clip(0, 255).astype(np.uint8)


def write_overlay(video, track, path, size=OVERLAY_SIZE, person=None):
    """The head's square of every frame at `size` px beside the same with the fitted head; with the video's sound.

    person: its `PersonTexture`, in which the head is then drawn under the light of the frame, without dots.
    """
    model = load_face_model(track.face_model)
    parts = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in track.parts().items()}
    left, top, side = crop_square(track.landmarks, track.valid, track.frame_size, MARGIN)
    # pixels of the written square -> source pixels; the edge, half a pixel before the first centre, stays in place
    scale = side / size
    to_source = np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, top + scale / 2 - 0.5], [0, 0, 1]])
    crops = torch.from_numpy(track.crop.astype(np.float64) @ to_source)
    dots = (track.landmarks[:, DOTS] - to_source[:2, 2]) / scale
    colours, painter = vertex_colours(model), PersonPainter(model, person) if person else None
    with VideoWriter(path, fps=FPS, audio=str(video) if probe(video).has_audio else None) as writer:
        frames = read_frames(video, fps=FPS)
        for t, frame in enumerate(tqdm(frames, total=len(track), unit="frame", desc="overlay")):
            square = frame[top : top + side, left : left + side]
            square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC)
            if painter:
                here = {name: value[t] for name, value in parts.items()}
                writer.write(np.concatenate([square, painter.draw(square, here, crops[t])], 1))
                continue
            posed = camera.pose(model.vertices(parts["id"][t], parts["exp"][t]), parts["angle"][t], parts["trans"][t])
            drawn = draw_head(square, posed, crops[t], model, colours)
            for x, y in dots[t]:
                colour = (0, 255, 0) if track.valid[t] else (255, 0, 0)
                cv2.circle(drawn, (round(float(x)), round(float(y))), 1, colour, -1)
            writer.write(np.concatenate([square, drawn], 1))


def write_texture(person, path):
    """The texture as a picture, and its confidence beside it. Returns both paths."""
    path = Path(path)
    beside = path.with_suffix(".confidence.png")
    grey = (person.confidence[::-1] * 255).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    for where, picture in ((path, cv2.cvtColor(person.picture(), cv2.COLOR_RGB2BGR)), (beside, grey)):
        if not cv2.imwrite(str(where), picture):
            raise OSError(f"{where}: cannot be written")
    return path, beside


def main(argv=None):
    """Exit status: 0 written, 1 not."""
    parser = argparse.ArgumentParser(
        prog="python -m deep_3drecon.reconstruct",
        description="Reconstruct the face of a video as a track of 3D coefficients.",
    )
    parser.add_argument("--video", required=True, help="video with a face")
    parser.add_argument("--output", required=True, help="track to write (.npz)")
    parser.add_argument("--overlay", help="also write this mp4: the frames, and the fitted head over them")
    parser.add_argument(
        "--photometric", action="store_true", help="refine shape, pose, expression, light by the pixels"
    )
    parser.add_argument("--texture", help="write the person's texture as this .png; implies --photometric")
    parser.add_argument("--face_model", default="open", help="face model (default open)")
    args = parser.parse_args(argv)
    if Path(args.output).suffix != ".npz":
        parser.error(f"--output {args.output}: a track ends with .npz")
    if args.texture and Path(args.texture).suffix != ".png":
        parser.error(f"--texture {args.texture}: a texture ends with .png")
    try:
        for path in filter(None, (args.output, args.texture, args.overlay)):
            writable_file(path)
        found, person, frames = find_landmarks(args.video), None, video_frames(args.video)
        photometric = args.photometric or bool(args.texture)
        track = whole_track(found, frames, args.face_model, photometric)
        if photometric:
            before, after = (
                photometric_residual(t, frames) for t in (whole_track(found, frames, args.face_model), track)
            )
            print(f"pixels of the skin off by {before:.2f} of 255 without, {after:.2f} with --photometric")
        track.save(args.output)
        quality = track_quality(track)
        print(
            f"{args.output}: {len(track)} frames, face found in {quality['tracked']:.1%}; 68-landmark error "
            f"{quality['reprojection']:.2f} % of the eyes' distance; "
            f"lip opening correlation {quality['lip_correlation']:.3f}"
        )
        if args.texture:
            person = build_atlas(track, frames, load_face_model(track.face_model))
            print(*write_texture(person, args.texture))
        if args.overlay:
            write_overlay(args.video, track, args.overlay, person=person)
            print(args.overlay)
    except (VideoError, NoFaceError, FitError, AssetError, PhotometricError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
