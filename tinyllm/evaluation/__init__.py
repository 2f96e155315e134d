"""How good a model is: scores, baselines, the test report."""
