"""Several models trained on the same data with the same budget, and one page that shows what each of them does."""
