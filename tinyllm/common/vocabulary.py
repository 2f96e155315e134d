"""Tokens that every vocabulary has."""

N_BYTES = 256  # one token for each byte value
END_OF_TEXT = "<|endoftext|>"  # the token that ends every document
