"""Images of registered data sets for people to look at: read where the source keeps them, made small, and cached."""
