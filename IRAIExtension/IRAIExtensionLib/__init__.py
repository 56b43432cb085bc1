"""Parts of the IRAI home module."""
