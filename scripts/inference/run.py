"""The whole job of inference.py: sources in, videos out."""

import time
from contextlib import closing
from pathlib import Path

import torch

import deepspeech
from data_process.outputs import make_folder
from data_process.video import read_frames
from models import RENDERERS, checkpoint, find, mark, provenance
from models.device import pick_device
from models.person import Person, PersonError
from scripts.inference import draw, encode, motion, networks, sources
from scripts.inference.person import PersonDrawer


def result_names(args, views):
    """Stem of each style's result, and of the side-by-side video; refuses to overwrite before any work is done."""
    base = args.name or f"{(args.person or args.source_image).stem}__{args.driven_audio.stem}"
    labels = [Path(s).stem for s in args.style_clip]
    if len(set(labels)) < len(labels):
        labels = [f"{label}_{k}" for k, label in enumerate(labels)]
    if args.style_mix:
        labels = ["_to_".join(labels)]
    names = [base if args.name and len(labels) == 1 else f"{base}__{label}" for label in labels]
    wanted = [args.result_dir / f"{name}.npz" for name in names]
    wanted += [path for name in names + [base] * (len(names) > 1) for path in video_paths(args, name, views)]
    there = [str(p) for p in wanted if p.exists()]
    if there and not args.overwrite:
        raise FileExistsError(
            f"{', '.join(there)}: already there: use --overwrite, another --name or another --result_dir"
        )
    make_folder(args.result_dir)
    return names, base


def video_paths(args, name, views):
    """Where the videos of a result go, one for each view."""
    return [args.result_dir / f"{name}{view}.mp4" for view in views]


def load_person(args):
    """The person of --person, or None."""
    return None if args.person is None else Person.load(args.person, read_frames)


def renderer_folder(args, person):
    """Folder of the trained renderer that shall draw, or None for the mesh renderer; sets --renderer to its name."""
    folder = args.renderer_dir or (person.renderer if person else None)
    if folder is None and args.renderer not in (None, "mesh"):
        raise PersonError(f"{args.person}: no renderer was trained: run scripts/personalize.sh, or use --renderer mesh")
    if folder is None or args.renderer == "mesh":
        args.renderer = "mesh"
        return None
    name = checkpoint.read(folder)["method"]
    if args.renderer not in (None, name):
        raise PersonError(f"{folder}: holds a renderer {name}, --renderer {args.renderer} was asked for")
    args.renderer = name
    return folder


def make_drawer(args, method, person, views, device):
    """A function that gives a drawer (see `draw`) for each video."""
    folder, image = renderer_folder(args, person), None
    if person is None:
        image = sources.read_source(args.source_image)
    if folder is not None:
        person = person or sources.portrait_person(image, args.source_image, method.mean_style)
        renderer = checkpoint.load(folder)
        drawer = PersonDrawer(person, renderer, views, args.backend, args.background, not args.no_detail, device=device)
        return drawer.again
    renderer = find(RENDERERS, "mesh")(method.face)
    if person is not None:
        drawer = draw.mesh_person_drawer(renderer, person, args)
    else:
        drawer = draw.portrait_drawer(renderer, image, sources.track_portrait(image, args.source_image.name), args)
    return lambda: drawer


def run(args):
    """The whole job; returns the paths of the videos."""
    if args.c2pa:
        provenance.check(*args.c2pa)
    person = load_person(args)
    views = draw.person_views(args) if person else {"": args.preprocess == "full"}
    names, base = result_names(args, views)
    threads = args.threads or networks.default_threads(drawn_by_network=bool(person or args.renderer_dir))
    torch.set_num_threads(threads)
    device = pick_device(args.device)
    method = networks.method_on(checkpoint.load_motion(args.checkpoint_dir, device), args.backend)
    drawer = make_drawer(args, method, person, views, device)
    styles = [
        sources.load_style(text, method, args.checkpoint_dir, person).scaled(args.style_scale, method.mean_style)
        for text in args.style_clip
    ]
    reference = sources.load_track(args.ref_pose) if args.ref_pose else None
    head = motion.head_source(args, person, reference)

    started = time.perf_counter()
    wav, n_frames = sources.load_speech(args.driven_audio)
    features = deepspeech.features(wav, threads=args.threads or 2)  # nothing is drawn yet
    streams = []
    if args.style_mix:
        shares = (args.style_mix[0], args.style_mix[-1])
        motions = [motion.generate_between(method, features, styles, shares, n_frames, args, head)]
    else:
        motions = ((motion.generate(method, features, style, n_frames, args, head), style) for style in styles)
    for name, (moved, style) in zip(names, motions, strict=True):
        motion.save_motion(args.result_dir / f"{name}.npz", moved, method, style, args)
        streams.append(drawn(drawer(), moved))
    shown = names + [base] * (len(names) > 1)
    paths = [path for name in shown for path in video_paths(args, name, views)]
    with closing(encode.pictures(streams)) as pictures:
        encode.encode(paths, pictures, n_frames, wav, stamp=mark.stamp)
    for path in paths if args.c2pa else ():
        provenance.sign(path, *args.c2pa)
    made, seconds = n_frames * len(names), time.perf_counter() - started
    print(f"{made} frames in {seconds:.1f} s: {made / seconds:.1f} frames a second, sound to file")
    return paths


def drawn(drawer, moved):
    """Pictures of a whole motion."""
    if hasattr(drawer, "plan"):
        drawer.plan(moved)
    return drawer.draw(moved)
