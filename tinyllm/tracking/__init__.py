"""What happened in a run: written to a local journal first, sent to MLflow by a process of its own.

The trainer only appends lines to a file. A follower process reads them and talks to MLflow, so that
a slow or absent server costs training nothing; what it could not send, the next one sends. MLflow
drops a metric that it already has with the same step, time and value, and the journal holds the
times: sending a line twice does no harm.
"""
