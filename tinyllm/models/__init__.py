"""The network, its kernels, its form for reading and writing, its scores, the folder it is in."""
