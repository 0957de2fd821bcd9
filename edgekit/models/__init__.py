"""The founding models and the networks of their family, as PyTorch modules that export cleanly."""

from edgekit.models.adaptive_embedding import AdaptiveEmbedding
from edgekit.models.dynamic_attention import DynamicAttention
from edgekit.models.modal_embedding import ModalEmbeddingLayer
from edgekit.models.multi_head_dynamic_attention import MultiHeadDynamicAttention
from edgekit.models.sora_image import SoraImage
from edgekit.models.unified_multimodal import UnifiedMultimodalModel

__all__ = [
    "AdaptiveEmbedding",
    "DynamicAttention",
    "ModalEmbeddingLayer",
    "MultiHeadDynamicAttention",
    "SoraImage",
    "UnifiedMultimodalModel",
]
