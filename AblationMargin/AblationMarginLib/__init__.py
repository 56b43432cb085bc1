"""Widget parts of the AblationMargin module. What they do lies in IRAILib.scene."""
