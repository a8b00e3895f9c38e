"""What `inference.py` is made of: options, sources, motion, drawing of a person, encoding, and `run`, which puts them together."""
