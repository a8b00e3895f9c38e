"""The command line of inference.py."""

import argparse
from pathlib import Path

from models import RENDERERS
from scripts.inference.person import BACKGROUNDS

SIZE_RANGE = (128, 512)
POSES = ("generated", "from_video", "still")
BACKENDS = ("torch", "onnx")


class HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help that names defaults where there are any and the text has not yet said them."""

    def _get_help_string(self, action):
        silent = action.default is None or action.default is False or "(default" in action.help
        return action.help if silent else super()._get_help_string(action)


def parse(argv=None, description=None):
    """Command line; the names are those SadTalker's users know, those of the five papers' scripts are accepted too."""
    p = argparse.ArgumentParser(
        description=description,
        epilog="A mesh in place of a picture: inference.py --mesh open --driven_audio speech.wav; its options: --mesh open --help.",
        formatter_class=HelpWithDefaults,
    )
    _add_material(p)
    _add_motion(p)
    _add_picture(p)
    p.add_argument(
        "--checkpoint_dir",
        type=Path,
        default=Path("data/checkpoints/default"),
        help="trained method: folder with best.safetensors and best.json",
    )
    p.add_argument("--seed", type=int, default=0, help="of blinks and head; the same seed gives the same video")
    p.add_argument(
        "--backend", choices=BACKENDS, default="torch", help="what runs the networks; onnx needs onnx and onnxruntime"
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N, for the networks")
    p.add_argument(
        "--threads", type=int, default=0, help="torch threads; 0: as many as the machine has cores to spare, at most 2"
    )
    p.add_argument("--verbose", action="store_true", help="show the whole trace of an error")
    args = p.parse_args(argv)
    check(args, p)
    return args


def _add_material(p):
    who = p.add_mutually_exclusive_group(required=True)
    who.add_argument("--source_image", "--in_img", "--image_path", "--img_path", "--source_path", type=Path,
                     help="picture of one face, or a video whose first frame is taken")  # fmt: skip
    who.add_argument("--person", type=Path, help="folder of a person, written by scripts/personalize.sh")
    p.add_argument("--driven_audio", "--in_audio", "--wav_path", "--audio_path", required=True, type=Path,
                   help="speech: any sound or video file, any rate and channel count")  # fmt: skip
    p.add_argument("--style_clip", "--style_clip_path", nargs="+", metavar="STYLE",
                   help="how to talk: video of somebody (5-20 s), a face track (.npz), a saved style (.json), the name of a style "
                   "released with the checkpoint, or 'mean'; several give several videos (default: mean; with --person: "
                   "the person's own)")  # fmt: skip
    p.add_argument(
        "--style_scale",
        type=float,
        default=1.0,
        help="0..2: 0 the average person, 1 the style, 2 twice as far from the average",
    )
    p.add_argument(
        "--style_mix",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="one video between two styles: share of the second, 0..1; two shares go from one to the other over the video",
    )


def _add_motion(p):
    p.add_argument(
        "--pose",
        choices=POSES,
        help="head motion: generated from sound and style, or with --person in the person's habits, with --ref_pose in those "
        "seen there; from_video (that of --ref_pose, or of the person's own clip); still (default: generated, or from_video "
        "with --ref_pose)",
    )
    p.add_argument(
        "--ref_pose",
        type=Path,
        help="video or face track (.npz) whose head motion is taken, played back and forth if too short",
    )
    p.add_argument("--pose_scale", type=float, default=1.0, help="0..2: strength of the head motion")
    p.add_argument("--still", action="store_true", help="no head motion; blinks stay")
    p.add_argument("--no_blinks", action="store_true", help="no made blinks")


def _add_picture(p):
    p.add_argument(
        "--renderer",
        choices=sorted(RENDERERS),
        help="what draws the frames (default: mesh; with --person: the renderer that was trained, or else mesh)",
    )
    p.add_argument(
        "--renderer_dir",
        type=Path,
        help="folder of a trained renderer, in place of the person's own; one that was trained on several people draws pictures too",
    )
    p.add_argument(
        "--background",
        choices=BACKGROUNDS,
        default="hold",
        help="which frames of a person's clip are drawn on: hold (each as long as the head fits, then faded into the next), follow "
        "(a walk through the clip near the head's pose), keyframes or ping_pong (the headpose paper's)",
    )
    p.add_argument(
        "--no_detail",
        action="store_true",
        help="a person's whole frames: the network's picture enlarged, without the clip's finer detail; faster",
    )
    p.add_argument(
        "--preprocess",
        choices=["full", "crop"],
        default="full",
        help="full: the whole picture; crop: the face crop only; a person gives NAME_full and NAME_face with full",
    )
    p.add_argument(
        "--size",
        type=int,
        default=256,
        help="side of the square the head is drawn in, and of the crop, in pixels, 128..512",
    )
    p.add_argument(
        "--result_dir",
        "--output_path",
        "--save_path",
        type=Path,
        default=Path("data/runs/inference"),
        help="folder for the results",
    )
    p.add_argument("--name", help="name of the results; default: picture__sound__style")
    p.add_argument("--overwrite", action="store_true", help="replace results of the same name")
    p.add_argument(
        "--c2pa",
        nargs=2,
        type=Path,
        metavar=("CHAIN", "KEY"),
        help="also sign a C2PA manifest that says the video is synthetic: certificate chain and key of your own, PEM, ES256",
    )


def check(args, p):
    """Refuse values out of range and wishes that contradict each other; fill in what follows from others."""
    for name, low, high in (("style_scale", 0, 2), ("pose_scale", 0, 2), ("size", *SIZE_RANGE)):
        if not low <= getattr(args, name) <= high:
            p.error(f"--{name} {getattr(args, name)}: a value from {low} to {high} is needed")
    if args.name and Path(args.name).name != args.name:
        p.error(f"--name {args.name}: a name without folders is needed; --result_dir says where")
    if args.still and args.pose not in (None, "still"):
        p.error(f"--still and --pose {args.pose}: leave out one of them")
    if args.pose == "from_video" and not (args.ref_pose or args.person):
        p.error("--pose from_video: give the video or track with --ref_pose")
    if args.renderer not in (None, "mesh") and not (args.person or args.renderer_dir):
        p.error(
            f"--renderer {args.renderer} has to be trained: give --person FOLDER (scripts/personalize.sh) or --renderer_dir FOLDER"
        )
    if args.pose is None:
        args.pose = "still" if args.still else "from_video" if args.ref_pose else "generated"
    if args.style_mix and (len(args.style_mix) > 2 or not all(0 <= share <= 1 for share in args.style_mix)):
        p.error(f"--style_mix {args.style_mix}: one or two shares from 0 to 1 are needed")
    if args.style_mix and len(args.style_clip or []) != 2:
        p.error("--style_mix lies between two styles: give --style_clip FIRST SECOND")
    if args.style_clip is None:
        args.style_clip = ["own" if args.person else "mean"]
    if "own" in args.style_clip and not args.person:
        p.error("--style_clip own: is a person's own style: give --person FOLDER")
