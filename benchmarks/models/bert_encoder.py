"""A plain BERT sentence encoder in PyTorch, written to be exported: no branches on data, no library behind it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BertConfig", "SentenceEncoder"]


@dataclass(frozen=True)
class BertConfig:
    """Sizes of an encoder. The defaults are all-MiniLM-L6-v2's."""

    vocabulary: int = 30522
    positions: int = 512
    width: int = 384
    heads: int = 12
    layers: int = 6
    hidden: int = 1536
    epsilon: float = 1e-12


class Embedding(nn.Module):
    """Word + position + segment, normalized: (batch, tokens) → (batch, tokens, width)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.positions, config.width)
        self.segment = nn.Embedding(2, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.epsilon)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Ids (batch, tokens) → (batch, tokens, width). Every token is of segment 0."""
        position = torch.arange(input_ids.shape[1], device=input_ids.device)
        embedded: Tensor = self.norm(self.word(input_ids) + self.position(position) + self.segment.weight[0])
        return embedded


class Attention(nn.Module):
    """Multi-head self-attention with an additive mask: (batch, tokens, width) → the same."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.scale = (config.width // config.heads) ** -0.5
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """X (batch, tokens, width), mask (batch, 1, 1, tokens) of 0 and very negative → (batch, tokens, width)."""
        query, key, value = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        weights = torch.softmax(query @ key.transpose(-1, -2) * self.scale + mask, dim=-1)
        joined: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) → (batch, heads, tokens, width / heads)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Attention, then a two-layer GELU network, each added to its input and normalized."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.down_norm = nn.LayerNorm(config.width, eps=config.epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """X (batch, tokens, width), mask (batch, 1, 1, tokens) → (batch, tokens, width)."""
        x = self.attention_norm(x + self.attention(x, mask))
        normalized: Tensor = self.down_norm(x + self.down(functional.gelu(self.up(x))))
        return normalized


class SentenceEncoder(nn.Module):
    """Tokens to one unit vector a text: the encoder, the mean over its tokens, L2 normalization."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask (batch, tokens), int64, mask 1 for a token and 0 for padding → embedding (batch, width)."""
        x = self.embedding(input_ids)
        kept = attention_mask.to(x.dtype)
        mask = (1.0 - kept[:, None, None, :]) * torch.finfo(x.dtype).min
        for block in self.blocks:
            x = block(x, mask)
        mean = (x * kept[:, :, None]).sum(dim=1) / kept.sum(dim=1, keepdim=True).clamp(min=1.0)
        return functional.normalize(mean, dim=-1)

    def load_hugging_face(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of a ``BertModel`` by their names there; its pooler is left out.

        Raises:
            KeyError: A weight is missing.
        """
        names = {
            "embedding.word": "embeddings.word_embeddings",
            "embedding.position": "embeddings.position_embeddings",
            "embedding.segment": "embeddings.token_type_embeddings",
            "embedding.norm": "embeddings.LayerNorm",
        }
        for index in range(len(self.blocks)):
            ours, theirs = f"blocks.{index}.", f"encoder.layer.{index}."
            names |= {
                ours + "attention.query": theirs + "attention.self.query",
                ours + "attention.key": theirs + "attention.self.key",
                ours + "attention.value": theirs + "attention.self.value",
                ours + "attention.out": theirs + "attention.output.dense",
                ours + "attention_norm": theirs + "attention.output.LayerNorm",
                ours + "up": theirs + "intermediate.dense",
                ours + "down": theirs + "output.dense",
                ours + "down_norm": theirs + "output.LayerNorm",
            }
        state = {}
        for name in self.state_dict():
            layer, kind = name.rsplit(".", 1)
            state[name] = weights[f"{names[layer]}.{kind}"]
        self.load_state_dict(state)
