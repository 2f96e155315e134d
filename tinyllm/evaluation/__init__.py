"""What the last stage says of a trained model."""
