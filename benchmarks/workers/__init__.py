"""Programs that do a piece of work on request and report its speed."""
