"""Meshes as files: PLY and OBJ read and written, lists of vertex ids read. Vertices (V, 3) float32, triangles (F, 3) int32.

Only what head meshes need: one object, positions and faces (polygons are cut into triangles), no materials.
"""

import os
from pathlib import Path

import numpy as np

from deep_3drecon import safe_pickle

PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"), **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"), **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"), **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"), **dict.fromkeys(("double", "float64"), "f8"),
}  # fmt: skip


class MeshFileError(ValueError):
    """A mesh or list of vertices that cannot be read."""


def read_mesh(path):
    """(vertices (V, 3), triangles (F, 3) or None) of a .ply, .obj or .npy (vertices alone, flat or (V, 3))."""
    path = Path(path)
    readers = {".ply": read_ply, ".obj": read_obj, ".npy": _read_npy}
    if path.suffix.lower() not in readers:
        raise MeshFileError(f"{path}: a mesh as {', '.join(readers)} is needed")
    if not path.is_file():
        raise MeshFileError(f"{path}: missing: give a mesh file")
    try:
        vertices, triangles = readers[path.suffix.lower()](path)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise MeshFileError(f"{path}: not readable as a mesh ({error}): give an intact file") from error
    if len(vertices) == 0 or not np.isfinite(vertices).all():
        raise MeshFileError(f"{path}: {len(vertices)} vertices, some not finite: give an intact file")
    if triangles is not None and len(triangles) and not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise MeshFileError(f"{path}: faces name vertex {triangles.max()}, there are {len(vertices)}")
    return vertices, triangles


def _read_npy(path):
    vertices = np.load(path, allow_pickle=False).astype(np.float32)
    return vertices.reshape(-1, 3), None


def read_ply(path):
    """Vertices and triangles of a PLY, ascii or binary."""
    data = Path(path).read_bytes()
    end = data.index(b"end_header")
    body = data.index(b"\n", end) + 1
    order, elements = None, []
    for line in data[:end].decode("ascii").splitlines():
        words = line.split()
        if words[:1] == ["format"]:
            order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[words[1]]
        elif words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    if order is None:
        raise ValueError("no format line")
    reader = _AsciiPly(data[body:]) if order == "" else _BinaryPly(data, body, order)
    vertices, triangles = None, np.zeros((0, 3), np.int32)
    for name, count, properties in elements:
        if any(p[0] == "list" for p in properties):
            polygons = reader.lists(count, properties)
            if name == "face":
                triangles = _triangles(polygons)
            continue
        table = reader.table(count, properties)
        if name == "vertex":
            columns = [p[1] for p in properties]
            vertices = np.stack([table[columns.index(axis)] for axis in "xyz"], 1).astype(np.float32)
    if vertices is None:
        raise ValueError("no element vertex")
    return vertices, triangles


class _AsciiPly:
    def __init__(self, data):
        self.lines = iter(data.decode("ascii").splitlines())

    def table(self, count, properties):
        return np.array([next(self.lines).split()[: len(properties)] for _ in range(count)], np.float64).T

    def lists(self, count, properties):
        rows = [[int(float(x)) for x in next(self.lines).split()] for _ in range(count)]
        return [row[1 : 1 + row[0]] for row in rows]


class _BinaryPly:
    def __init__(self, data, place, order):
        self.data, self.place, self.order = data, place, order

    def table(self, count, properties):
        kind = np.dtype([(name, self.order + PLY_TYPES[t]) for t, name in properties])
        rows = np.frombuffer(self.data, kind, count, self.place)
        self.place += count * kind.itemsize
        return [rows[name].astype(np.float64) for _, name in properties]

    def lists(self, count, properties):
        if len(properties) != 1:
            raise ValueError("faces with more than a list of vertices")
        n_type, id_type = (np.dtype(self.order + PLY_TYPES[t]) for t in properties[0][1:3])
        triple = np.dtype([("n", n_type), ("ids", id_type, 3)])
        if self.place + count * triple.itemsize <= len(self.data):
            rows = np.frombuffer(self.data, triple, count, self.place)
            if (rows["n"] == 3).all():
                self.place += count * triple.itemsize
                return rows["ids"]
        out = []
        for _ in range(count):
            n = int(np.frombuffer(self.data, n_type, 1, self.place)[0])
            self.place += n_type.itemsize
            out.append(np.frombuffer(self.data, id_type, n, self.place))
            self.place += n * id_type.itemsize
        return out


def _triangles(polygons):
    """Polygons as fans of triangles -> (F, 3) int32."""
    if isinstance(polygons, np.ndarray):
        return polygons.astype(np.int32)
    fans = [(p[0], p[k], p[k + 1]) for p in polygons for k in range(1, len(p) - 1)]
    return np.array(fans, np.int32).reshape(-1, 3)


def read_obj(path):
    """Vertices and triangles of a Wavefront OBJ; texture and normal indices are passed over."""
    vertices, polygons = [], []
    for line in Path(path).read_text().splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(x) for x in words[1:4]])
        elif words[:1] == ["f"]:
            ids = [int(word.split("/")[0]) for word in words[1:]]
            polygons.append([k - 1 if k > 0 else len(vertices) + k for k in ids])
    return np.array(vertices, np.float32).reshape(-1, 3), _triangles(polygons)


def write_ply(path, vertices, triangles):
    """Binary PLY, written aside and renamed."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.empty(len(triangles), [("n", "u1"), ("ids", "<i4", 3)])
    faces["n"], faces["ids"] = 3, triangles
    write_aside(path, header.encode() + np.ascontiguousarray(vertices, "<f4").tobytes() + faces.tobytes())


def write_obj(path, vertices, triangles):
    """Wavefront OBJ with six digits after the point."""
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in np.asarray(vertices, np.float64).tolist()]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in np.asarray(triangles).tolist()]
    write_aside(path, ("\n".join(lines) + "\n").encode())


def write_aside(path, data):
    """Write bytes aside and rename."""
    part = Path(f"{path}.part")
    part.write_bytes(data)
    os.replace(part, path)


def read_ids(path):
    """Vertex ids of a text file, separated by commas, spaces or lines: sorted, each once -> (n,) int64."""
    text = Path(path).read_text().replace(",", " ")
    try:
        return np.unique(np.array([int(word) for word in text.split()], np.int64))
    except ValueError as error:
        raise MeshFileError(f"{path}: a list of whole numbers is needed ({error})") from error


def read_masks(path):
    """{region: ids} of FLAME_masks.pkl."""
    with open(path, "rb") as file:
        try:
            masks = safe_pickle.load(file)
        except safe_pickle.UnsafePickleError as error:
            raise MeshFileError(f"{path}: {error}") from error
    return {str(name): np.unique(np.asarray(ids, np.int64)) for name, ids in masks.items()}
