"""An OpenSSH server on loopback that a test starts: unprivileged, with a host key, an account's home folder and a door of its own.

It takes the system's sshd where there is one, and else fetches Debian's package, without root, into a cache folder. Run by root,
sshd asks for a folder /run/sshd and an account `sshd`; run by somebody else, for an entry of that account. Debian's nss_wrapper
gives it accounts of a file of its own, so that nothing of the system is changed, save /run/sshd while root's server runs.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from time import monotonic, sleep

import asyncssh

PACKAGES = ("openssh-server", "libwrap0", "libnss-wrapper")
START_TIMEOUT_S = 15
PRIVILEGE_FOLDER = Path("/run/sshd")


class NoServerError(Exception):
    """There is no sshd, and none can be fetched; says why."""


def fetched() -> Path:
    """The folder with sshd, its libraries and nss_wrapper, unpacked and never installed."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit-tests"
    folder = base / "openssh"
    if folder.is_dir():
        return folder
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise NoServerError("there is no sshd, and no apt-get and dpkg to fetch Debian's with")
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base) as aside:
        done = subprocess.run(["apt-get", "download", *PACKAGES], cwd=aside, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise NoServerError(f"apt-get download failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        for package in Path(aside).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), f"{aside}/openssh"], check=True)
        with contextlib.suppress(OSError):  # another session was quicker
            Path(aside, "openssh").rename(folder)
    return folder


class SshServer:
    """The server, for one account: the one that the test runs as.

    Args:
        folder: For its files, and for the account's home.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        home: The account's home folder there.
        key: A private key that it lets in.
        user: The account.
    """

    def __init__(self, folder: Path) -> None:
        self.home, self.key, self.user = folder / "home", folder / "key", account()
        self.folder = folder
        self.home.mkdir()
        for path in (folder / "host_key", self.key):
            # ssh-keygen refuses users that nobody has written down.
            pair = asyncssh.generate_private_key("ssh-ed25519")
            pair.write_private_key(path)
            pair.write_public_key(path.with_name(f"{path.name}.pub"))
            path.chmod(0o600)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._made_privilege_folder = False
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host_key",
            "AuthorizedKeysFile": f"{self.key}.pub",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",  # folders of tests lie below /tmp, which everybody may write to
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "Subsystem": "sftp internal-sftp",
            "PrintMotd": "no",
            "LogLevel": "VERBOSE",
        }
        (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))

    @property
    def address(self) -> str:
        """As `edgekit device add` takes it."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    @property
    def known_hosts(self) -> str:
        """The line that makes it known."""
        kind, key, *_ = (self.folder / "host_key.pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    def start(self) -> None:
        """Starts it and waits until it listens."""
        debs = fetched()  # nss_wrapper is in no system, whatever sshd it has
        libraries = [str(path) for path in sorted(debs.glob("usr/lib/*-linux-gnu*")) + sorted(debs.glob("lib/*-linux-gnu*"))]
        program = next((path for path in (Path("/usr/sbin/sshd"), debs / "usr/sbin/sshd") if path.is_file()), None)
        wrapper = next(debs.glob("usr/lib/*/libnss_wrapper.so"), None)
        if program is None or wrapper is None:
            raise NoServerError("Debian's packages hold no sshd or no libnss_wrapper.so")
        accounts = [
            f"{self.user}:x:{os.getuid()}:{os.getgid()}:a test:{self.home}:/bin/sh",
            "sshd:x:65533:65533:privilege separation:/:/bin/false",
        ]
        (self.folder / "passwd").write_text("\n".join(accounts) + "\n")
        (self.folder / "group").write_text(f"{self.user}:x:{os.getgid()}:\nsshd:x:65533:\n")
        if os.getuid() == 0 and not PRIVILEGE_FOLDER.exists():
            PRIVILEGE_FOLDER.mkdir(mode=0o755)
            self._made_privilege_folder = True
        environment = {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "LD_PRELOAD": str(wrapper),
            "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
            "NSS_WRAPPER_GROUP": str(self.folder / "group"),
        }
        with (self.folder / "log").open("ab") as log:
            command = [str(program), "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        until = monotonic() + START_TIMEOUT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None or monotonic() > until:
                said = (self.folder / "log").read_text(errors="replace").strip().splitlines()
                self.stop()
                raise NoServerError(f"sshd does not start: {said[-1] if said else 'it says nothing'}")
            sleep(0.02)

    def sessions(self) -> list[int]:
        """Processes of the open connections."""
        assert self._process is not None
        return children(self._process.pid)

    def cut(self) -> int:
        """Kills the processes of all open connections, as a pulled cable would; how many there were."""
        doomed = [process for session in self.sessions() for process in [session, *children(session)] if is_sshd(process)]
        for process in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(doomed)

    def stop(self) -> None:
        """Ends it, and its connections."""
        if self._process is not None:
            self.cut()
            self._process.terminate()
            self._process.wait()
            self._process = None
        if self._made_privilege_folder:
            with contextlib.suppress(OSError):
                PRIVILEGE_FOLDER.rmdir()
            self._made_privilege_folder = False


def account() -> str:
    """The account that this process runs as."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run as users that nobody has written down
        return "somebody"


def children(process: int) -> list[int]:
    """Processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_sshd(process: int) -> bool:
    """Whether a process is sshd's own, and not what it has started."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip().startswith("sshd")
    return False
