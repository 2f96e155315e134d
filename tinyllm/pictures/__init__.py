"""Pictures for reports: the same bytes every time."""
