"""Models of torchvision, timm and transformers at reduced sizes, with weights at random, and some of plain torch.

A library that is not installed gives no models; `requirements-models.txt` and `requirements-bench.txt` list them.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RealModel:
    """A model with its arguments.

    Attributes
    ----------
    name
        Name for the table.
    library
        Library that it comes from.
    make
        Function that returns the module, and its arguments by name.
    """

    name: str
    library: str
    make: Callable[[], tuple[nn.Module, dict[str, Any]]]


_DEFINITIONS: list[Any] = []
"""Libraries of operators that are defined here; they last as long as this list."""


def list_models() -> list[RealModel]:
    """Return the models of all libraries that are installed."""
    _define_missing_operators()
    families = {"torch": _list_plain, "torchvision": _list_torchvision, "timm": _list_timm}
    families["transformers"] = _list_transformers
    return [
        model
        for library, build in families.items()
        if importlib.util.find_spec(library) is not None
        for model in build()
    ]


def _define_missing_operators() -> None:
    """Define operators that torchvision expects where its compiled part does not load; no model calls them."""
    if importlib.util.find_spec("torchvision") is None:
        return
    library: Any = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        # A compiled part that does load defines them itself.
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DEFINITIONS.append(library)


def draw_images(count: int = 2, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def draw_tokens(vocabulary: int = 32, length: int = 6) -> Tensor:
    return torch.randint(0, vocabulary, (2, length), generator=torch.Generator().manual_seed(0))


class DiffusionUnet(nn.Module):
    """A U-Net with a time embedding and attention, as diffusion models have it."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 2 * width))
        self.enter, self.down = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.norm, self.attention = nn.GroupNorm(4, 2 * width), nn.MultiheadAttention(2 * width, 2, batch_first=True)
        self.up, self.leave = nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.Conv2d(2 * width, 3, 3, padding=1)

    def forward(self, image: Tensor, step: Tensor) -> Tensor:
        """Return the noise of an image at a step."""
        angles = step[:, None] * torch.exp(-torch.arange(4, dtype=image.dtype))
        embedded = self.time(torch.cat((angles.sin(), angles.cos()), -1))
        skip = nn.functional.silu(self.enter(image))
        low = nn.functional.silu(self.norm(self.down(skip) + embedded[:, :, None, None]))
        tokens = low.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        low = tokens.transpose(1, 2).reshape(low.shape)
        return self.leave(torch.cat((self.up(low), skip), 1))


def _list_plain() -> Iterator[RealModel]:
    sequence = torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(0))
    transformer = {"d_model": 6, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 8}
    yield RealModel("LSTM", "torch", lambda: (nn.LSTM(6, 8, 2), {"input": sequence}))
    yield RealModel("GRU", "torch", lambda: (nn.GRU(6, 8, bidirectional=True), {"input": sequence}))
    yield RealModel(
        "Transformer", "torch", lambda: (nn.Transformer(**transformer), {"src": sequence, "tgt": sequence.flip(0)})
    )
    yield RealModel(
        "autoencoder",
        "torch",
        lambda: (
            nn.Sequential(
                nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, 2, 1), nn.ReLU(),
                nn.ConvTranspose2d(4, 6, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 4, 2, 1), nn.Sigmoid(),
            ),
            {"input": draw_images(size=8)},
        ),
    )  # fmt: skip
    yield RealModel(
        "diffusion U-Net",
        "torch",
        lambda: (DiffusionUnet(), {"image": draw_images(size=8), "step": torch.tensor([3.0, 7.0])}),
    )


def _list_torchvision() -> Iterator[RealModel]:
    for name, make in _TORCHVISION.items():
        yield RealModel(name, "torchvision", partial(_make_torchvision, make))
    yield RealModel("vit", "torchvision", _make_vit)
    yield RealModel("swin", "torchvision", _make_swin)
    yield RealModel("lraspp", "torchvision", _make_segmentation)


def _make_resnet(models: Any) -> nn.Module:
    """Return the first two of four stages: no parameter reduces their widths."""
    model = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1])
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(128, 5)
    return model


def _make_mobilenet_v3(models: Any) -> nn.Module:
    file = models.mobilenetv3
    settings, last = file._mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.25)
    return file.MobileNetV3(settings, last, num_classes=5)


def _make_efficientnet(models: Any) -> nn.Module:
    file = models.efficientnet
    settings, last = file._efficientnet_conf("efficientnet_b0", width_mult=0.25, depth_mult=0.5)
    return file.EfficientNet(settings, 0.0, num_classes=5, last_channel=last or 32)


def _make_convnext(models: Any) -> nn.Module:
    setting = models.convnext.CNBlockConfig
    return models.ConvNeXt([setting(8, 16, 1), setting(16, None, 1)], num_classes=5)


def _make_regnet(models: Any) -> nn.Module:
    parameters = models.regnet.BlockParams.from_init_params(4, 8, 8.0, 2.0, 8, se_ratio=0.25)
    return models.RegNet(parameters, num_classes=5, stem_width=8)


