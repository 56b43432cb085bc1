"""Trains the network that marks needle voids: `python -m IRAILib.needle.mr.training --scans FILE... --out FOLDER`."""
