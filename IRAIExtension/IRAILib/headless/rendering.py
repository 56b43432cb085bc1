"""Which OpenGL draws without a display: EGL where it is, else OSMesa, else an error with the line to type."""


def choose_render_window() -> None:
    """Placeholder until views are there."""
