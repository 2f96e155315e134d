"""The network, its kernels, its scores and the folder it is saved in."""
