"""Networks of images and sound from the transformers package, small, with random weights."""

from __future__ import annotations

from torch import nn

from export.networks import VOCABULARY, Network, floats, ids, mask, network

PIXELS = {"pixel_values": floats("batch", 3, 32, 32)}
ANY_SIZE = {"pixel_values": floats("batch", 3, "height", "width")}
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}


@network
def vit() -> Network:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**SMALL, image_size=32, patch_size=8, num_labels=5)
    return Network(ViTForImageClassification(config), PIXELS)


@network
def deit() -> Network:
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

    config = DeiTConfig(**SMALL, image_size=32, patch_size=8, num_labels=5)
    return Network(DeiTForImageClassificationWithTeacher(config), PIXELS)


@network
def swin() -> Network:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4,
        num_labels=5,
    )  # fmt: skip
    return Network(SwinForImageClassification(config), PIXELS)


@network
def convnext() -> Network:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], num_labels=5)
    return Network(ConvNextForImageClassification(config), ANY_SIZE)


@network
def resnet() -> Network:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24], depths=[1, 2, 1], num_labels=5
    )  # fmt: skip
    return Network(ResNetForImageClassification(config), ANY_SIZE)


@network
def mobilenet_v2() -> Network:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(depth_multiplier=0.25, num_labels=5)
    return Network(MobileNetV2ForImageClassification(config), PIXELS)


@network
def mobilevit() -> Network:
    from transformers import MobileViTConfig, MobileViTForImageClassification

    config = MobileViTConfig(
        image_size=64, hidden_sizes=[12, 16, 20], neck_hidden_sizes=[4, 8, 12, 16, 20, 24, 32],
        num_attention_heads=2, num_labels=5,
    )  # fmt: skip
    inputs = {"pixel_values": floats("batch", 3, 64, 64)}
    return Network(MobileViTForImageClassification(config), inputs)


@network
def segformer() -> Network:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_encoder_blocks=3, depths=[1, 1, 1], sr_ratios=[4, 2, 1], hidden_sizes=[8, 16, 24],
        patch_sizes=[7, 3, 3], strides=[4, 2, 2], num_attention_heads=[1, 2, 4],
        mlp_ratios=[2, 2, 2], decoder_hidden_size=16, num_labels=5,
    )  # fmt: skip
    return Network(SegformerForSemanticSegmentation(config), ANY_SIZE)


@network
def detr() -> Network:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24], depths=[1, 1, 1], out_features=["stage3"]
    )  # fmt: skip
    config = DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, d_model=32, encoder_layers=2,
        decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=6, num_labels=5,
    )  # fmt: skip
    return Network(DetrForObjectDetection(config), {"pixel_values": floats("batch", 3, 64, 96)})


def _clip():
    from transformers import CLIPConfig

    text = {**SMALL, "vocab_size": VOCABULARY, "max_position_embeddings": 16, "eos_token_id": 2}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)


@network
def clip_text() -> Network:
    from transformers import CLIPTextModelWithProjection

    config = _clip().text_config
    config.projection_dim = 16
    inputs = {"input_ids": ids("batch", "length"), "attention_mask": mask("batch", "length")}
    return Network(CLIPTextModelWithProjection(config), inputs)


@network
def clip_vision() -> Network:
    from transformers import CLIPVisionModelWithProjection

    config = _clip().vision_config
    config.projection_dim = 16
    return Network(CLIPVisionModelWithProjection(config), PIXELS)


@network
def clip() -> Network:
    from transformers import CLIPModel

    inputs = {
        "input_ids": ids("texts", "length"),
        "pixel_values": floats("batch", 3, 32, 32),
        "attention_mask": mask("texts", "length"),
    }
    return Network(CLIPModel(_clip()), inputs, {"texts": (4, 2)})


@network
def sam() -> Network:
    from transformers import SamConfig, SamModel

    vision = {
        **SMALL, "image_size": 64, "patch_size": 8, "output_channels": 16, "window_size": 4,
        "global_attn_indexes": [1], "num_pos_feats": 8, "mlp_dim": 48,
    }  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16
    }  # fmt: skip
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )  # fmt: skip
    inputs = {
        "pixel_values": floats("batch", 3, 64, 64),
        "input_points": floats("batch", 1, "points", 2),
        "input_labels": ids("batch", 1, "points", below=2),
    }
    return Network(SamModel(config), inputs, {"points": (3, 2)})


class Encoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_features):
        return self.encoder(input_features).last_hidden_state


class Decoder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, decoder_input_ids, encoder_hidden_states):
        return self.model(
            decoder_input_ids=decoder_input_ids,
            encoder_outputs=(encoder_hidden_states,),
            use_cache=False,
        ).logits


def _whisper() -> nn.Module:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=VOCABULARY, num_mel_bins=8, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_ffn_dim=48, max_source_positions=20, max_target_positions=16, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config)


@network
def whisper_encoder() -> Network:
    return Network(Encoder(_whisper()), {"input_features": floats("batch", 8, 40)})


@network
def whisper_decoder() -> Network:
    inputs = {
        "decoder_input_ids": ids("batch", "length"),
        "encoder_hidden_states": floats("batch", "source", 32),
    }
    return Network(Decoder(_whisper()), inputs, {"source": (20, 12)})


@network
def wav2vec2() -> Network:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        **SMALL, vocab_size=32, conv_dim=(8, 8, 16), conv_kernel=(10, 3, 2), conv_stride=(5, 2, 2),
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    inputs = {"input_values": floats("batch", "samples")}
    return Network(Wav2Vec2ForCTC(config), inputs, {"samples": (600, 841)})
