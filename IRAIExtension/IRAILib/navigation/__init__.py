"""Floor 3: calibration of tools, probes and clocks; where a plan lies in the live image. Millimetres, seconds."""
