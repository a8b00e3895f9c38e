"""Pickles of other people's tools, read without running anything: arrays, plain containers, strings and numbers only.

    coeff = safe_pickle.loads(value)            # bytes of a pickle, protocols 0 to 5, of Python 2 or 3
    table = safe_pickle.load_npy("clip.npy")    # a npy file, arrays of objects included
    model = safe_pickle.load(file, records=("scipy.sparse",))   # objects of these packages become inert `Record`s

A pickle may call any function it names, so a name outside `ADMITTED` is refused before anything is called. The state of an
array or of its type is checked too, since NumPy itself believes it: raw bytes taken for objects would be raw pointers. What
is admitted cannot be given a state of its own either, so no pickle changes what the next one meets.
"""

import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np

PLAIN_TYPE = re.compile(r"[<>=|]?(?:[?]|[biufcSUO]\d*)")


class UnsafePickleError(ValueError):
    """A pickle that asks for more than arrays and plain values, or is damaged."""


class Record:
    """An object of a package that is named in `records`: its attributes without its code. was: name of its class."""

    was = ""

    def __new__(cls, *_arguments):
        return super().__new__(cls)

    def __setstate__(self, state):
        for part in state if isinstance(state, tuple) else (state,):
            if part is not None and not isinstance(part, dict):
                raise UnsafePickleError(f"the state of a {self.was} is a {type(part).__name__}, no dict of attributes")
            self.__dict__.update({str(name): value for name, value in (part or {}).items()})


class _Maker:
    """A function that a pickle may call and do nothing else with."""

    __slots__ = ("function",)

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)

    def __setstate__(self, state):
        raise UnsafePickleError("the pickle gives a state to a function")


class _Type:
    """A NumPy type while it is unpickled: the code and the order of bytes of a simple type, nothing else of its state."""

    def __init__(self, code, *_flags):
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not PLAIN_TYPE.fullmatch(code):
            raise UnsafePickleError(f"an array of type {code!r} came, simple numbers, strings and objects are admitted")
        self.type = np.dtype(code)

    def __setstate__(self, state):
        _version, order, base, names, fields, *_sizes = state
        if base is not None or names is not None or fields is not None:
            raise UnsafePickleError("an array of records came, simple numbers, strings and objects are admitted")
        self.type = self.type.newbyteorder(_raw(order).decode("latin1"))


class _Array(np.ndarray):
    """An array while it is unpickled."""

    def __setstate__(self, state):
        _version, shape, kind, is_fortran, data = state
        _checked_shape(shape, kind)
        if kind.type.hasobject:
            if not isinstance(data, list) or len(data) != math.prod(shape):
                raise UnsafePickleError(f"an array of {shape} objects came without its list of them")
        else:
            data = _raw(data)
            if len(data) != math.prod(shape) * kind.type.itemsize:
                raise UnsafePickleError(f"{len(data)} bytes came for an array {shape} of {kind.type}")
        super().__setstate__((1, shape, kind.type, bool(is_fortran), data))


def _checked_shape(shape, kind):
    if not isinstance(kind, _Type) or not isinstance(shape, tuple):
        raise UnsafePickleError("an array came without its shape or type")
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise UnsafePickleError(f"an array of shape {shape} came")


def _raw(data):
    """Bytes; what Python 2 wrote as str comes as text of as many letters."""
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _empty_array(subtype, _shape, _code):
    if subtype is not _Array:
        raise UnsafePickleError(f"a subclass {subtype!r} of arrays came")
    return _Array(0)


def _array_from_buffer(data, kind, shape, order="C"):
    _checked_shape(shape, kind)
    if kind.type.hasobject:
        raise UnsafePickleError("an array of objects came as bytes")
    return np.frombuffer(data, kind.type).reshape(shape, order=order).copy(order)


def _scalar(kind, data=None):
    if not isinstance(kind, _Type) or kind.type.hasobject:
        raise UnsafePickleError("a number of NumPy's came without a simple type")
    return np.frombuffer(_raw(data), kind.type, count=1)[0]


def _encode(text, encoding="latin1"):
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError(f"text in {encoding!r} came, bytes are pickled as latin1")
    return text.encode("latin1")


ADMITTED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Maker(_encode),
    ("collections", "OrderedDict"): OrderedDict,
}
# NumPy moved its core at version 2, Python its builtins at version 3
for _core in ("numpy.core", "numpy._core"):
    ADMITTED[_core + ".multiarray", "_reconstruct"] = _Maker(_empty_array)
    ADMITTED[_core + ".multiarray", "scalar"] = _Maker(_scalar)
    ADMITTED[_core + ".numeric", "_frombuffer"] = _Maker(_array_from_buffer)
