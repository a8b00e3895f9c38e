"""Arrays out of files that TensorFlow wrote, read without TensorFlow: frozen graphs, memory-mapped graphs, checkpoints.

    read_arrays("deepspeech-0.9.3-models.pbmm", wanted)     # graph whose constants lie beside it in the same file
    read_arrays("output_graph.pb", wanted)                  # frozen graph: constants in the nodes
    read_arrays("checkpoint/best_dev-1466475", wanted)      # <prefix>.index and <prefix>.data-0000i-of-0000n

Only float32 tensors are given. A graph is a protocol buffer `GraphDef`. A memory-mapped one ends in the position (8 bytes,
little endian) of a directory of named regions. A checkpoint's index is a sorted string table of LevelDB's form, its
values `BundleEntryProto`.
"""

import struct
from pathlib import Path

import numpy as np

from .weights import WeightsError

FLOAT32 = 1  # DT_FLOAT
REGION_PREFIX = "memmapped_package://"
GRAPH_REGION = "."
TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48


class _DamageError(ValueError):
    """Bytes that are not what the format has there."""


def read_arrays(path, wanted) -> dict[str, np.ndarray]:
    """The float32 tensors named in `wanted` that a file holds; those it lacks are simply absent."""
    path = Path(path)
    is_checkpoint = path.with_name(path.name + ".index").is_file()
    if not is_checkpoint and not path.is_file():
        raise WeightsError(f"{path}: missing; a .pb or .pbmm file or the prefix of a checkpoint is needed")
    try:
        if is_checkpoint:
            return _read_checkpoint(path, set(wanted))
        data = memoryview(path.read_bytes())
        regions = _regions(data)
        return _read_graph(regions.get(GRAPH_REGION, data), regions, set(wanted))
    except (_DamageError, LookupError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise WeightsError(f"{path}: not a TensorFlow graph or checkpoint, or a damaged one: {error}") from error


# ---------------------------------------------------------------------------------------------------- graphs


def _read_graph(graph, regions, wanted):
    arrays = {}
    for field, node in _fields(graph):
        if field != 1:
            continue
        parts = _group(node)
        name, op = _text(parts, 1), _text(parts, 2)
        if name in wanted and op in ("Const", "ImmutableConst"):
            attributes = dict(_attribute(entry) for entry in parts.get(5, ()))
            read = _constant if op == "Const" else _immutable
            arrays[name] = read(name, attributes, regions)
    return arrays


def _attribute(entry):
    parts = _group(entry)
    return _text(parts, 1), _group(parts[2][0])


def _constant(name, attributes, regions):
    tensor = _group(attributes["value"][8][0])
    shape = _shape(tensor[2][0]) if 2 in tensor else ()
    _check_type(name, tensor.get(1, [0])[0])
    if 4 in tensor:
        return _array(name, tensor[4][0], shape)
    # few numbers are written one by one, packed or not; the last one stands for all that follow
    packed = b"".join(bytes(v) if isinstance(v, memoryview) else struct.pack("<I", v) for v in tensor.get(5, ()))
    values = np.frombuffer(packed, "<f4") if packed else np.zeros(1, np.float32)
    filled = np.full(int(np.prod(shape)), values[-1], np.float32)
    filled[: len(values)] = values[: len(filled)]
    return filled.reshape(shape)


def _immutable(name, attributes, regions):
    _check_type(name, attributes["dtype"][6][0])
    region = bytes(attributes["memory_region_name"][2][0]).decode().removeprefix(REGION_PREFIX)
    shape = _shape(attributes["shape"][7][0])
    if region not in regions:
        raise _DamageError(f"{name} lies in the region {region}, which the file lacks: it is damaged")
    return _array(name, regions[region][: 4 * int(np.prod(shape))], shape)


def _regions(data):
    """{name: bytes} of a memory-mapped package; empty for a plain graph."""
    if len(data) < 8:
        return {}
    (start,) = struct.unpack_from("<Q", data, len(data) - 8)
    if not 0 < start < len(data) - 8:
        return {}
    found = []
    try:
        for field, element in _fields(data[start:-8]):
            parts = _group(element)
            if field != 1 or 2 not in parts:
                return {}
            name = _text(parts, 2).removeprefix(REGION_PREFIX)
            found.append((parts.get(1, [0])[0], name, parts.get(3, [0])[0]))
    except (IndexError, UnicodeDecodeError, _DamageError, TypeError):
        return {}  # the last eight bytes of a plain graph can be any number
    found.sort()
    # older files say no lengths: a region then lasts until the next one
    ends = [offset for offset, *_ in found[1:]] + [start]
    return {
        name: data[offset : offset + length if length else end]
        for (offset, name, length), end in zip(found, ends, strict=False)
    }


# ---------------------------------------------------------------------------------------------------- checkpoints


def _read_checkpoint(prefix, wanted):
    arrays = {}
    for name, (kind, shape, shard, n_shards, offset, size) in _checkpoint_entries(prefix).items():
        if name in wanted:
            _check_type(name, kind)
            part = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{n_shards:05d}")
            if not part.is_file():
                raise _DamageError(f"{part}: missing; it belongs beside {prefix.name}.index")
            with part.open("rb") as file:
                file.seek(offset)
                arrays[name] = _array(name, file.read(size), shape)
    return arrays


def _checkpoint_entries(prefix):
    """{name: (dtype, shape, shard, number of shards, offset, bytes)}."""
    table = memoryview(prefix.with_name(prefix.name + ".index").read_bytes())
    n_shards, entries = 1, {}
    for key, value in _table_items(table):
        parts = _group(value)
        if key == "":  # the header comes first
            n_shards = parts.get(1, [1])[0]
            continue
        shape = _shape(parts[2][0]) if 2 in parts else ()
        entries[key] = (
            parts.get(1, [0])[0], shape, parts.get(3, [0])[0], n_shards, parts.get(4, [0])[0], parts.get(5, [0])[0]
        )  # fmt: skip
    return entries


def _table_items(table):
    """(key, value) of a sorted string table in order."""
    footer = table[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or struct.unpack_from("<Q", footer, FOOTER_BYTES - 8)[0] != TABLE_MAGIC:
        raise _DamageError("its end is not that of an index")
    at = _varint(footer, _varint(footer, 0)[1])[1]  # past the handle of the block of filters
    for _, handle in _block_items(table, footer[at:]):
        for key, value in _block_items(table, handle):
            yield key.decode(), value


def _block_items(table, handle):
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    if table[offset + size] != 0:
        raise _DamageError("its index is compressed, which those of DeepSpeech are not")
    block = table[offset : offset + size]
    (n_restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end, at, key = len(block) - 4 - 4 * n_restarts, 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + bytes(block[at : at + own])
        yield key, block[at + own : at + own + length]
        at += own + length


# ---------------------------------------------------------------------------------------------------- wire format


def _fields(data):
    """(number, value) of each field of a message: an int for varint and fixed ones, else a memoryview."""
    at, data = 0, memoryview(data)
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise _DamageError(f"a field of {length} bytes at {at} reaches beyond the end")
            value, at = data[at : at + length], at + length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value, at = int.from_bytes(data[at : at + width], "little"), at + width
        else:
            raise _DamageError(f"a field of kind {kind} at byte {at}")
        yield tag >> 3, value


def _group(data):
    """{number: [values]} of a message."""
    groups = {}
    for field, value in _fields(data):
        groups.setdefault(field, []).append(value)
    return groups


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7


def _text(parts, field):
    return bytes(parts[field][0]).decode() if field in parts else ""


def _shape(data):
    return tuple(_group(dim).get(1, [0])[0] for dim in _group(data).get(2, ()))


def _check_type(name, kind):
    if kind != FLOAT32:
        raise _DamageError(f"{name} is of TensorFlow's type {kind}, {FLOAT32} (float32) is needed")


def _array(name, data, shape):
    if len(data) != 4 * int(np.prod(shape)):
        raise _DamageError(f"{name}: {len(data)} bytes for the shape {shape}: the file is cut off")
    return np.frombuffer(data, "<f4").reshape(shape).copy()
