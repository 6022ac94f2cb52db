"""`python -m regard` is the `regard` command."""

from regard.cli import main

if __name__ == "__main__":  # processes that multiprocessing starts import this file, too
    main()
