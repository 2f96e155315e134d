"""`tinyllm sweep`: many trainings with varied settings, each an experiment of DVC."""
