"""Why an SSH connection does not come about, in words, with what to do."""

import contextlib
from pathlib import Path

from edgekit.labs.devices.address import PORT, Device
from edgekit_runtime.errors import DeviceError, MissingExtraError

__all__ = ["connecting_failed", "missing_asyncssh"]


def missing_asyncssh() -> MissingExtraError:
    """The answer where the extra is not installed."""
    return MissingExtraError(
        "devices over SSH need the package 'asyncssh', which is not installed; run this in the checkout: pip install '.[ssh]'"
    )


def connecting_failed(name: str, device: Device, error: BaseException) -> DeviceError:
    """The error for a user, of what asyncssh or the system raised."""
    import asyncssh

    what = f"connect to {name} ({device.address})"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return DeviceError(f"{what}: {_host_key(device)}")
    if isinstance(error, asyncssh.PermissionDenied):
        copy = device.ssh_command.replace("ssh", f"ssh-copy-id{f' -i {device.identity}' if device.identity else ''}", 1)
        return DeviceError(
            f"{what}: it does not let this key in; give it your key with `{copy}`, or name the key with "
            "edgekit device add … --identity FILE"
        )
    if isinstance(error, (asyncssh.KeyEncryptionError, asyncssh.KeyImportError)):
        return DeviceError(
            f"{what}: the key {device.identity or 'in ~/.ssh'} cannot be read ({error}); one with a passphrase is handed to the "
            "agent first: ssh-add FILE"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, asyncssh.ConnectionLost):
        return DeviceError(f"{what}: it hung up before we were in ({reason}); try `{device.ssh_command}`")
    if isinstance(error, (OSError, TimeoutError, asyncssh.DisconnectError)):
        return DeviceError(f"{what}: it is not reached ({reason}); is it on, in this network, and does it serve SSH at that port?")
    return DeviceError(f"{what}: {reason}; see whether `{device.ssh_command} true` works")


def _host_key(device: Device) -> str:
    """What is the matter with the host key: never seen, or another one than was seen."""
    port = device.port or PORT
    place = device.host if port == PORT else f"[{device.host}]:{port}"
    scan = f"ssh-keyscan {f'-p {port} ' if port != PORT else ''}{device.host}"
    if _known(device.host, port):
        return (
            "its host key is another one than ~/.ssh/known_hosts has, so that it is another machine, one that was set up anew, or "
            f"somebody in between; if you know why, `ssh-keygen -R '{place}'` forgets the old key and `{device.ssh_command}` shows "
            "and keeps the new one"
        )
    return (
        f"its host key is not known, and none is accepted unseen; `{device.ssh_command}` shows its fingerprint once and keeps it, "
        f"or, where you trust the network, `{scan} >> ~/.ssh/known_hosts`"
    )


def _known(host: str, port: int) -> bool:
    import asyncssh

    with contextlib.suppress(OSError, ValueError):
        path = Path("~/.ssh/known_hosts").expanduser()
        return any(asyncssh.match_known_hosts(str(path), host, "", port if port != PORT else None))
    return False
