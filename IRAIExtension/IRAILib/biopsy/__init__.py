"""Floor 3: what image and chart say before the needle: quantities with units, clinical scores."""
