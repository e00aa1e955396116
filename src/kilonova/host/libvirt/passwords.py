"""The password of a user inside a guest, set by the agent that runs there (Nova: `set_admin_password` of the driver)."""

import libvirt

from kilonova.host.calls import outside

AGENT_SECONDS = 8  # that it has to answer: less than whoever asks this host waits for it
NO_AGENT = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, libvirt.VIR_ERR_CONFIG_UNSUPPORTED)


def set_password(found: libvirt.virDomain | None, user: str, password: str) -> str | None:
    """Why it could not be set; None when it was."""
    if found is None:
        return "its guest is gone"
    try:
        with outside("libvirt setUserPassword"):
            if not found.isActive():
                return "its guest does not run"
            found.agentSetResponseTimeout(AGENT_SECONDS)
            found.setUserPassword(user, password)
    except libvirt.libvirtError as error:
        absent = error.get_error_code() in NO_AGENT
        return f"the QEMU guest agent does not answer: {error}" if absent else str(error)
    return None
