"""Parts of the training loop `train_style.py`: what a run is built of, what it minimises, and what it writes."""
