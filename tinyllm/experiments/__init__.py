"""Checking, verifying and repeating runs and models; uses DVC as a library.

Besides the stages, nothing else knows DVC: its commands, files and variables.
"""
