"""Networks, one module an architecture; what they are made of, and the model folder."""
