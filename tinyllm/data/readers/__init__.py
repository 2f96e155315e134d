"""Read documents from files of any format, and from the raw folder."""
