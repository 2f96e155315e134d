"""What every vocabulary begins and ends with."""

N_BYTES = 256  # a token for each value of a byte
END_OF_TEXT = "<|endoftext|>"  # the token that ends every document
