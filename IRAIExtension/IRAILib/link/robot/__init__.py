"""The MRI-guided prostate-robot protocol: state machines of both sides, a session, tip forwarding, a simulated robot."""
