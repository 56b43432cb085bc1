"""One dataclass a message type of OpenIGTLink, and the way between them and frames."""
