"""The local cloud: the emulator ministack, patched, and stand-ins for the services that it lacks."""
