"""Mesh methods against each other on people they have not seen: metrics.jsonl and tables.

    python -m scripts.mesh_report data/meshes/world --ours data/runs/mesh --paper data/runs/mesh_paper --output data/runs/mesh_report
    python -m scripts.mesh_report --table data/runs/mesh_report/metrics.jsonl --protocol codetalker

Of each unseen subject (split test) the first clips, up to --style_seconds, are the style sample; half of the rest are the gallery
of its real motion, the other half are spoken by every row:

    template      the face at rest
    paper         the published network with the training subject nearest to the sample as its one-hot; paper_all: every training
                  subject in turn, as the published test script runs unseen people
    nearest       our network with the identity of that nearest training subject
    ours          our network with the sample's motion and sound; ours_motion: its motion alone; fit: fitted to the sample
    pivot         our network with nobody's manner; no_encoder: the same network trained without a style encoder
    real          the true motion, which bounds what retrieval can reach

Retrieval: is the generated motion's own speaker the nearest of ten (the unseen, and training subjects), by plain statistics of the
motion, weighed on training subjects that are not among the ten.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from data_process.meshes import MeshError, MeshFolder
from data_process.meshes_dataset import at_rows
from deep_3drecon.topology import TopologyError, near_aperture
from models import checkpoint, style_metrics, talking_style_metrics
from models.checkpoint import CheckpointError
from models.talking_style_codes import MeshStyle

CANDIDATES = 10
QUERY_SECONDS = 10.0  # generated clips are joined until a query is that long
SHOWN = (
    "lve_mm",
    "lips_mm",
    "mve_mm",
    "velocity_mm_s",
    "fdd_absolute_mm",
    "fdd_signed_mm",
    "opening_correlation",
    "opening_ratio",
)


class Unseen:
    """An unseen subject's clips: sample, gallery and queries, and what the rows know of them."""

    def __init__(self, data, subject, style_seconds):
        self.subject, clips = subject, [c for c in data.of("test") if c["subject"] == subject]
        seconds, n = 0.0, 0
        while seconds < style_seconds and n < len(clips) - 2:
            seconds += clips[n]["n_frames"] / clips[n]["fps"]
            n += 1
        if len(clips) - n < 2 or not n:
            raise MeshError(f"{data.path}: {len(clips)} clips of {subject}, a style sample and two more are needed")
        self.fps = clips[0]["fps"]
        limit = int(style_seconds * self.fps)
        self.sample = np.concatenate([data.coefficients(c["name"]) for c in clips[:n]])[:limit]
        self.sample_features = joined_features(data, clips[:n], self.fps, len(self.sample))
        rest = clips[n:]
        self.gallery, self.queries = rest[::2], rest[1::2]


def joined_features(data, clips, fps, n_frames):
    """Sound of several clips one after the other on one axis of 50 Hz, as their motion is joined."""
    parts = {}
    for clip in clips:
        rows = np.arange(int(np.ceil(clip["n_frames"] / fps * 50)))
        for name, x in data.features(clip["name"]).items():
            parts.setdefault(name, []).append(at_rows(x, rows))
    limit = int(np.ceil(n_frames / fps * 50))
    return {name: np.concatenate(x)[:limit] for name, x in parts.items()}


class Manners:
    """Nearest training subjects and the frozen measure of manner."""

    def __init__(self, data, unseen):
        self.data, self.names = data, data.subjects("train")
        # the measure keeps clear of the ten candidates: weights come from training subjects that are not among them
        self.rivals = self.names[: max(0, CANDIDATES - len(unseen))]
        own = [(c["subject"], self.code_of(c)) for c in data.of("train")]
        self.by_clip = own
        kept = [(s, x) for s, x in own if s not in self.rivals] or own
        self.weight = manner_weight(kept)
        gallery = [(u.subject, self.code_of(c)) for u in unseen for c in u.gallery]
        self.gallery = gallery + [(s, x) for s, x in own if s in self.rivals]

    def code_of(self, clip):
        return talking_style_metrics.motion_style(self.data.coefficients(clip["name"]), clip["fps"])

    def nearest(self, sample, fps):
        """Training subject whose mean manner is nearest to a sample's."""
        means = np.array([np.mean([x for s, x in self.by_clip if s == name], 0) for name in self.names])
        code = talking_style_metrics.motion_style(sample, fps)
        return self.names[int(style_metrics.distances([code], means, self.weight)[0].argmin())]

    def retrieval(self, queries, speakers):
        """R@1 and mean reciprocal rank of codes among the candidates."""
        names, codes = zip(*self.gallery, strict=True)
        return style_metrics.retrieval(np.array(queries), list(speakers), np.array(codes), list(names), self.weight)


