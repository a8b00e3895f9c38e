"""The stages of the benchmark: what each does, in which module it is prepared, and what it is measured against.

A stage's name is the first part of its names in the JSON and stays as it is: add stages, do not rename them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One line of the benchmark.

    prepare    "module:function" in this package; the function takes a folder that all stages share and returns a
               `case.Case`, or raises `case.Missing` with the reason why this machine cannot run it
    what       the measured work
    unit       what times are given for: "frame" also gives frames a second
    reference  the work it is measured against in the same run
    shared     the reference runs the same code in another way. A change of that code slows both, so that times are
               compared with the yardstick when two runs are compared, not with the reference
    """

    prepare: str
    what: str
    unit: str
    reference: str
    shared: bool = False


STAGES = {
    "rasterize_open_256": Stage(
        "drawing:rasterize_open", "triangles of the open head to 256 px", "frame", "rasterizer in plain torch"
    ),
    "rasterize_70k_256": Stage(
        "drawing:rasterize_dense", "70,688 triangles to 256 px", "frame", "rasterizer in plain torch"
    ),
    "interpolate_256": Stage("drawing:interpolate_open", "6 attributes at 256 px", "frame", "interpolation in torch"),
    "raster_attributes_256": Stage(
        "drawing:raster_attributes_open", "both in one pass", "frame", "rasterize, then interpolate", shared=True
    ),
    "texture_256": Stage("drawing:texture_open", "texture look-up at 256 px", "frame", "torch grid_sample"),
    "forward_backward_open_256": Stage(
        "drawing:forward_backward_open",
        "draw 6 attributes of the open head and send gradients back",
        "frame",
        "rasterizer in plain torch",
    ),
    "forward_backward_70k_256": Stage(
        "drawing:forward_backward_dense", "the same with 70,688 triangles", "frame", "rasterizer in plain torch"
    ),
    "rasterize_open_256_cuda": Stage(
        "drawing:rasterize_cuda", "plain torch rasterizer on CUDA", "frame", "numba on one core"
    ),
    "mel": Stage("sound:log_mel", "log-mel bands", "file", "numpy, one row at a time"),
    "features": Stage("sound:all_features", "phoneme posteriors, mel, energy", "file", "log-mel alone"),
    "lip_sync": Stage("sound:offset", "offset of sound and lips", "clip", "the features it needs"),
    "generate_tiny": Stage(
        "motion:generate_tiny", "motion by the released checkpoint", "frame", "32 frames at a time", shared=True
    ),
    "generate_paper": Stage(
        "motion:generate_paper", "motion by the paper's network", "frame", "one window at a time", shared=True
    ),
    "generate_tiny_cuda": Stage("motion:generate_cuda", "generate_tiny on CUDA", "frame", "generate_tiny on the CPU"),
    "render_crop_256": Stage(
        "drawing:render_crop", "mesh renderer, face crop, 2 threads", "frame", "1 thread", shared=True
    ),
    "render_full_256": Stage(
        "drawing:render_full", "mesh renderer, whole portrait, 2 threads", "frame", "1 thread", shared=True
    ),
    "made_film_256": Stage(
        "drawing:made_film", "made person in motion to pictures", "frame", "a made portrait each", shared=True
    ),
    "encode_256": Stage("storing:encode", "pictures to H.264", "frame", "PNG files by OpenCV"),
    "decode_256": Stage("storing:decode", "H.264 to pictures", "frame", "cv2.VideoCapture"),
    "lmdb_clips": Stage("storing:lmdb_clips", "features and face vector from LMDB", "clip", "npy files"),
    "lmdb_frames_256": Stage(
        "storing:lmdb_frames", "5 frames in a row, JPEG from LMDB", "frame", "the same from the clip's mp4"
    ),
    "training_windows": Stage(
        "storing:training_windows", "windows of 32 frames for training", "window", "no clip kept in memory", shared=True
    ),
    "landmarks_256": Stage(
        "faces:find_landmarks", "landmarks, face followed", "frame", "detection on every frame", shared=True
    ),
    "fit_clip": Stage(
        "faces:fit", "landmarks to face track, 100 frames", "frame", "one frame at a time, identity given", shared=True
    ),
    "reconstruct_256": Stage(
        "faces:reconstruct", "video file to face track", "frame", "detection and fit frame by frame", shared=True
    ),
    "psnr_256": Stage("judging:psnr", "PSNR of pictures", "frame", "scikit-image"),
    "ssim_256": Stage("judging:ssim", "SSIM of pictures", "frame", "scikit-image"),
    "chain_256": Stage(
        "chain:neural_256", "sound file to mp4, a person by neural_texture fast", "frame", "all in turn", shared=True
    ),
    "chain_512": Stage("chain:neural_512", "the same with crops of 512 px", "frame", "all in turn", shared=True),
    "chain_256_onnx": Stage("chain:neural_256_onnx", "chain_256 with ONNX Runtime", "frame", "chain_256", shared=True),
    "stream_256": Stage(
        "chain:stream_256",
        "sound in pieces of 40 ms to frames, a person",
        "frame",
        "the whole sound at once",
        shared=True,
    ),
    "chain_mesh_256": Stage(
        "chain:crop", "sound file to mp4, face crop by mesh", "frame", "drawing and encoding in turn", shared=True
    ),
    "chain_full": Stage(
        "chain:full", "sound file to mp4, whole portrait by mesh", "frame", "drawing and encoding in turn", shared=True
    ),
}
