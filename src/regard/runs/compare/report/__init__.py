"""What a comparison found, as files: a page that can be sent alone, pictures, tables and data."""

from regard.runs.compare.report.page import write_comparison

__all__ = ["write_comparison"]
