"""Frames of a face -> coefficients, pictures, atlas places and texture: the calls of style_avatar's `Reconstructor`, arrays out.

    reconstructor = Reconstructor("open", landmarker=FaceLandmarker())
    coeff, crops = reconstructor.recon_coeff(frames, return_image=True)      # (T, D) float32, (T, 224, 224, 3) uint8
    uv = reconstructor.recon_uv_from_coeff(coeff)                            # (T, 224, 224, 2) float32, -1 beside the face
    texture = reconstructor.recon_texture_from_coeff(coeff, crops)           # (T, 256, 256, 3) uint8

What differs from the original: frames are RGB; nothing goes through lossy video and no row is upside down; a file is written only if
`out_path` names one, aside and then renamed, and one that is there is not overwritten unless `overwrite` says so; there is no scratch
folder to empty; textures hold what a frame shows, hidden places are filled from their surroundings. `camera` has axes, pixels and crop.
Rows of a texture go with v and columns with u, from 0: texture[v * A, u * A] is what a pixel of `uv` wears.
"""

import importlib.util

import numpy as np
import torch

from deep_3drecon import camera, landmark_bias
from deep_3drecon import reconstructor_pictures as pictures
from deep_3drecon.align import crop_picture, video_crops
from deep_3drecon.atlas import build_atlas
from deep_3drecon.bfm_regressor import load_regressor, regress
from deep_3drecon.face_model import FaceModel, load_face_model
from deep_3drecon.fit import fill_gaps, fit_clip
from deep_3drecon.photometric import refine_clip
from deep_3drecon.reconstructor_faces import Faces, aligned_track, check_crops, checked_frames, read_faces
from deep_3drecon.reconstructor_files import check_target, write
from deep_3drecon.track import FaceTrack
from deep_3drecon.transfer import transfer_track

# how coefficients come from frames: "landmarks" fits the open head; "transfer" fits it and moves the result to another model;
# "regressor" is Deep3DFaceRecon's network for the Basel model
HOW = {"open": "landmarks", "bfm": "regressor", "ict": "transfer", "flame": "transfer"}
TEXELS_AT_ONCE = 2**20  # of atlas pictures: more are slower, since they leave the processor's cache
TEXTURE_FRAMES = 24  # of a clip, evenly spread, that make the texture of `recon_video`


