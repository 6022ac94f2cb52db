"""The command line."""

from regard.cli.app import app, main

__all__ = ["app", "main"]
