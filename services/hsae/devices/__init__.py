"""What the computing parts know of devices: precision, determinism, memory and broken hardware."""
