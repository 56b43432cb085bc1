"""Trains the ultrasound needle network on the simulator: `python -m IRAILib.needle.ultrasound.training`."""
