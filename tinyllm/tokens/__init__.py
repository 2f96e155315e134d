"""Documents in, token arrays out."""
