"""What a droplet's binaries depend on: noted when it is made, compared when it is started."""

import functools
import platform
import sys

__all__ = ["mismatch", "stack_fingerprint"]


@functools.cache
def stack_fingerprint() -> str:
    """Machine, libc and Python of this stack, such as `x86_64 glibc2.36 python3.11`."""
    libc = "".join(platform.libc_ver()) or "libc"
    return f"{platform.machine()} {libc} python{sys.version_info[0]}.{sys.version_info[1]}"


def mismatch(made_on: str) -> str:
    """A line for the app's log when a droplet was made on another stack, else an empty string.

    It is started nevertheless: a static site or a compiled program may not care.
    """
    here = stack_fingerprint()
    if made_on in ("", here):
        return ""
    return f"The droplet was made on another stack ({made_on}; here {here}): restage the app if it does not start"
