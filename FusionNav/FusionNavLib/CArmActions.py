"""What the buttons of step 6 do."""


class CArmActions:
    """Mixed into the logic."""
