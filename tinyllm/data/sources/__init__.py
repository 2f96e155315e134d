"""A corpus brought from where it is: by name, from the network, from files."""
