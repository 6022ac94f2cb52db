"""The example corpus that the package generates: English–Chinese sentences with their gold word alignment."""

from regard.data.example.corpus import CATEGORIES, ExampleCorpus, ExamplePair, example_pairs
from regard.data.example.folder import RECIPE, write_example

__all__ = ["CATEGORIES", "RECIPE", "ExampleCorpus", "ExamplePair", "example_pairs", "write_example"]
