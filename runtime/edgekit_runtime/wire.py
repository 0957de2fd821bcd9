"""What a worker and its client say to each other: one frame a message, eight bytes of length and one msgpack document.

Client and worker share these types. Nothing in a message is code, and nothing is unpickled.
"""

from typing import Any

import msgspec

from edgekit_runtime.health import BoardHealth
from edgekit_runtime.machine import Machine
from edgekit_runtime.session import Provider, SessionConfig
from edgekit_runtime.tensors import TensorSpec
from edgekit_runtime.wire_tensors import Feed

__all__ = [
    "HEADER_BYTES",
    "Bench",
    "Benched",
    "Close",
    "Closed",
    "Count",
    "Counted",
    "Failed",
    "Health",
    "HealthTold",
    "Hello",
    "Memory",
    "Open",
    "Opened",
    "Optimized",
    "OptimizedGraph",
    "PeakMemory",
    "Quit",
    "Ran",
    "Reply",
    "Request",
    "Run",
    "SelfTest",
    "SelfTested",
    "Welcome",
    "decode_reply",
    "decode_request",
    "encode",
    "frame_length",
]

HEADER_BYTES = 8
# Larger than any feed that a board's memory holds. Eight bytes of text read as a length are larger still.
MOST_BYTES = 1 << 40


class Message(msgspec.Struct, frozen=True, tag=True):
    """Anything that is said: its class's name travels with it."""


class Hello(Message, frozen=True):
    """Asks who is there."""


class Open(Message, frozen=True):
    """Asks for a model to be opened.

    Attributes:
        path: A bundle's directory, or an ``.onnx`` or ``.ort`` file, as the worker sees it.
        provider: Another provider than the bundle's; taken strictly.
        session: Other session options than the bundle's. A bundle's instruction sets are then not asked for: whoever gives options
            of their own measures something of their own.
        threads: Intra-op threads, whatever the options say.
        check_isa: Refuse a bundle whose figures do not hold on that machine.
    """

    path: str
    provider: Provider | None = None
    session: SessionConfig | None = None
    threads: int | None = None
    check_isa: bool = True


class Run(Message, frozen=True):
    """Asks for one call of an open model."""

    handle: int
    feed: Feed


class Count(Message, frozen=True):
    """Asks for `runs` calls, each between two marks that an emulator sees, after one that is not counted."""

    handle: int
    feed: Feed
    runs: int


class Optimized(Message, frozen=True):
    """Asks for a model as onnxruntime optimizes it there."""

    path: str
    provider: Provider | None = None
    session: SessionConfig | None = None


class Bench(Message, frozen=True):
    """Asks for latency, cold start, memory and size; on the bundle's own example where there is no feed."""

    path: str
    feed: Feed | None = None
    rounds: int = 25
    threads: int | None = None
    check_isa: bool = True


class SelfTest(Message, frozen=True):
    """Asks for a bundle's golden examples to be run."""

    path: str
    threads: int | None = None
    check_isa: bool = True


class Memory(Message, frozen=True):
    """Asks for the worker's own peak memory."""


class Health(Message, frozen=True):
    """Asks how the board is doing."""


class Close(Message, frozen=True):
    """Lets an open model go."""

    handle: int


class Quit(Message, frozen=True):
    """Ends the worker."""


class Welcome(Message, frozen=True):
    """Who is there: versions by package, the machine, the worker's process."""

    versions: dict[str, str]
    machine: Machine
    pid: int


class Opened(Message, frozen=True):
    """A model is open.

    Attributes:
        handle: What later requests call it.
        inputs: What it takes.
        outputs: What it gives.
        provider: What it really runs on.
        threads: Intra-op threads.
    """

    handle: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    provider: str
    threads: int


class Ran(Message, frozen=True):
    """One call's outputs."""

    outputs: Feed


class Counted(Message, frozen=True):
    """The marks at which the counted calls began, one a call, all even; each call ended at the mark one above."""

    tags: list[int]


class OptimizedGraph(Message, frozen=True):
    """A serialized ONNX model; its larger weights lie in a file that is not sent."""

    data: bytes


class Benched(Message, frozen=True):
    """The fields of `edgekit_runtime.benchmark.Benchmark`."""

    document: dict[str, Any]


class SelfTested(Message, frozen=True):
    """The fields of `edgekit_runtime.selftest.SelfTest`."""

    document: dict[str, Any]


class PeakMemory(Message, frozen=True):
    """Peak resident memory of the worker so far; ``None`` where the system does not tell."""

    peak_rss_bytes: int | None


class HealthTold(Message, frozen=True):
    """How the board is doing."""

    health: BoardHealth


class Closed(Message, frozen=True):
    """A model, or the worker itself, is let go."""


class Failed(Message, frozen=True):
    """A request failed: the name of the error's class, and its message."""

    kind: str
    message: str


Request = Hello | Open | Run | Count | Optimized | Bench | SelfTest | Memory | Health | Close | Quit
Reply = (
    Welcome | Opened | Ran | Counted | OptimizedGraph | Benched | SelfTested | PeakMemory | HealthTold | Closed | Failed
)  # fmt: skip
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Message) -> bytes:
    """A whole frame."""
    document = msgspec.msgpack.encode(message)
    return len(document).to_bytes(HEADER_BYTES, "little") + document


def frame_length(header: bytes) -> int:
    """How many bytes of document follow a header.

    Raises:
        ValueError: It is no header: something else writes into the stream.
    """
    length = int.from_bytes(header, "little")
    if length > MOST_BYTES:
        raise ValueError(f"{header!r} is no length of a message")
    return length


def decode_request(document: bytes) -> Request:
    """A request; raises msgspec.MsgspecError for anything else."""
    return _requests.decode(document)


def decode_reply(document: bytes) -> Reply:
    """A reply; raises msgspec.MsgspecError for anything else."""
    return _replies.decode(document)
