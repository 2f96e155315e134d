"""Programs that do a piece of work when told to, and say how fast it went."""
