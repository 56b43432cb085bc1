"""Widget parts of the FusionNav module. What they do lies in IRAILib.scene, IRAILib.navigation and IRAILib.link."""
