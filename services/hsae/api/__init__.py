"""The public Python API: what `import hsae` offers. Everything else may change without notice."""