_TORCHVISION: dict[str, Callable[[Any], nn.Module]] = {
    "resnet": _make_resnet,
    "mobilenet_v3": _make_mobilenet_v3,
    "efficientnet": _make_efficientnet,
    "squeezenet1_1": lambda models: models.squeezenet1_1(num_classes=5),
    "shufflenet_v2": lambda models: models.ShuffleNetV2([1, 2, 1], [8, 8, 16, 32, 64], num_classes=5),
    "mnasnet": lambda models: models.MNASNet(0.1, num_classes=5),
    "regnet_y": _make_regnet,
    "mobilenet_v2": lambda models: models.MobileNetV2(num_classes=5, width_mult=0.1),
    "densenet": lambda models: models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=5),
    "convnext": _make_convnext,
}
"""Models of torchvision at the widths that a check takes seconds for."""


def _make_torchvision(make: Callable[[Any], nn.Module]) -> tuple[nn.Module, dict[str, Any]]:
    return make(importlib.import_module("torchvision.models")), {"x": draw_images()}


def _make_vit() -> tuple[nn.Module, dict[str, Any]]:
    models: Any = importlib.import_module("torchvision.models")
    return models.VisionTransformer(16, 8, 2, 2, 16, 24, num_classes=5), {"x": draw_images(size=16)}


def _make_swin() -> tuple[nn.Module, dict[str, Any]]:
    models: Any = importlib.import_module("torchvision.models")
    swin = models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=5)
    return swin, {"x": draw_images(size=32)}


def _make_segmentation() -> tuple[nn.Module, dict[str, Any]]:
    file: Any = importlib.import_module("torchvision.models.segmentation.lraspp")
    backbone = _make_mobilenet_v3(importlib.import_module("torchvision.models"))
    return file._lraspp_mobilenetv3(backbone, 3), {"input": draw_images()}


_TIMM_OPTIONS: dict[str, dict[str, Any]] = {
    "resnet10t": {"channels": (8, 8, 16, 16), "stem_width": 8},
    "deit_tiny_patch16_224": {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 2},
    "mobilenetv4_conv_small_035": {},
    "tinynet_e": {},
    "mobilevit_xxs": {},
    "edgenext_xx_small": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "heads": (2, 2, 2, 2)},
}
"""Models of timm by their names, with options that reduce them."""
_TIMM_CLASSES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "MLP-Mixer": ("mlp_mixer", "MlpMixer", {"img_size": 32, "patch_size": 16, "num_blocks": 2, "embed_dim": 16}),
    "GhostNet": ("ghostnet", "_create_ghostnet", {"variant": "ghostnet_050", "width": 0.1}),
    "PoolFormer": ("metaformer", "MetaFormer", {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}),
    "ConvMixer": ("convmixer", "ConvMixer", {"dim": 16, "depth": 2, "kernel_size": 3, "patch_size": 4}),
}
"""Module, class and sizes of models that no option of their names reduces."""


def _list_timm() -> Iterator[RealModel]:
    for name in _TIMM_OPTIONS:
        yield RealModel(name, "timm", partial(_make_timm, name))
    for name in _TIMM_CLASSES:
        yield RealModel(name, "timm", partial(_make_timm_class, name))


def _make_timm(name: str) -> tuple[nn.Module, dict[str, Any]]:
    timm: Any = importlib.import_module("timm")
    return timm.create_model(name, pretrained=False, num_classes=5, **_TIMM_OPTIONS[name]), {"x": draw_images()}


def _make_timm_class(name: str) -> tuple[nn.Module, dict[str, Any]]:
    file, make, sizes = _TIMM_CLASSES[name]
    model = getattr(importlib.import_module(f"timm.models.{file}"), make)(num_classes=5, **sizes)
    return model, {"x": draw_images()}


_DEPTH = {"num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32}
_SMALL = _DEPTH | {"hidden_size": 16, "intermediate_size": 24}
_GROUPED = _SMALL | {"num_key_value_heads": 1, "head_dim": 8}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32, "n_positions": 16},
    "Llama": _GROUPED,
    "Mistral": _GROUPED,
    "Qwen2": _GROUPED,
    "Gemma": _GROUPED,
    "Phi": _SMALL,
    "GPTNeoX": _SMALL,
    "OPT": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24, "vocab_size": 32,
            "word_embed_proj_dim": 16},
    "Bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32},
    "Falcon": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32},
    "Bert": _SMALL,
    "Roberta": _SMALL,
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "vocab_size": 32},
    "Albert": _SMALL | {"embedding_size": 8},
    "Electra": _SMALL | {"embedding_size": 8},
    "Mamba": {"hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 32, "state_size": 2},
    "Mixtral": _GROUPED | {"num_local_experts": 3, "num_experts_per_tok": 2},
    "T5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "vocab_size": 32},
}  # fmt: skip
"""Configurations of the models of transformers, by the beginning of their class names."""


def _list_transformers() -> Iterator[RealModel]:
    for name in TRANSFORMERS:
        yield RealModel(name, "transformers", partial(_make_transformer, name))


def _make_transformer(name: str) -> tuple[nn.Module, dict[str, Any]]:
    transformers: Any = importlib.import_module("transformers")
    own = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    configuration = getattr(transformers, f"{name}Config")(**TRANSFORMERS[name], **own)
    # Caches of keys are none of a training step.
    configuration.use_cache = False
    # The grouped product of experts is an operator of transformers alone; one expert after the other branches on data.
    configuration._experts_implementation = "batched_mm"
    model = getattr(transformers, f"{name}Model")(configuration)
    tokens = draw_tokens()
    return model, {"input_ids": tokens} | ({"decoder_input_ids": tokens.flip(1)} if name == "T5" else {})
