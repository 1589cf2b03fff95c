"""Reading interaction data: named sources, published formats, tables of one's own, planted data."""
