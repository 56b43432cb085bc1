"""Floor 3: X-ray frames: catheter and guide-wire."""
