"""What an SAE is compared with: other bases, thinned like it, and shuffles."""
