"""What is shown and recorded of a training; nothing here changes a result."""
