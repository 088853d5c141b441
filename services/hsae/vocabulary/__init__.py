"""Names that packages share which do not import each other, such as the scores and the catalog."""
