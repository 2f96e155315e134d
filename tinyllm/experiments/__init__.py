"""What is done with runs and models afterwards; the only package that knows DVC itself."""
