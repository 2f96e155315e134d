"""The settings of params.yaml, one module per section; `load` reads and checks all of them."""
