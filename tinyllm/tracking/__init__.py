"""Tracking of runs: written to a local journal first, then sent to MLflow by a separate process.

The trainer only appends lines to a file. A follower process reads them and sends them to MLflow, so
a slow or unreachable server does not delay training; the next follower sends what is left. Sending
a line twice is safe: MLflow ignores a metric that it already has with the same step, time and
value, and the journal records the times.
"""
