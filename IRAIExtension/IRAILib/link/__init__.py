"""Floor 2: OpenIGTLink: codec, client, server, replay, and the devices behind it. No Qt, no Slicer."""
