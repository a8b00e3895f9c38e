"""Pickles that are admitted come back as NumPy's own loader gives them; anything that could run is refused by name."""

import io
import pickle
import pickletools
import struct
from collections import OrderedDict

import numpy as np
import pytest
from scipy import sparse

from deep_3drecon import safe_pickle
from deep_3drecon.safe_pickle import Record, UnsafePickleError

VALUES = {
    "float": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(4, dtype=">i4"),
    "bool": np.array([True, False]),
    "text": np.array(["a", "öl"]),
    "objects": np.array([1, "two", np.ones(2)], dtype=object),
    "empty": np.zeros((0, 257), np.float32),
    "number": np.float64(2.5),
    "containers": [{"a": (1, 2.5, None, b"\x00\xff", True)}, {3, 4}, OrderedDict(x=1), "text", 1 + 2j],
}


def same(a, b):
    if isinstance(a, np.ndarray):
        if type(a) is not type(b) or a.dtype.newbyteorder("=") != b.dtype.newbyteorder("=") or a.shape != b.shape:
            return False
        return all(map(same, a.flat, b.flat))
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", VALUES)
def test_plain_values_come_back_at_every_protocol(name, protocol):
    back = safe_pickle.loads(pickle.dumps(VALUES[name], protocol=protocol))
    assert same(back, VALUES[name])


def test_nested_arrays_are_plain_arrays():
    back = safe_pickle.loads(pickle.dumps({"a": [np.ones(2)], "b": (np.zeros(1),)}))
    assert type(back["a"][0]) is np.ndarray and type(back["b"][0]) is np.ndarray
    assert back["a"][0].flags.writeable


def test_an_array_pickled_by_python_2_is_read():
    """Bytes as Python 2.7 with NumPy 1.16 writes them: protocol 2, its str as opcode U, its core under the old name."""
    data = np.array([1.5, -2.0], "<f4").tobytes()
    stream = (
        b"\x80\x02}q\x00U\x05coeffq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04U\x01b"
        b"q\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f4q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNNJ"
        b"\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U" + struct.pack("B", len(data)) + data + b"q\x0ftq\x10bs."
    )
    assert same(safe_pickle.loads(stream), {"coeff": np.array([1.5, -2.0], "<f4")})
    assert same(pickle.loads(stream, encoding="latin1"), safe_pickle.loads(stream))


class Runs:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize("protocol", range(6))
def test_what_could_run_is_refused_by_its_name(protocol):
    with pytest.raises(UnsafePickleError, match=r"eval"):
        safe_pickle.loads(pickle.dumps([np.ones(2), Runs()], protocol=protocol))


@pytest.mark.parametrize(
    "name", ["os system", "builtins getattr", "numpy load", "numpy.core.multiarray fromfile", "copyreg _reconstructor"]
)
def test_other_names_are_refused_before_they_are_looked_up(name):
    module, attribute = name.split()
    with pytest.raises(UnsafePickleError, match=f"{module}.{attribute}"):
        safe_pickle.loads(f"c{module}\n{attribute}\n.".encode())


def test_an_admitted_name_is_not_a_value():
    with pytest.raises(UnsafePickleError):
        safe_pickle.loads(b"cnumpy\nndarray\n.")


def rewritten(value, edit):
    """Pickle of an array whose state went through `edit`."""

    class Edited:
        def __reduce__(self):
            function, arguments, state = value.__reduce__()
            return function, arguments, edit(state)

    return pickle.dumps(Edited(), protocol=2)


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: (s[0], s[1], np.dtype("O"), s[3], s[4]),  # bytes taken for pointers
        lambda s: (s[0], (10**9,), s[2], s[3], s[4]),  # more than the bytes hold
        lambda s: (s[0], (-1,), s[2], s[3], s[4]),
        lambda s: (s[0], s[1], np.dtype([("a", "<f4")]), s[3], s[4]),
        lambda s: s[:3],
    ],
)
def test_states_that_numpy_would_believe_are_refused(edit):
    with pytest.raises(UnsafePickleError):
        safe_pickle.loads(rewritten(np.ones(4, np.float32), edit))


def test_every_cut_of_a_pickle_is_refused():
    data = pickle.dumps(VALUES["containers"] + [VALUES["float"]], protocol=2)
    for n in range(0, len(data), 7):
        with pytest.raises(UnsafePickleError):
            safe_pickle.loads(data[:n])


