"""Floor 1: small trained networks, each with its card and the command that trained it; how they are loaded."""
