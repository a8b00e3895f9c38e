"""Names and bytes of the store."""

import io
import json
import pickle

import numpy as np
import pytest

from data_process import schema
from data_process.schema import StoreError
from tests.data_process import made


def test_arrays_come_back_bit_for_bit():
    for array in (np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32), np.zeros((0, 40), np.float32)):
        back = schema.unpack_array(schema.pack_array(array))
        assert back.dtype == array.dtype and np.array_equal(back, array)


def test_equal_arrays_are_equal_bytes_whatever_their_layout():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert schema.pack_array(array) == schema.pack_array(np.asfortranarray(array))


def test_pickled_content_is_refused():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for data in (buffer.getvalue(), pickle.dumps(np.zeros(3))):
        with pytest.raises(StoreError, match="not a npy file"):
            schema.unpack_array(data)


def test_a_track_comes_back_and_its_valid_can_be_read_alone():
    track = made.track(9, invalid=(2, 3))
    data = schema.pack_track(track)
    back = schema.unpack_track(data)
    assert np.array_equal(back.coeff, track.coeff) and back.face_model == "open"
    assert np.array_equal(schema.unpack_valid(data), track.valid)
    assert data == schema.pack_track(track), "equal tracks must be equal bytes"


def test_names_of_databases_and_keys():
    assert schema.database("test", "lm5") == b"test_lm5"
    assert schema.clip_key(12) == b"12"
    assert schema.frame_key(3, 7) < schema.frame_key(3, 10) < schema.frame_key(3, 123456)
    for split, record in (("valid", "video"), ("train", "uv")):
        with pytest.raises(StoreError, match="no database"):
            schema.database(split, record)
    assert len(schema.SPLITS) * len(schema.RECORDS) + 2 <= schema.MAX_DBS


def test_style_vector_has_the_order_of_the_parts():
    statistics = {
        "mean_exp": [5.0, 5],
        "std_exp": [1.0, 1],
        "std_pose": [4.0],
        "std_exp_change": [2.0, 2],
        "std_pose_change": [3],
    }
    assert schema.style_vector(statistics).tolist() == [1, 1, 2, 2, 3, 4, 5, 5]
    assert list(schema.style_sizes(statistics).values()) == [2, 2, 1, 1, 2]


def test_json_is_the_same_for_the_same_content():
    assert schema.pack_json({"b": 1, "a": "ö"}) == schema.pack_json(json.loads(schema.pack_json({"a": "ö", "b": 1})))
