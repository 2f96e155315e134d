"""Checking, verifying and repeating runs and models; uses DVC as a library."""
