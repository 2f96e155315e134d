"""Journals in, MLflow runs out."""
