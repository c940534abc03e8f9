"""Readiness: one small function a check, and a registry that is read top to bottom."""
