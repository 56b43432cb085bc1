"""Widget parts of the NeedleTracking module. What they do lies in IRAILib.scene and IRAILib.link."""
