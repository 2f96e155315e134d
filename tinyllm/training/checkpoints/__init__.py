"""Saving and resuming a training with identical bits, and what identifies it."""
