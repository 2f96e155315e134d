"""Batches and a model in, weights out."""
