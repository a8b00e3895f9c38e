"""Moving meshes for other programs: glTF with morph targets, ARKit curves as CSV and JSON.

glTF (.glb): metres, +y up, facing +z. A clip is a basis of morph targets and their weights over time: 52 named ones for our head,
a basis of any other clip from `clip_basis`, so a minute of speech takes megabytes instead of hundreds.
"""

import json
import struct
from pathlib import Path

import numpy as np

from deep_3drecon.shading import vertex_normals
from deep_3drecon.topology_files import write_aside

GLB_MAGIC, GLB_VERSION, JSON_CHUNK, BIN_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
FLOAT, UINT = 5126, 5125
VERTICES, INDICES = 34962, 34963  # what a buffer view is for
GENERATOR = "Idiolect"


class ExportError(ValueError):
    """A clip that cannot be written, or a file that is not what it says."""


def clip_basis(vertices, template, unit_mm, tolerance_mm=0.02, largest=64):
    """Coefficients (T, K) and targets (K, V, 3) of a clip (T, V, 3): as few as keep the RMS error within tolerance_mm.

    Also returns the RMS error in mm that is left.
    """
    moved = (np.asarray(vertices, np.float32) - template).reshape(len(vertices), -1)
    values, vectors = np.linalg.eigh((moved @ moved.T).astype(np.float64))
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    left = np.sqrt((values.sum() - np.cumsum(values)).clip(0) / (moved.size / 3)) * unit_mm
    enough = np.flatnonzero(left <= tolerance_mm)
    k = int(min(enough[0] + 1 if len(enough) else len(values), largest))
    scale = np.sqrt(values[:k] / len(moved)).clip(1e-12)
    weights = vectors[:, :k] * np.sqrt(len(moved))
    targets = (weights.T @ moved) / len(moved)
    return (
        weights.astype(np.float32),
        targets.reshape(k, -1, 3).astype(np.float32),
        float(left[k - 1]) if scale.size else 0.0,
    )


def write_glb(path, template, faces, targets, weights, fps, unit_mm, names=(), colours=None, extras=None):
    """Write a .glb: template (V, 3) and targets (K, V, 3) in a unit of unit_mm, faces (F, 3), weights (T, K) at fps.

    names: of the targets. colours (V, 3) in [0, 1], linear light. extras: what to say of the file.
    """
    metres = unit_mm / 1000
    rest, moved = np.asarray(template, np.float32) * metres, np.asarray(targets, np.float32) * metres
    if moved.shape[1:] != rest.shape or weights.shape[1] != len(moved):
        raise ExportError(
            f"targets {moved.shape}, template {rest.shape}, weights {weights.shape}: they do not fit together"
        )
    names = list(names) or [f"target_{k}" for k in range(len(moved))]
    faces = np.ascontiguousarray(faces, np.int32)
    normals = vertex_normals(rest, faces)
    bend = [vertex_normals(np.ascontiguousarray(rest + m), faces) - normals for m in moved]
    buffer = _Buffer()
    attributes = {"POSITION": buffer.add(rest, "VEC3", VERTICES), "NORMAL": buffer.add(normals, "VEC3", VERTICES)}
    if colours is not None:
        attributes["COLOR_0"] = buffer.add(colours, "VEC3", VERTICES)
    indices = buffer.add(faces.ravel(), "SCALAR", INDICES, UINT)
    morphs = [
        {"POSITION": buffer.add(m, "VEC3", VERTICES), "NORMAL": buffer.add(b, "VEC3", VERTICES)}
        for m, b in zip(moved, bend, strict=True)
    ]
    times = buffer.add(np.arange(len(weights)) / fps, "SCALAR")
    curve = buffer.add(np.asarray(weights).ravel(), "SCALAR")
    primitive = {"attributes": attributes, "indices": indices, "material": 0, "targets": morphs}
    skin = {
        "baseColorFactor": [1 if colours is not None else 0.8] * 3 + [1],
        "metallicFactor": 0,
        "roughnessFactor": 0.7,
    }
    content = {
        "asset": {"version": "2.0", "generator": GENERATOR} | ({"extras": extras} if extras else {}),
        "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [{"primitives": [primitive], "weights": [0] * len(moved), "extras": {"targetNames": names}}],
        "materials": [{"pbrMetallicRoughness": skin, "doubleSided": True}],
        "animations": [{
            "name": "speech", "samplers": [{"input": times, "output": curve, "interpolation": "LINEAR"}],
            "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
        }],
        "accessors": buffer.accessors, "bufferViews": buffer.views, "buffers": [{"byteLength": len(buffer.data)}],
    }  # fmt: skip
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = bytes(buffer.data)
    size = 12 + 8 + len(text) + 8 + len(body)
    head = struct.pack("<III", GLB_MAGIC, GLB_VERSION, size)
    chunks = struct.pack("<II", len(text), JSON_CHUNK) + text + struct.pack("<II", len(body), BIN_CHUNK) + body
    write_aside(path, head + chunks)


