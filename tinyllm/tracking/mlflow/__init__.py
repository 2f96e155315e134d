"""Sending journals to MLflow."""
