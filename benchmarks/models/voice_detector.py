"""The streaming voice detector of Silero (version 6, its 8 kHz branch) in plain PyTorch, written to be exported.

A window of 32 ms with a little of the window before goes through a Fourier transform (a convolution with fixed weights), four
convolutions that leave one vector, and one LSTM step whose state the caller carries from window to window.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CONTEXT", "RATE_HZ", "STATE", "WINDOW", "VoiceDetector", "load_silero"]

RATE_HZ = 8000
WINDOW = 256
"""Samples that are judged together."""
CONTEXT = 32
"""Samples of the window before, put in front of a window."""
STATE = 128
"""Width of the LSTM's hidden state, and of its cell."""

FOURIER_LENGTH, FOURIER_HOP, BINS = 128, 64, 65


class VoiceDetector(nn.Module):
    """One step of the detector: (samples, state) → (speech, next_state)."""

    def __init__(self) -> None:
        super().__init__()
        self.fourier = nn.Conv1d(1, 2 * BINS, FOURIER_LENGTH, FOURIER_HOP, bias=False)
        self.encoder = nn.Sequential(
            nn.Conv1d(BINS, 128, 3, 1, 1),
            nn.ReLU(),
            nn.Conv1d(128, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Conv1d(64, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Conv1d(64, STATE, 3, 1, 1),
            nn.ReLU(),
        )
        self.lstm = nn.LSTM(STATE, STATE)
        self.decide = nn.Linear(STATE, 1)

    def forward(self, samples: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One window.

        Args:
            samples: (batch, 288), 32 samples of context and the window, full scale is 1.
            state: (2, batch, 128), hidden state and cell of the window before; zeros at the start.

        Returns:
            Probability of speech (batch, 1), and the state to hand to the next window, (2, batch, 128).
        """
        padded = functional.pad(samples[:, None, :], (0, FOURIER_HOP // 2), mode="reflect")
        real, imaginary = self.fourier(padded).split(BINS, dim=1)
        encoded = self.encoder(torch.sqrt(real * real + imaginary * imaginary))
        # (batch, 128, 1) → one step in time, (1, batch, 128).
        hidden, (last_hidden, last_cell) = self.lstm(encoded.permute(2, 0, 1), (state[:1], state[1:]))
        speech = torch.sigmoid(self.decide(torch.relu(hidden[0])))
        return speech, torch.cat([last_hidden, last_cell])


def load_silero(file: Path) -> VoiceDetector:
    """A detector with the weights of the package's TorchScript file, whose program is not used.

    The file is the one that the user installed with ``silero-vad``, and is opened as the package itself opens it.

    Raises:
        KeyError: A weight is missing.
    """
    import warnings

    with warnings.catch_warnings():
        # torch asks those who write such files to turn to torch.export; the package's file is what there is.
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
        weights = torch.jit.load(str(file), map_location="cpu").state_dict()
    names = {"fourier.weight": "stft.forward_basis_buffer"}
    for kind in ("weight", "bias"):
        names |= {f"encoder.{2 * index}.{kind}": f"encoder.{index}.reparam_conv.{kind}" for index in range(4)}
        names |= {f"lstm.{kind}_{of}_l0": f"decoder.rnn.{kind}_{of}" for of in ("ih", "hh")}
        names[f"decide.{kind}"] = f"decoder.decoder.2.{kind}"
    detector = VoiceDetector()
    # The last layer is a convolution of length 1 there: (1, 128, 1) for our (1, 128).
    detector.load_state_dict(
        {name: weights[f"_model_8k.{names[name]}"].reshape(ours.shape) for name, ours in detector.state_dict().items()}
    )
    return detector.eval()
