"""What several kinds of SAE share besides the rules of `SaeVariant`; no kind is defined here."""
