"""Generated files in the true forms and sizes of VOCASET, BIWI and 3D-MEAD: lips of the mesh follow the loudness of a tone."""

import pickle
import struct

import numpy as np
import soundfile

from data_process.meshes_splits import VOCASET


def tone(seconds, rate=22000, seed=0):
    """A voice-like tone that comes and goes three times a second, and its loudness at any time."""
    time = np.arange(int(seconds * rate)) / rate
    loud = 0.5 - 0.5 * np.cos(2 * np.pi * (3 * time + 0.1 * seed))
    return (0.3 * loud * np.sin(2 * np.pi * (130 + 20 * seed) * time)).astype(np.float32)


def moving(n_frames, fps, n_vertices, template, gain, unit, seed):
    """(T, V, 3): some vertices fall with the loudness, by `gain` times 10 mm."""
    time = np.arange(n_frames) / fps
    loud = 0.5 - 0.5 * np.cos(2 * np.pi * (3 * time + 0.1 * seed))
    field = np.zeros((n_vertices, 3), np.float32)
    field[3400 : 3400 + 250, 1] = -np.hanning(250) * 10 / unit
    field[: n_vertices // 2, 2] = 0.3 / unit
    return (template + gain * loud[:, None, None] * field).astype(np.float32)


def vocaset(folder, subjects=None, sentences=(1, 21), seconds=1.0):
    """The four raw files; subjects of all three splits."""
    subjects = subjects or [VOCASET[split][k] for split, k in (("train", 0), ("train", 1), ("val", 0), ("test", 0))]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    verts, rows, sound, templates = [], {}, {}, {}
    n = 0
    for s, subject in enumerate(subjects):
        templates[subject] = rng.normal(0, 0.08, (5023, 3))
        templates[subject][3504, 1] = templates[subject][3546, 1] - 0.002
        rows[subject], sound[subject] = {}, {}
        for k in sentences:
            motion = moving(int(60 * seconds), 60, 5023, templates[subject], 0.7 + 0.2 * s, 1000, k)
            rows[subject][f"sentence{k:02d}"] = {t: n + t for t in range(len(motion))}
            sound[subject][f"sentence{k:02d}"] = {
                "audio": (32767 * tone(seconds, seed=k)).astype(np.int16), "sample_rate": 22000,
            }  # fmt: skip
            verts.append(motion)
            n += len(motion)
    np.save(folder / "data_verts.npy", np.concatenate(verts))
    for name, table in (("raw_audio_fixed", sound), ("templates", templates), ("subj_seq_to_idx", rows)):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(table, protocol=2))
    return folder


def biwi_raw(folder, subjects=("F2", "F1"), takes=(1, 37), seconds=0.6):
    """faces/, rigid_scans/ and audio/ of the original."""
    rng = np.random.default_rng(1)
    faces = np.stack([np.arange(23368), np.arange(1, 23369), np.arange(2, 23370)], 1)
    for s, subject in enumerate(subjects):
        template = rng.normal(0, 60, (23370, 3)).astype(np.float32)
        scan = folder / "rigid_scans" / f"{subject}.obj"
        scan.parent.mkdir(parents=True, exist_ok=True)
        text = [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in template] + [
            f"f {a + 1} {b + 1} {c + 1}" for a, b, c in faces
        ]
        scan.write_text("\n".join(text))
        for take in takes:
            place = folder / "faces" / subject / f"e{take:02d}"
            place.mkdir(parents=True, exist_ok=True)
            for t, frame in enumerate(moving(int(25 * seconds), 25, 23370, template, 1 + 0.2 * s, 1, take)):
                (place / f"frame_{t + 1:03d}.vl").write_bytes(struct.pack("<I", 23370) + frame.tobytes())
            (folder / "audio").mkdir(exist_ok=True)
            soundfile.write(folder / "audio" / f"{subject}_e{take:02d}.wav", tone(seconds, 44100, take), 44100)
    return folder


