"""Measured: speed and memory beside other tools, the kill storm, and what the findings say."""
