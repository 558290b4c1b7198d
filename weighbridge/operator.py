"""Who gives the commands: what the audit log and bypasses call it."""

import os
import pwd


def who() -> str:
    """As far as this machine knows: ann@host."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have a number only
        name = str(os.getuid())
    return f"{name}@{os.uname().nodename}"
