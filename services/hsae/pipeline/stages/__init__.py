"""The stages: plain functions of (request, context) that make one kind of artifact each."""
