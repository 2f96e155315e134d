"""Saving a training and resuming it, to the bit; what makes it the same training."""
