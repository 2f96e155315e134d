"""Files in, documents out: how text lies in them, and what a raw folder holds."""
