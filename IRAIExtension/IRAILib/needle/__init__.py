"""Floor 3: where is the needle: ultrasound, MR, CT; track filter and simulators."""