class Reconstructor:
    """One face model and one way to its coefficients.

    face_model: open, bfm, ict, flame, or a FaceModel. how: see HOW; by default the model's own way.
    weights: file of the regressor, by default epoch_20.pth among the assets. landmarker: finds landmarks where none are given; has
    `track(frames)` as `data_process.landmarks.FaceLandmarker`. photometric: refine the landmark fit by the pixels, which finds the light
    too; one to two seconds a second of video. strict: a frame without a face, with several faces or with a crop beyond
    its border is an error; otherwise a warning names it, coefficients are interpolated in time, the followed face is taken, the border
    goes on. bias: how far off landmarks are in a pose, as `landmark_bias.bias` knows of our landmarker's; None for exact ones.
    regions: names of the model's regions that pictures show, by default all. fps: of the frames. batch_size: frames at a time.
    device: of tensors; on "cuda" nvdiffrast draws where it is installed. backend, threads: of the rasterizer.
    """

    def __init__(
        self,
        face_model="open",
        *,
        how=None,
        weights=None,
        landmarker=None,
        photometric=False,
        strict=False,
        bias=landmark_bias.bias,
        regions=None,
        fps=25,
        batch_size=32,
        threads=1,
        device="cpu",
        backend=None,
    ):
        model = face_model if isinstance(face_model, FaceModel) else load_face_model(face_model)
        self.how = HOW[model.name] if how is None else how
        allowed = {"open": ("landmarks",), "bfm": ("regressor", "transfer")}.get(model.name, ("transfer",))
        if self.how not in allowed:
            raise ValueError(f"how={self.how!r}: coefficients of {model.name} come by {' or '.join(allowed)}")
        self._cpu_model, self.model = model, model.to(device)
        self.weights, self.landmarker, self.strict, self.bias, self.fps = weights, landmarker, strict, bias, fps
        self.batch_size, self.threads, self.device = batch_size, threads, torch.device(device)
        self.backend = backend or ("nvdiffrast" if self._has_nvdiffrast() else "numba")
        self.triangles = pictures.triangles_of(model, regions)
        self._uv = torch.from_numpy(np.asarray(model.uv, np.float32))[None].to(self.device)
        self.photometric = photometric
        self._network = None
        self._atlases = {}

    def _has_nvdiffrast(self):
        return self.device.type == "cuda" and importlib.util.find_spec("nvdiffrast") is not None

    def recon_coeff(self, frame_array, lm_array=None, return_image=False, *, return_crop=False):
        """Face vectors of a clip: (T, D) float32 in the layout of the face model.

        frame_array (T, H, W, 3) uint8 RGB. lm_array: landmarks in pixels of the frames, (T, 478, 2) or (T, 68 or 5, 2) (the regressor
        takes any, the fit needs all), NaN where there is no face; or what a landmarker's `track` returns, whose scores help the fit;
        None: find them. return_image adds the aligned frames (T, 224, 224, 3) uint8, return_crop the affines (T, 2, 3) float32 from
        pixels of the frame to pixels of the aligned one.
        """
        frames, faces = self._look(frame_array, lm_array)
        coeff, crops, aligned = self._reconstruct(frames, faces)
        if return_image and aligned is None:
            aligned = self._aligned(frames, crops)
        results = (coeff, *[aligned] * return_image, *[crops] * return_crop)
        return results if len(results) > 1 else coeff

    def recon_track(self, frame_array, lm_array=None):
        """The same as a FaceTrack, which keeps landmarks, crops and validity with the coefficients; needs 478 landmarks."""
        frames, faces = self._look(frame_array, lm_array)
        if faces.points.shape[1] != 478:
            raise ValueError(
                f"{faces.points.shape[1]} landmarks came, a track keeps 478: take them from FaceLandmarker"
            )
        coeff, crops, _ = self._reconstruct(frames, faces)
        return FaceTrack(
            coeff=coeff,
            landmarks=fill_gaps(faces.points, faces.valid).astype(np.float32),
            crop=crops,
            valid=faces.valid,
            scores=fill_gaps(faces.scores_or_zero, faces.valid).astype(np.float32),
            fps=float(self.fps),
            frame_size=frames.shape[2:0:-1],
            face_model=self._cpu_model.name,
            face_model_hash=self._cpu_model.hash,
        )

    def _reconstruct(self, frames, faces):
        """Face vectors (T, D), crops (T, 2, 3), and aligned frames where they were needed, else None."""
        height, width = frames.shape[1:3]
        if self.how == "regressor":
            crops = video_crops(fill_gaps(faces.five, faces.valid), height)
            check_crops(crops, (width, height), self.strict)
            aligned = self._aligned(frames, crops)
            return self._regress(aligned, faces.valid), crops, aligned
        track = self._fit(faces, frames)
        check_crops(track.crop, (width, height), self.strict)
        return track.coeff, track.crop, None

    def _look(self, frame_array, lm_array):
        frames = checked_frames(frame_array)
        if lm_array is None:
            if self.landmarker is None:
                raise ValueError("no landmarks came: give lm_array, or a landmarker to Reconstructor")
            lm_array = self.landmarker.track(frames)
        faces = read_faces(lm_array, len(frames))
        faces.check(self.strict)
        return frames, faces

    def _fit(self, faces: Faces, frames):
        """FaceTrack in this face model, from the landmarks, and from the frames if `photometric`."""
        if faces.points.shape[1] != 478:
            raise ValueError(
                f"{faces.points.shape[1]} landmarks came, the fit needs 478: take them from FaceLandmarker, or use "
                "Reconstructor('bfm'), whose regressor needs only five"
            )
        head = self._cpu_model if self.how == "landmarks" else load_face_model("open")
        track = fit_clip(
            faces.points, faces.scores_or_zero, faces.valid, frames.shape[2:0:-1], self.fps, head, bias=self.bias
        )
        if self.photometric:
            track = refine_clip(track, frames, head, self.bias)
        return track if self.how == "landmarks" else transfer_track(track, self._cpu_model, head)

    def _regress(self, aligned, valid):
        if self._network is None:
            self._network = load_regressor(self.weights, self.device)
        return fill_gaps(regress(self._network, aligned, self.batch_size), valid).astype(np.float32)

    def _aligned(self, frames, crops):
        return np.stack([crop_picture(frame, crop) for frame, crop in zip(frames, crops, strict=True)])

    def recon_video_from_coeff(self, coeff_array, out_path=None, *, texture=None, size=224, overwrite=False):
        """The shaded face of (T, D) face vectors: (T, size, size, 3) uint8 RGB in the canonical crop, black beside it.

        Colours are those of `texture` (A, A, 3) from `recon_texture` of a whole clip, else the face model's own (bfm), else plain ones by
        part. Light is the vectors'; where they have none, what is in the texture, or a plain one from the front. out_path: .mp4, .npy or
        .npz.
        """
        target = check_target(out_path, "pictures", overwrite)
        coeff, view = self._coeff(coeff_array), self._view(size)
        if texture is not None:
            made = self._textured(view, coeff, torch.as_tensor(np.asarray(texture, np.float32), device=self.device))
        elif self.model.texture_mean is not None:
            made = self._shaded(view, coeff, lambda parts: self.model.texture(parts["tex"]))
        else:
            plain = pictures.plain_colours(self.model)[None]
            made = self._shaded(view, coeff, lambda parts: plain)
        return self._written(made, target)

    def recon_video_from_coeff_notex(self, coeff_array, out_path=None, *, size=224, overwrite=False):
        """The same with even grey albedo of 128: shape and light alone."""
        target = check_target(out_path, "pictures", overwrite)
        grey = torch.full_like(self.model.mean, pictures.GREY)[None]
        return self._written(self._shaded(self._view(size), self._coeff(coeff_array), lambda parts: grey), target)

    def recon_video(self, frame_array, lm_array=None, out_path=None, *, size=224, overwrite=False):
        """`recon_coeff`, then `recon_video_from_coeff`; a model without colours of its own wears those of the clip."""
        check_target(out_path, "pictures", overwrite)
        if self.model.texture_mean is not None:
            coeff, texture = self.recon_coeff(frame_array, lm_array), None
        else:
            coeff, crops = self.recon_coeff(frame_array, lm_array, return_image=True)
            some = np.unique(np.linspace(0, len(coeff) - 1, TEXTURE_FRAMES).round().astype(int))
            texture = self.recon_texture_from_coeff(coeff[some], crops[some], whole_clip=True, size=512)
        return self.recon_video_from_coeff(coeff, out_path, texture=texture, size=size, overwrite=overwrite)

    def _shaded(self, view, coeff, albedo):
        for parts, shape, posed in self._batches(coeff):
            yield pictures.shaded(view, self.model, shape, posed, parts["angle"], albedo(parts), parts["gamma"])

    def _textured(self, view, coeff, texture):
        lit = self._has_light(coeff)
        for parts, shape, posed in self._batches(coeff):
            if lit:
                normals = pictures.turned_normals(self.model, shape, parts["angle"])
                yield pictures.textured_and_lit(view, posed, self._uv, texture, normals, parts["gamma"])
            else:
                yield pictures.textured(view, posed, self._uv, texture)

    def _has_light(self, coeff):
        return bool(self.model.layout.split(coeff)["gamma"].any())

    def recon_uv_from_coeff(
        self, coeff_array, out_path=None, *, bg_path=None, return_background=False, size=224, overwrite=False
    ):
        """Where in the atlas each pixel of the face lies: (T, size, size, 2) float32, (u, v) in [0, 1], -1 beside the face.

        return_background adds (T, size, size) uint8, 255 where the picture is background (open mouths are not), 0 where it is face.
        out_path: .npy or .npz; bg_path, of the background: .mp4 too.
        """
        target, bg_target = check_target(out_path, "numbers", overwrite), check_target(bg_path, "pictures", overwrite)
        view, uv, masks = self._view(size), [], []
        for _, _, posed in self._batches(self._coeff(coeff_array)):
            places, mask = pictures.atlas_places(view, posed, self._uv)
            uv.append(places.cpu().numpy())
            masks.append(mask.cpu().numpy())
        uv = np.concatenate(uv)
        write(target, uv, self.fps)
        if not return_background and bg_target is None:
            return uv
        background = pictures.background(np.concatenate(masks))
        write(bg_target, background, self.fps)
        return (uv, background) if return_background else uv

    def recon_uv(self, frame_array, lm_array=None, out_path=None, *, bg_path=None, overwrite=False, **settings):
        """`recon_coeff`, then `recon_uv_from_coeff`."""
        check_target(out_path, "numbers", overwrite)
        check_target(bg_path, "pictures", overwrite)
        coeff = self.recon_coeff(frame_array, lm_array)
        return self.recon_uv_from_coeff(coeff, out_path, bg_path=bg_path, overwrite=overwrite, **settings)

    def recon_texture_from_coeff(
        self, coeff_array, img_array, out_path=None, *, whole_clip=False, return_seen=False, size=256, overwrite=False
    ):
        """Aligned frames laid out in the atlas: (T, size, size, 3) uint8, or (size, size, 3) of the whole clip.

        img_array (T, S, S, 3) uint8: the aligned frames of `recon_coeff`. Only what a frame shows is taken from it; the rest is filled
        from its surroundings. whole_clip: what most frames say, the light of the vectors taken off and hidden sides mirrored (`atlas`);
        where the vectors have no light, the mean over the frames by how squarely they show a texel. return_seen adds how well each texel
        is known, 0..1. out_path: .mp4, of a clip .png, or .npy, .npz.
        """
        target = check_target(out_path, "picture" if whole_clip else "pictures", overwrite)
        coeff, images = self._coeff(coeff_array), np.asarray(img_array)
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or len(images) != len(coeff)
            or images.shape[1] != images.shape[2]
        ):
            raise ValueError(
                f"{images.shape} {images.dtype} came: {len(coeff)} aligned frames (T, S, S, 3) uint8 are needed"
            )
        textures, seen = self._textures(coeff, images, size, whole_clip)
        write(target, textures, self.fps)
        return (textures, seen) if return_seen else textures

    def recon_texture(
        self, frame_array, lm_array=None, out_path=None, *, whole_clip=False, overwrite=False, **settings
    ):
        """`recon_coeff`, then `recon_texture_from_coeff`."""
        check_target(out_path, "picture" if whole_clip else "pictures", overwrite)
        coeff, images = self.recon_coeff(frame_array, lm_array, return_image=True)
        settings |= {"whole_clip": whole_clip, "overwrite": overwrite}
        return self.recon_texture_from_coeff(coeff, images, out_path, **settings)

    def _textures(self, coeff, images, size, whole_clip):
        if whole_clip and self._has_light(coeff):
            track = aligned_track(self._cpu_model, coeff, images.shape[1], self.fps)
            person = build_atlas(track, images, self._cpu_model, size)
            return person.colour.clip(0, 255).round().astype(np.uint8), person.confidence
        batches = self._batches(coeff, max(1, min(self.batch_size, TEXELS_AT_ONCE // size**2)))
        view, flat = self._view(camera.CROP_SIZE), self._atlas(size)
        unwrapped = pictures.unwrapped(view, flat, self.model, batches, images)
        return pictures.mean_texture(unwrapped) if whole_clip else pictures.frame_textures(unwrapped)

    def _atlas(self, size):
        if size not in self._atlases:
            self._atlases[size] = pictures.draw_flat(self._view(size), self._uv)
        return self._atlases[size]

    def _coeff(self, coeff_array):
        coeff = np.asarray(coeff_array, np.float32)
        if coeff.ndim != 2 or coeff.shape[1] != self.model.layout.size or len(coeff) == 0:
            raise ValueError(
                f"face vectors {coeff.shape} came, (T, {self.model.layout.size}) of the face model {self.model.name} is needed"
            )
        return coeff

    def _batches(self, coeff, batch_size=None):
        """Yield parts {name: (B, n)}, shape (B, V, 3) and posed shape (B, V, 3) of (T, D) face vectors."""
        size = batch_size or self.batch_size
        for start in range(0, len(coeff), size):
            batch = torch.from_numpy(coeff[start : start + size]).to(self.device)
            parts = self.model.layout.split(batch)
            shape = self.model.vertices(parts["id"], parts["exp"])
            yield parts, shape, camera.pose(shape, parts["angle"], parts["trans"])

    def _view(self, size):
        return pictures.View(size, self.triangles, self.threads, self.backend)

    def _written(self, batches, target):
        made = np.concatenate([batch.cpu().numpy() for batch in batches])
        write(target, made, self.fps)
        return made