def biwi_arrays(folder, subjects=("F2", "F3", "F1"), takes=(1, 33, 37), seconds=0.6):
    """vertices_npy/, wav/ and templates.pkl as CodeTalker prepares them."""
    rng = np.random.default_rng(2)
    templates = {}
    for part in ("vertices_npy", "wav"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for s, subject in enumerate(subjects):
        templates[subject] = rng.normal(0, 0.4, (23370, 3)).astype(np.float32)
        for take in takes:
            motion = moving(int(25 * seconds), 25, 23370, templates[subject], 1 + 0.2 * s, 187.3, take)
            np.save(folder / "vertices_npy" / f"{subject}_e{take:02d}.npy", motion.reshape(len(motion), -1))
            soundfile.write(folder / "wav" / f"{subject}_e{take:02d}.wav", tone(seconds, 16000, take), 16000)
    (folder / "templates.pkl").write_bytes(pickle.dumps(templates, protocol=2))
    return folder


def flame_arrays(seed=3):
    """Arrays of a FLAME model file in their true sizes, low in rank."""
    rng = np.random.default_rng(seed)
    n = 5023
    weights = np.zeros((n, 5))
    weights[:, 1] = 1
    weights[3400:3700, 1], weights[3400:3700, 2] = 0.3, 0.7
    regressor = np.zeros((5, n))
    regressor[np.arange(5), [0, 10, 3300, 20, 30]] = 1
    template = rng.normal(0, 0.08, (n, 3))
    shapes = np.zeros((n, 3, 400), np.float32)
    shapes[3400:3700, :, 300:350] = rng.normal(0, 0.002, (300, 3, 50))
    pose = np.zeros((n, 3, 36), np.float32)
    pose[3400:3700, :, 9:18] = rng.normal(0, 0.001, (300, 3, 9))
    faces = np.stack([np.arange(9976) % 5000, np.arange(9976) % 5000 + 11, np.arange(9976) % 5000 + 22], 1)
    names = ("v_template", "shapedirs", "f", "J_regressor", "weights", "posedirs")
    return dict(zip(names, (template, shapes, faces, regressor, weights, pose), strict=True))


def mead(folder, speakers=("M003", "M005", "M035", "M037"), seconds=1.0, fps=25.0, numbers=(1, 2)):
    """SPEAKER_NUMBER.npz beside .wav."""
    folder.mkdir(parents=True, exist_ok=True)
    for s, speaker in enumerate(speakers):
        for k in numbers:
            n = int(fps * seconds)
            loud = 0.5 - 0.5 * np.cos(2 * np.pi * (3 * np.arange(n) / fps + 0.1 * k))
            pose = np.zeros((n, 6), np.float32)
            pose[:, 3] = (0.2 + 0.05 * s) * loud
            expression = np.zeros((n, 50), np.float32)
            expression[:, 0] = loud
            np.savez(folder / f"{speaker}_{k:03d}.npz", expression=expression, pose=pose)
            soundfile.write(folder / f"{speaker}_{k:03d}.wav", tone(seconds, 16000, k), 16000)
    return folder


def region_files(assets, biwi=True):
    """Region lists as the users bring them."""
    flame = assets / "flame"
    flame.mkdir(parents=True, exist_ok=True)
    masks = {
        "lips": np.arange(3400, 3650), "forehead": np.arange(100, 233), "eye_region": np.arange(200, 951),
        "face": np.arange(0, 4000),
    }  # fmt: skip
    (flame / "FLAME_masks.pkl").write_bytes(pickle.dumps(masks, protocol=2))
    if biwi:
        (assets / "biwi").mkdir(exist_ok=True)
        (assets / "biwi" / "lve.txt").write_text(", ".join(map(str, [*range(3400, 3650), 3400])))
        (assets / "biwi" / "fdd.txt").write_text(", ".join(map(str, range(100, 900))))
