"""One picture or person, one sound, one or more styles -> talking-face videos.

    python inference.py --source_image portrait.png --driven_audio speech.wav --style_clip someone_talking.mp4
    python inference.py --person data/people/anna --driven_audio speech.wav
    python inference.py --mesh template.ply --driven_audio speech.wav --style sample.npz    # scripts/inference/mesh.py

Writes NAME.mp4 (H.264 + AAC, 25 fps, sound and picture of equal length) and NAME.npz (the motion) to --result_dir and prints
where. Given several styles it also writes them side by side. The work is done by scripts/inference/.
"""

import sys

from data_process.landmarks import NoFaceError
from data_process.video import ImageError, VideoError
from deep_3drecon.assets import AssetError
from deep_3drecon.atlas import TextureError
from deep_3drecon.face_model import FaceModelError
from deep_3drecon.fit import FitError
from deep_3drecon.photometric_frames import PhotometricError
from deep_3drecon.track import TrackError
from deepspeech import AudioError
from models.behaviour import BehaviourError
from models.checkpoint import CheckpointError
from models.device import DeviceError
from models.onnx_backend import OnnxError
from models.person import PersonError
from models.provenance import ProvenanceError
from models.style import StyleError
from scripts.inference import mesh, options
from scripts.inference.run import run

USER_ERRORS = (
    AssetError, AudioError, BehaviourError, CheckpointError, DeviceError, FaceModelError, FitError, ImageError, NoFaceError, OnnxError,
    PersonError, PhotometricError, ProvenanceError, StyleError, TextureError, TrackError, VideoError, OSError,
)  # fmt: skip


def parse(argv=None):
    """Command line -> argparse namespace."""
    return options.parse(argv, __doc__.split("\n")[0])


def main(argv=None):
    argv = sys.argv[1:] if argv is None else list(argv)
    on_mesh = any(word.split("=")[0] == "--mesh" for word in argv)
    args = mesh.parse(argv) if on_mesh else parse(argv)
    try:
        for path in mesh.run(args) if on_mesh else run(args):
            print(path)
    except (*USER_ERRORS, *mesh.USER_ERRORS) as error:
        if args.verbose:
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
