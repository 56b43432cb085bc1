"""Floor 5: the library's steps on MRML nodes. The only room, with headless, that imports slicer."""
