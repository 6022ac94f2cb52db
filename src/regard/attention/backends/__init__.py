"""Backends of `attend`, one file each; `contract.py` says what a backend is."""
