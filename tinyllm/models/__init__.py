"""Networks, one module per architecture, their operations, and the model folder."""
