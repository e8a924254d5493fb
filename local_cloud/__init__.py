"""The local cloud: the emulator ministack with patches, and stand-ins for the AWS services that ministack lacks."""