def manner_weight(entries):
    """Weight of each number of a manner from [(speaker, code)]; where nobody has several clips, one over its variance."""
    speakers, codes = [s for s, _ in entries], np.array([x for _, x in entries])
    if sum(speakers.count(name) > 1 for name in set(speakers)) < 2:
        return 1 / (codes.var(0) + 1e-8)
    return style_metrics.speaker_weight(codes, speakers)


def build_rows(args, manners):
    """{row: function (Unseen, features, n_frames, clip) -> coefficients (T, K) or vertices (T, V, 3)}."""
    rows = {"real": lambda u, f, n, c: manners.data.coefficients(c["name"])}
    rows["template"] = lambda u, f, n, c: np.zeros((n, len(manners.data.basis[0])), np.float32)
    ours = checkpoint.load(args.ours) if args.ours else None
    if ours:
        styles = {}

        def style(u, kind):
            if (u.subject, kind) not in styles:
                styles[u.subject, kind] = {
                    "ours": lambda: ours.style_of(u.sample, u.fps, u.sample_features),
                    "ours_motion": lambda: ours.style_of(u.sample, u.fps),
                    "fit": lambda: ours.fit(u.sample, u.fps, u.sample_features),
                    "nearest": lambda: ours.identity(manners.nearest(u.sample, u.fps)),
                    "pivot": lambda: ours.identity(None),
                }[kind]()
            return styles[u.subject, kind]

        for kind in ("ours", "ours_motion", "fit", "nearest", "pivot"):
            rows[kind] = lambda u, f, n, c, kind=kind: np.concatenate(
                list(ours.coefficients(f, style(u, kind), c["fps"], n))
            )
    if args.no_encoder:
        plain = checkpoint.load(args.no_encoder)
        rows["no_encoder"] = lambda u, f, n, c: np.concatenate(
            list(plain.coefficients(f, plain.identity(None), c["fps"], n))
        )
    if args.paper:
        paper = checkpoint.load(args.paper)

        def spoken(u, f, n, c, condition):
            return paper.predict(f, condition, manners.data.template(u.subject), c["fps"], n)

        rows["paper"] = lambda u, f, n, c: spoken(u, f, n, c, manners.nearest(u.sample, u.fps))
        for name in manners.names if args.all_conditions else ():
            rows[f"paper_all/{name}"] = lambda u, f, n, c, name=name: spoken(u, f, n, c, name)
    return rows


