"""UMT-L/16, fine-tuned for retrieval: what UMT-FVD is a distance of, and the match that UMTScore is (arXiv 2303.16058).

State-dict names are those of the authors' code, which the public file has.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from ivmix.models.config import check_config
from ivmix.models.linear import Linear
from ivmix.models.measuring.bert import Bert, BertConfig
from ivmix.models.measuring.vit import UMTVision, ViTConfig


@dataclass(frozen=True)
class UMTConfig:
    """Sizes; the defaults are UMT-L/16's. `features` are of clips and texts in one space."""

    vision: ViTConfig = field(default_factory=lambda: ViTConfig(1024, 24, 16, 4096, 16, 1, 12, 224))
    text: BertConfig = field(default_factory=BertConfig)
    features: int = 768

    def __post_init__(self) -> None:
        check_config(self)
        width, own = self.text.encoder_width, self.vision.width
        if width != own:
            raise ValueError(f"text.encoder_width={width}: expected that of vision, {own}")

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "UMT", **asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "UMTConfig":
        return cls(ViTConfig(**raw["vision"]), BertConfig(**raw["text"]), raw["features"])


class UMT(nn.Module):
    """Clips (b 3 f h w), normed as ImageNet's, and texts, as `WordPiece` reads them."""

    def __init__(self, config: UMTConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_encoder = UMTVision(config.vision)
        self.text_encoder = Bert(config.text)
        self.vision_proj = Linear(config.vision.width, config.features)
        self.text_proj = Linear(config.text.hidden_size, config.features)
        self.itm_head = Linear(config.text.hidden_size, 2)

    def forward(self, clips: Tensor) -> Tensor:
        """Features of clips (b, features), those of UMT-FVD: the mean over times, not of length 1."""
        return self.vision_proj(self.vision_encoder(clips)[1]).mean(1)

    def text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features of texts (b, features), of their first state; not of length 1."""
        return self.text_proj(self.text_encoder.text(ids, mask)[:, 0])

    def match(self, clips: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """UMTScore (b,): how well each text is matched by its own clip, the logit of "match", of any sign."""
        tokens, _ = self.vision_encoder(clips)
        states = self.text_encoder.fuse(self.text_encoder.text(ids, mask), mask, tokens)
        return self.itm_head(states[:, 0])[:, 1]
