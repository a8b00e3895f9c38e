"""Files on disk to tensors and back: video, landmarks, clips, LMDB, datasets, statistics."""
