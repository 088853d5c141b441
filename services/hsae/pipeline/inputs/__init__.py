"""The inputs of jobs: registered data sets and stored taxonomies."""
