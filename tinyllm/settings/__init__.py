"""The settings of params.yaml, a module a section; `load` reads and checks them all."""