def evaluate(args):
    """Write metrics.jsonl and retrieval.json -> (lines, retrieval)."""
    data = MeshFolder(args.data)
    unseen = [Unseen(data, name, args.style_seconds) for name in args.subjects or data.subjects("test")]
    manners = Manners(data, unseen)
    basis = data.basis[0]
    back = np.linalg.pinv(basis.reshape(len(basis), -1)).astype(np.float32)
    lines, codes = [], {}
    args.output.mkdir(parents=True, exist_ok=True)
    for row, make in build_rows(args, manners).items():
        for u in unseen:
            template, pieces = data.template(u.subject), []
            lips, upper = regions(data.topology, template)
            for clip in u.queries:
                made = make(u, data.features(clip["name"]), clip["n_frames"], clip)
                flat = made.ndim == 2
                motion = made if flat else (made - template).reshape(len(made), -1) @ back
                vertices = template + (made @ basis.reshape(len(basis), -1)).reshape(len(made), -1, 3) if flat else made
                values = talking_style_metrics.clip_metrics(
                    vertices, data.vertices(clip["name"]), template, lips, upper, data.content["unit_mm"], clip["fps"],
                    data.topology.aperture,
                )  # fmt: skip
                lines.append(
                    {"clip": clip["name"], "row": row, "speaker": u.subject, "unit_mm": data.content["unit_mm"]}
                    | values
                )
                pieces.append(motion)
            codes.setdefault(row, []).extend(query_codes(pieces, u))
        print(f"{row}: {np.mean([x['lve_mm'] for x in lines if x['row'] == row]):.3f} mm", file=sys.stderr)
    found = {}
    for row, entries in codes.items():
        speakers, queries = zip(*entries, strict=True)
        result = manners.retrieval(queries, speakers)
        found[row] = {key: result[key] for key in ("r1", "mean_reciprocal", "queries", "speakers", "chance_r1")}
    (args.output / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (args.output / "retrieval.json").write_text(json.dumps(found, indent=1))
    if args.ours:
        (args.output / "swap.json").write_text(json.dumps(swaps(args, data, unseen, manners), indent=1))
    return lines, found


def query_codes(pieces, u):
    """[(speaker, code)]: generated clips joined until each query lasts QUERY_SECONDS."""
    out, waiting = [], []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= QUERY_SECONDS * u.fps:
            out.append((u.subject, talking_style_metrics.motion_style(np.concatenate(waiting), u.fps)))
            waiting = []
    if not out:
        out.append((u.subject, talking_style_metrics.motion_style(np.concatenate(pieces), u.fps)))
    return out


def regions(topology, template):
    """Lips and upper face of a topology; near the opening where no table of the user's names the lips."""
    lips = topology.regions.get("lips")
    return near_aperture(topology, template) if lips is None else lips, topology.regions.get("upper")


def swaps(args, data, unseen, manners):
    """The same sounds in two people's manners, and on the way from one to the other, for every pair of the unseen."""
    ours, out = checkpoint.load(args.ours), []
    styles = [ours.style_of(u.sample, u.fps, u.sample_features) for u in unseen]
    truth = [np.mean([manners.code_of(c) for c in u.gallery], 0) for u in unseen]
    sounds = [(data.features(c["name"]), c) for u in unseen for c in u.queries[:2]]

    def codes(style):
        made = [np.concatenate(list(ours.coefficients(f, style, c["fps"], c["n_frames"]))) for f, c in sounds]
        return np.array(
            [talking_style_metrics.motion_style(m, c["fps"]) for m, (_, c) in zip(made, sounds, strict=True)]
        )

    for i in range(len(unseen)):
        for j in range(i + 1, len(unseen)):
            pair = styles[i], styles[j]
            measured = [codes(MeshStyle.blend(pair, (1 - t, t))) for t in (0, 0.25, 0.5, 0.75, 1)]
            swap = style_metrics.condition_swap(measured[0], measured[-1], truth[i], truth[j], manners.weight)
            way = (truth[j] - truth[i]) * manners.weight
            places = [float((m.mean(0) - truth[i]) @ way / ((truth[j] - truth[i]) @ way)) for m in measured]
            out.append({"a": unseen[i].subject, "b": unseen[j].subject} | swap | {"places_of_blend": places})
    return out


def table(lines, retrieval=None, protocol=None):
    """Markdown of metrics.jsonl: a row for each method, means over clips; with a protocol, the numbers of that paper."""
    names, groups = list(dict.fromkeys(line["row"].split("/")[0] for line in lines)), {}
    for line in lines:
        groups.setdefault(line["row"].split("/")[0], []).append(line)
    if protocol:
        head = ["row", "LVE", "LVE as mm", "FDD", "clips", "frames"]
        body = []
        for name in names:
            p = talking_style_metrics.pooled(groups[name], protocol, groups[name][0]["unit_mm"])
            body.append(
                [name, f"{p['lve']:.4g}", f"{p['lve_root_mm']:.3f}", f"{p['fdd']:.3g}", p["clips"], p["frames"]]
            )
    else:
        columns = [c for c in SHOWN if any(c in line for line in lines)]
        head, body = ["row", *columns, *(["R@1", "MRR", "queries"] if retrieval else [])], []
        for name in names:
            cells = [mean_cell([line[c] for line in groups[name] if c in line]) for c in columns]
            found = (retrieval or {}).get(name)
            extra = [f"{found['r1']:.2f}", f"{found['mean_reciprocal']:.2f}", found["queries"]] if found else ["-"] * 3
            body.append([name, *cells, *(extra if retrieval else [])])
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines)


def mean_cell(values):
    """Mean of what is known, as text."""
    known = [v for v in values if np.isfinite(v)]
    return f"{np.mean(known):.3f}" if known else "-"


def main(argv=None):
    """Exit status: 0 reported, 1 refused with a reason."""
    p = argparse.ArgumentParser(prog="python -m scripts.mesh_report", description="Mesh methods on unseen people.")
    p.add_argument("data", nargs="?", type=Path, help="mesh folder with a test split of unseen subjects")
    p.add_argument("--ours", type=Path, help="run folder of talking_style")
    p.add_argument("--no_encoder", type=Path, help="run folder of talking_style trained with dims.encoder=0")
    p.add_argument("--paper", type=Path, help="run folder of talking_style_paper")
    p.add_argument("--all_conditions", action="store_true", help="every training identity of the paper's network")
    p.add_argument("--style_seconds", type=float, default=10.0)
    p.add_argument("--subjects", nargs="+", help="unseen subjects to look at (default all of test)")
    p.add_argument("--output", type=Path, default=Path("data/runs/mesh_report"))
    p.add_argument("--table", type=Path, help="only write the tables of a metrics.jsonl")
    p.add_argument("--protocol", choices=talking_style_metrics.PROTOCOLS, help="table as this paper pools")
    args = p.parse_args(argv)
    try:
        if args.table:
            lines = [json.loads(line) for line in args.table.read_text().splitlines()]
            side = args.table.with_name("retrieval.json")
            found = json.loads(side.read_text()) if side.is_file() else None
        elif args.data:
            lines, found = evaluate(args)
        else:
            p.error("a mesh folder, or --table metrics.jsonl, is needed")
    except (MeshError, TopologyError, CheckpointError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(lines, found, args.protocol))
    return 0


if __name__ == "__main__":
    sys.exit(main())
