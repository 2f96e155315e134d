"""Working with finished runs and models; the only package that uses DVC."""
