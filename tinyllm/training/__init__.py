"""Training: takes batches and a model, produces weights."""
