"""The trained model as MLflow logs, loads and serves it.

`record.py` runs in the stage: it records what the model needs to be served. `pyfunc.py`,
`request.py` and `script.py` run in the server, from a copy of the code in the logged model.
"""
