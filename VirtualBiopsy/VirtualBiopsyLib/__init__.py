"""Widget parts of the VirtualBiopsy module. What they do lies in IRAILib.scene, IRAILib.biopsy and IRAILib.report."""
