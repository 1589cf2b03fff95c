"""Notebooks through papermill, and the book that Jupyter Book makes of them."""
