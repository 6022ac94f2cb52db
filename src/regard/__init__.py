"""regard: build, train, run and see sequence models built on attention."""