def test_changed_bytes_never_do_more_than_fail():
    rng = np.random.default_rng(0)
    data = bytearray(pickle.dumps({"a": VALUES["float"], "b": VALUES["objects"]}, protocol=2))
    for _ in range(2000):
        copy = bytearray(data)
        copy[rng.integers(len(copy))] = rng.integers(256)
        try:
            safe_pickle.loads(bytes(copy))
        except UnsafePickleError:
            pass


@pytest.mark.parametrize("name", ["float", "objects", "text", "fortran"])
def test_npy_files_as_numpy_writes_them(tmp_path, name):
    np.save(tmp_path / "a.npy", VALUES[name])
    assert same(safe_pickle.load_npy(tmp_path / "a.npy"), VALUES[name])
    assert same(safe_pickle.load_npy((tmp_path / "a.npy").read_bytes()), VALUES[name])


def test_a_dict_in_a_npy_file(tmp_path):
    np.save(tmp_path / "a.npy", {"coeff": np.ones((2, 257), np.float32)})
    assert safe_pickle.load_npy(tmp_path / "a.npy").item()["coeff"].shape == (2, 257)
    with open(tmp_path / "b.npy", "wb") as file:
        np.save(file, np.array(Runs(), dtype=object))
    with pytest.raises(UnsafePickleError, match="eval"):
        safe_pickle.load_npy(tmp_path / "b.npy")
    with pytest.raises(UnsafePickleError):
        safe_pickle.load_npy(io.BytesIO(b"no npy at all"))


@pytest.mark.parametrize("name", VALUES)
def test_what_is_written_for_others_is_read_by_everybody(tmp_path, name):
    data = safe_pickle.dumps(VALUES[name])
    assert b"numpy._core" not in data
    assert same(pickle.loads(data), VALUES[name]) and same(safe_pickle.loads(data), VALUES[name])
    (tmp_path / "a.npy").write_bytes(safe_pickle.dump_npy({"a": VALUES[name]}))
    assert same(np.load(tmp_path / "a.npy", allow_pickle=True).item(), {"a": VALUES[name]})
    assert same(safe_pickle.load_npy(tmp_path / "a.npy").item(), {"a": VALUES[name]})


def test_the_streams_of_this_test_hold_the_opcodes_they_claim():
    names = {op.name for op, _, _ in pickletools.genops(pickle.dumps(VALUES["float"], protocol=0))}
    assert "GLOBAL" in names and "BUILD" in names


def test_what_is_admitted_keeps_its_own_state():
    """A pickle may call these names, not change what they do for the next one."""
    for name in (
        "_codecs encode",
        "numpy.core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
        "collections OrderedDict",
    ):
        module, attribute = name.split()
        change = f"c{module}\n{attribute}\n".encode() + b"(N(S'__doc__'\nS'changed'\nS'other'\nI1\ndtb."
        with pytest.raises(UnsafePickleError):
            safe_pickle.loads(change)
    assert same(safe_pickle.loads(pickle.dumps(VALUES["float"], protocol=2)), VALUES["float"])


@pytest.mark.parametrize("protocol", range(6))
def test_objects_of_a_named_package_become_records(protocol):
    matrix = sparse.csc_matrix(np.diag([1.0, 2.0]))
    data = pickle.dumps({"m": matrix}, protocol)
    with pytest.raises(UnsafePickleError, match="scipy.sparse|reconstructor"):
        safe_pickle.loads(data)
    record = safe_pickle.loads(data, records=("scipy.sparse",))["m"]
    assert isinstance(record, Record) and record.was == "csc_matrix"
    assert type(record.data) is np.ndarray and record.data.tolist() == [1.0, 2.0] and tuple(record._shape) == (2, 2)
    with pytest.raises(UnsafePickleError):  # neither a package that only begins alike nor one within another
        safe_pickle.loads(data, records=("scip", "sparse"))


def test_a_record_runs_nothing_and_takes_attributes_only():
    loads = lambda text: safe_pickle.loads(text, records=("os",))  # noqa: E731
    assert loads(b"cos\nsystem\n(S'touch x'\ntR.").was == "system"
    assert loads(b"cos\nsystem\n)\x81}S'a'\nI1\nsb.").a == 1
    for state in (b"I1\n", b"(I1\nt"):
        with pytest.raises(UnsafePickleError, match="no dict of attributes"):
            loads(b"cos\nsystem\n)\x81" + state + b"b.")
    with pytest.raises(UnsafePickleError, match="rebuilds"):
        loads(b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.")
