"""Evaluating a model: scores, baselines, the test report."""