class _Buffer:
    """The binary chunk of a .glb while it grows, with its views and accessors."""

    def __init__(self):
        self.data, self.views, self.accessors = bytearray(), [], []

    def add(self, array, kind, target=None, component=FLOAT):
        """Append an array -> number of its accessor."""
        array = np.ascontiguousarray(array, "<f4" if component == FLOAT else "<u4")
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes}
        self.views.append(view | ({"target": target} if target else {}))
        rows = array.reshape(len(array), -1)
        self.accessors.append({
            "bufferView": len(self.views) - 1, "componentType": component, "count": len(array), "type": kind,
            "min": [x.item() for x in rows.min(0)], "max": [x.item() for x in rows.max(0)],
        })  # fmt: skip
        self.data += array.tobytes()
        return len(self.accessors) - 1


def read_glb(path):
    """What `write_glb` wrote, checked against the rules of the format -> dict of template, faces, targets, times, weights, names.

    Lengths are in metres.
    """
    data = Path(path).read_bytes()
    magic, version, size = struct.unpack_from("<III", data)
    if (magic, version, size) != (GLB_MAGIC, GLB_VERSION, len(data)):
        raise ExportError(f"{path}: no glTF binary of version 2, or cut off")
    n_text, kind = struct.unpack_from("<II", data, 12)
    n_body, body_kind = struct.unpack_from("<II", data, 20 + n_text)
    if (kind, body_kind) != (JSON_CHUNK, BIN_CHUNK) or n_text % 4 or n_body % 4:
        raise ExportError(f"{path}: chunks are not as glTF wants them")
    content, body = json.loads(data[20 : 20 + n_text]), data[28 + n_text : 28 + n_text + n_body]
    if content["buffers"][0]["byteLength"] != len(body):
        raise ExportError(f"{path}: the buffer is {len(body)} bytes, {content['buffers'][0]} is announced")

    def array(index):
        accessor = content["accessors"][index]
        view = content["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3}[accessor["type"]]
        dtype = {FLOAT: "<f4", UINT: "<u4"}[accessor["componentType"]]
        values = np.frombuffer(body, dtype, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)
        if values.nbytes != view["byteLength"] or not np.allclose(values.min(0), accessor["min"], atol=1e-6):
            raise ExportError(f"{path}: accessor {index} does not hold what it says")
        return values if width > 1 else values[:, 0]

    mesh = content["meshes"][0]
    primitive, sampler = mesh["primitives"][0], content["animations"][0]["samplers"][0]
    targets = np.stack([array(t["POSITION"]) for t in primitive["targets"]])
    times, weights = array(sampler["input"]), array(sampler["output"])
    out = {"template": array(primitive["attributes"]["POSITION"]), "faces": array(primitive["indices"]).reshape(-1, 3)}
    return out | {
        "targets": targets, "times": times, "weights": weights.reshape(len(times), len(targets)),
        "names": mesh["extras"]["targetNames"],
    }  # fmt: skip


def write_curves(path, curves, names, fps):
    """ARKit curves (T, K) as .csv (frame, time_s, one column a curve) or .json, by the ending of `path`."""
    curves = np.asarray(curves, np.float64).clip(0, 1)
    if Path(path).suffix == ".json":
        rows = [[round(x, 5) for x in row] for row in curves.tolist()]
        text = json.dumps({"fps": fps, "names": list(names), "weights": rows})
    else:
        lines = [",".join(["frame", "time_s", *names])]
        lines += [",".join([str(t), f"{t / fps:.5f}", *(f"{x:.5f}" for x in row)]) for t, row in enumerate(curves)]
        text = "\n".join(lines) + "\n"
    write_aside(path, text.encode())
