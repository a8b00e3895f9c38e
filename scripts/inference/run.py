"""The whole job of inference.py: sources in, videos out."""

import time
from pathlib import Path

import torch

import deepspeech
from models import RENDERERS, checkpoint, find
from scripts.inference import encode, motion, sources


def result_names(args):
    """Stem of each style's result, and of the side-by-side video; refuses to overwrite before any work is done."""
    base = args.name or f"{(args.person or args.source_image).stem}__{args.driven_audio.stem}"
    labels = [Path(s).stem for s in args.style_clip]
    if len(set(labels)) < len(labels):
        labels = [f"{label}_{k}" for k, label in enumerate(labels)]
    names = [base if args.name and len(labels) == 1 else f"{base}__{label}" for label in labels]
    wanted = [args.result_dir / f"{n}{e}" for n in names + [base] * (len(names) > 1) for e in (".mp4", ".npz")]
    there = [str(p) for p in wanted if p.exists()]
    if there and not args.overwrite:
        raise FileExistsError(
            f"{', '.join(there)}: already there: use --overwrite, another --name or another --result_dir"
        )
    args.result_dir.mkdir(parents=True, exist_ok=True)
    return names, base


def run(args):
    """The whole job; returns the paths of the videos."""
    names, base = result_names(args)
    torch.set_num_threads(args.threads or min(2, torch.get_num_threads()))
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    method = checkpoint.load(args.checkpoint_dir, device)
    image = sources.read_source(args.source_image)
    portrait = sources.track_portrait(image, args.source_image.name)
    styles = [
        sources.load_style(text, method, args.checkpoint_dir).scaled(args.style_scale, method.mean_style)
        for text in args.style_clip
    ]
    reference = sources.load_track(args.ref_pose) if args.ref_pose else None

    started = time.perf_counter()
    wav, n_frames = sources.load_speech(args.driven_audio)
    features = deepspeech.features(wav)
    pose = motion.reference_pose(reference, n_frames) if reference else None
    renderer = find(RENDERERS, "mesh")(method.face)
    material = renderer.prepare(image, portrait, size=args.size, full=args.preprocess == "full")
    streams = []
    for name, style in zip(names, styles, strict=True):
        moved = motion.generate(method, features, style, n_frames, args, pose)
        motion.save_motion(args.result_dir / f"{name}.npz", moved, method, style, args)
        streams.append(renderer.render(material, **moved))
    paths = [args.result_dir / f"{name}.mp4" for name in names + [base] * (len(names) > 1)]
    encode.encode(paths, encode.pictures(streams), n_frames, wav)
    drawn, seconds = n_frames * len(styles), time.perf_counter() - started
    print(f"{drawn} frames in {seconds:.1f} s: {drawn / seconds:.1f} frames a second, sound to file")
    return paths
