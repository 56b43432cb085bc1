"""Which OpenGL draws without a display: EGL where a device answers, else OSMesa, else an error with the line."""

from __future__ import annotations

import ctypes
import os
import sys

from .errors import HeadlessUnavailableError

VARIABLE = "VTK_DEFAULT_OPENGL_WINDOW"
EGL_WINDOW = "vtkEGLRenderWindow"
OSMESA_WINDOW = "vtkOSOpenGLRenderWindow"
OSMESA_LIBRARIES = ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")
EGL_PLATFORM_DEVICE = 0x313F
MAX_EGL_DEVICES = 16
INSTALL_LINE = "apt-get install -y libegl1 libgl1-mesa-dri   (or: apt-get install -y libosmesa6)"


def choose_render_window() -> str:
    """Set $VTK_DEFAULT_OPENGL_WINDOW for a machine without a window system; gives what was chosen, "" for VTK's own.

    An existing value is kept. Only Linux needs it: on macOS and Windows VTK draws off screen by itself.
    """
    if not sys.platform.startswith("linux") or os.environ.get(VARIABLE):
        return os.environ.get(VARIABLE, "")
    chosen = EGL_WINDOW if has_egl() else OSMESA_WINDOW if has_osmesa() else ""
    if chosen:
        os.environ[VARIABLE] = chosen
    return chosen


def require_rendering() -> None:
    """Raises HeadlessUnavailableError, with the apt line, where nothing can draw."""
    if sys.platform.startswith("linux") and not choose_render_window() and not os.environ.get("DISPLAY"):
        raise HeadlessUnavailableError(f"pictures can't be rendered: no EGL device, no OSMesa and no display; "
                                       f"type: {INSTALL_LINE}")


def has_egl() -> bool:
    """Whether an EGL device can be initialised, as VTK does it: hardware, or Mesa's llvmpipe."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    query = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    platform_display = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query or not platform_display:
        return False
    devices, count = (ctypes.c_void_p * MAX_EGL_DEVICES)(), ctypes.c_int()
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(query)
    get_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(platform_display)
    if not query_devices(MAX_EGL_DEVICES, devices, ctypes.addressof(count)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p] * 3
    egl.eglTerminate.argtypes = [ctypes.c_void_p]
    for device in devices[:count.value]:
        display = get_display(EGL_PLATFORM_DEVICE, device, None)
        if display and egl.eglInitialize(display, None, None):
            egl.eglTerminate(display)
            return True
    return False


def has_osmesa() -> bool:
    """Whether the OSMesa library can be loaded."""
    for library in OSMESA_LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False