for _builtins in ("builtins", "__builtin__"):
    for _kind in (complex, set, frozenset, bytearray, bytes):
        ADMITTED[_builtins, _kind.__name__] = _kind


BASES = (("builtins", "object"), ("__builtin__", "object"))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, records=()):
        super().__init__(file, encoding="latin1")
        self._packages, self._records = tuple(records), {}

    def find_class(self, module, name):
        if any(module == package or module.startswith(package + ".") for package in self._packages):
            return self._records.setdefault((module, name), type("Record", (Record,), {"was": name}))
        if self._packages and (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return _Maker(self._rebuild)
        if (module, name) in BASES and self._packages:
            return object
        if (module, name) not in ADMITTED:
            raise UnsafePickleError(
                f"the pickle asks for {module}.{name}; only arrays, plain containers, strings and numbers are admitted: "
                "save its content as such"
            )
        return ADMITTED[module, name]

    def _rebuild(self, kind, base, _state):
        """How protocols 0 and 1 make objects: records only."""
        if kind not in self._records.values() or base is not object:
            raise UnsafePickleError(
                f"the pickle rebuilds {kind!r} from {base!r}, only objects without a base are admitted"
            )
        return kind()


def load(file, records=()):
    """Unpickle from an open binary file, where only arrays, plain containers, strings and numbers are admitted.

    Text of Python 2 is taken for latin1, as everybody's `encoding="latin1"` does.
    records: names of packages whose objects become `Record`s, whatever their classes do.
    """
    try:
        return _plain(_Unpickler(file, records).load())
    except UnsafePickleError:
        raise
    # what damaged or malicious bytes can make of the constructors above and of the unpickler itself
    except (
        pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError, IndexError, KeyError, MemoryError,
        RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise UnsafePickleError(f"the pickle is damaged or no pickle ({type(error).__name__}: {error})") from error


def loads(data, records=()):
    """`load` of bytes."""
    return load(io.BytesIO(data), records)


def load_npy(source, records=()):
    """A npy file (path, bytes or open binary file) -> array; one of objects goes through `load`."""
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    if not hasattr(source, "read"):
        with open(Path(source), "rb") as file:
            return load_npy(file, records)
    try:
        start = source.tell()
        version = np.lib.format.read_magic(source)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise UnsafePickleError(f"a npy file of version {version} came, 1 to 3 are read")
        # version 3 differs from 2 in letters outside ASCII in the names of fields, which an array of objects has none of
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        kind = header(source)[2]
        if kind.hasobject:
            value = load(source, records)
            if not isinstance(value, np.ndarray):
                raise UnsafePickleError(f"a {type(value).__name__} came where the npy file says an array is")
            return value
        source.seek(start)
        return np.load(source, allow_pickle=False)
    except (ValueError, EOFError) as error:
        if isinstance(error, UnsafePickleError):
            raise
        raise UnsafePickleError(f"not a whole npy file ({error})") from error


def dumps(value):
    """Pickle for other people's tools: protocol 2, NumPy's core under the name that versions 1 and 2 both know."""
    data = pickle.dumps(value, protocol=2)
    pieces, end = [], 0
    for opcode, argument, start in pickletools.genops(data):
        if opcode.name == "GLOBAL" and argument.startswith("numpy._core."):
            pieces += [data[end:start], b"cnumpy.core."]
            end = start + len(b"cnumpy._core.")
    return b"".join([*pieces, data[end:]])


def dump_npy(value):
    """Bytes of a npy file that holds one object (a dict, say), as `np.save` does, pickled by `dumps`."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + dumps(np.array(value, dtype=object))


def _plain(value):
    """The same value with plain arrays and types in place of those of the unpickling."""
    if isinstance(value, np.ndarray):
        value = value.view(np.ndarray)
        if value.dtype.hasobject:
            for place in np.ndindex(value.shape):
                value[place] = _plain(value[place])
        return value
    if isinstance(value, _Type):
        return value.type
    if isinstance(value, dict):
        for key in value:
            value[key] = _plain(value[key])
        return value
    if isinstance(value, list):
        value[:] = [_plain(item) for item in value]
        return value
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, Record):
        value.__dict__.update({name: _plain(item) for name, item in value.__dict__.items()})
        return value
    if isinstance(value, type) or callable(value):
        raise UnsafePickleError(f"the pickle holds {value!r} itself, which is no value")
    return value
