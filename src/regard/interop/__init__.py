"""Models and files of other libraries."""
