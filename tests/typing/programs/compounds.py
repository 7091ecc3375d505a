"""The compounds: networks with the types of modules, which compose as other modules do."""

from typing import assert_type

import torch

from modula import (
    GELU,
    GPT,
    MLP,
    RMS,
    Attention,
    AvgPool,
    ChannelBatchNorm,
    ChannelGroupNorm,
    ChannelRMS,
    ComposedAttention,
    Composition,
    Conv2D,
    CrossAttention,
    Embed,
    Enumerate,
    FeedForward,
    HeadLinear,
    Identity,
    KeyValueCache,
    Linear,
    Llama,
    Mask,
    MaskedAttention,
    MaskedTransformerBlock,
    Module,
    OneHot,
    PaddingMask,
    Parallel,
    Patchify,
    QKNorm,
    ReLU,
    ResCNN,
    ResMLP,
    ResNet,
    RMSNorm,
    Rope,
    Select,
    TakePosition,
    Tanh,
    TokenShift,
    TransformerBlock,
    UNet,
    ViT,
    generate,
    residual,
)


def mlp() -> MLP:
    return MLP(8, 8, width=16)


def vit() -> ViT:
    return ViT(10, 3, image_size=8, patch_size=4, d_embed=8, num_heads=2, num_blocks=1)


def attention() -> Attention:
    return Attention(8, 2)


assert_type(MLP(4, 8, width=16, depth=3), MLP)
assert_type(MLP(4, 8, width=16, activation=Tanh()), MLP)
assert_type(ResMLP(4, 8, width=16, num_blocks=2, activation=GELU()), ResMLP)
assert_type(ResCNN(10, 3, width=8, num_blocks=2), ResCNN)
assert_type(Attention(8, 2, causal=False), Attention)
assert_type(ComposedAttention(8, 2, scale=0.5), ComposedAttention)
assert_type(GPT(9, d_embed=8, num_heads=2, num_blocks=1), GPT)

# The choices of attention are parts, and each fits only in its place.
positions = 0.5 * Embed(8, 9) + 0.5 * (Embed(8, 16) @ Enumerate())
assert_type(Attention(8, 2, num_kv_heads=1, window=4), Attention)
assert_type(Attention(8, 2, query_key=Rope(4) @ QKNorm(), projection=HeadLinear), Attention)
assert_type(ComposedAttention(8, 2, query_key=Identity()), ComposedAttention)
assert_type(
    GPT(9, d_embed=8, num_heads=2, num_blocks=1, query_key=Identity(), embedding=positions), GPT
)
Attention(8, 2, query_key=QKNorm)  # E: a class is no module
Attention(8, 2, query_key=RMSNorm())  # E: queries and keys are heads, not features
Attention(8, 2, projection=Linear)  # E: a Linear makes features, not heads
Attention(8, 2, projection=HeadLinear(2, 4, 8))  # E: what makes projections, not a projection
Attention(8, 2, window=1.5)  # E static: a window is a whole number of keys
assert_type(GPT(9, d_embed=8, num_heads=2, num_blocks=1, norm=TokenShift(0.5) @ RMSNorm()), GPT)
GPT(9, d_embed=8, num_heads=2, num_blocks=1, norm=RMSNorm)  # E: a class is no module
GPT(9, d_embed=8, num_heads=2, num_blocks=1, embedding=mlp())  # E static: any map would run

# Masks and memories enter as entries of a tuple.
masked = MaskedTransformerBlock(MaskedAttention(8, 2), mlp(), num_branches=4)
assert_type(MaskedAttention(8, 2, causal=True, window=3), MaskedAttention)
assert_type(CrossAttention(8, 2, d_memory=6), CrossAttention)
assert_type(masked**2, Module[tuple[RMS, Mask], tuple[RMS, Mask]])
assert_type(
    Linear(9, 8) @ Select(0, RMS, Mask) @ masked @ Parallel(Embed(8, 9), PaddingMask()),
    Module[tuple[OneHot, Mask], RMS],
)
assert_type(CrossAttention(8, 2) @ (mlp(), mlp()), Module[RMS, RMS])
assert_type(CrossAttention(8, 2) @ Parallel(Embed(8, 9), mlp()), Module[tuple[OneHot, RMS], RMS])
MaskedAttention(8, 2) @ mlp()  # E: the mask is missing
MaskedAttention(8, 2) @ Parallel(mlp(), mlp())  # E: features are no mask
MaskedAttention(8, 2) + attention()  # E: the domains differ
TransformerBlock(MaskedAttention(8, 2), mlp(), num_branches=2)  # E: attention takes the stream
MaskedTransformerBlock(attention(), mlp(), num_branches=2)  # E: attention takes a mask
masked @ Embed(8, 9)  # E: the mask is missing
Linear(9, 8) @ masked  # E: select the stream
CrossAttention(8, 2) @ mlp()  # E: the memory is missing
CrossAttention(8, 2) @ Parallel(mlp(), PaddingMask())  # E: a mask is no memory

assert_type(Llama(9, d_embed=8, num_heads=2, num_blocks=1, num_kv_heads=1), Llama)
assert_type(Llama(9, d_embed=8, num_heads=2, num_blocks=1).tare(2.0), Llama)
TransformerBlock(attention(), mlp(), num_branches=2, norm=RMSNorm)  # E: a class is no module
TransformerBlock(attention(), mlp(), num_branches=2, norm=Embed(8, 9))  # E: a norm takes features
Llama(9, 8, 2, 1)  # E: options are given by name

# Generation.
ids = torch.zeros(1, 2, dtype=torch.long)
model = GPT(9, d_embed=8, num_heads=2, num_blocks=1)
assert_type(generate(model, ids, 3, temperature=0.5, top_k=2), torch.Tensor)
assert_type(KeyValueCache(model), KeyValueCache[OneHot, RMS])
assert_type(KeyValueCache(attention()), KeyValueCache[RMS, RMS])
assert_type(KeyValueCache(model).extend(ids), torch.Tensor)
generate(mlp(), ids, 3)  # E: an MLP reads no ids
generate(model, [[0, 1]], 3)  # E: ids are a tensor
generate(model, ids)  # E: how many tokens
KeyValueCache(torch.nn.Linear(2, 2))  # E: a module of torch has no spaces

assert_type(Linear(4, 8) @ mlp(), Module[RMS, RMS])
assert_type(mlp() @ Embed(8, 9), Module[OneHot, RMS])
assert_type(mlp() @ ReLU() @ mlp(), Module[RMS, RMS])
assert_type(mlp() + Identity(), Module[RMS, RMS])
assert_type(mlp() ** 2, Module[RMS, RMS])
assert_type(2 * mlp(), Module[RMS, RMS])
assert_type(attention() @ RMSNorm(), Module[RMS, RMS])
assert_type(residual(attention() @ RMSNorm(), 2), Module[RMS, RMS])
assert_type(ComposedAttention(8, 2) @ Embed(8, 9), Module[OneHot, RMS])
assert_type(
    Linear(2, 10) @ ResCNN(10, 3, width=8, num_blocks=1) @ Conv2D(3, 1), Module[ChannelRMS, RMS]
)
assert_type(Linear(2, 4) @ ResMLP(4, 8, width=16, num_blocks=1), Module[RMS, RMS])
assert_type(RMSNorm() @ GPT(9, d_embed=8, num_heads=2, num_blocks=1), Module[OneHot, RMS])
assert_type(FeedForward(8, 4, GELU()), FeedForward)
assert_type(
    TransformerBlock(attention(), mlp(), num_branches=2) ** 2 @ Embed(8, 9), Module[OneHot, RMS]
)
assert_type(mlp().tare(2.0), MLP)
assert_type(mlp().mass, float)

mlp() @ Conv2D(8, 3)  # E: MLP takes features
Embed(8, 9) @ mlp()  # E: Embed takes ids
mlp() + Embed(8, 9)  # E: the domains differ
mlp() @ GPT(9, d_embed=8, num_heads=2, num_blocks=1) @ mlp()  # E: GPT takes ids
GPT(9, d_embed=8, num_heads=2, num_blocks=1) ** 2  # E: GPT maps ids to features
ResCNN(10, 3, width=8, num_blocks=1) @ ResCNN(  # E: ResCNN takes images and gives features
    3, 3, width=8, num_blocks=1
)
ResCNN(10, 3, width=8, num_blocks=1) @ mlp()  # E: ResCNN takes images
attention() @ Conv2D(8, 3)  # E: Attention takes features
MLP(4, 8)  # E: a width
MLP(4, 8, 16)  # E: options are given by name
MLP(4, 8, width=16, activation=3)  # E: an activation is a bond of single entries
MLP(4, 8, width=16, activation=ReLU)  # E: a class is no module
GPT(9, 8, 2, 1)  # E: options are given by name
Attention(8)  # E: how many heads
ResMLP(4, 8, width=16)  # E: how many blocks
MLP(4, 8, width=16, activation=RMSNorm())  # E static: any bond from features to features would run
weighted = Linear(16, 16) @ ReLU()
MLP(
    4,
    8,
    width=16,
    activation=weighted,  # E static: with a single hidden layer its weights are not shared
)
MLP(4, 8, width=16, depth=3, activation=weighted)  # E static: weights of an activation, shared
Attention(8, 3)  # E run: 8 does not split into 3


# A user's network, with a name.
class Block(Composition[RMS, RMS]):
    """Two layers."""

    def __init__(self, width: int) -> None:
        super().__init__(Linear(width, width) @ ReLU() @ Linear(width, width))


assert_type(Block(4), Block)
assert_type(Block(4) @ Embed(4, 9), Module[OneHot, RMS])
assert_type(Block(4) ** 2, Module[RMS, RMS])
Block(4) @ Conv2D(4, 3)  # E: a Block takes features
Composition[OneHot, RMS](
    Linear(4, 4)  # E static: type arguments are not looked at when the program runs
)
assert_type(Composition(Linear(4, 4) @ Embed(4, 9)), Composition[OneHot, RMS])


class Wrong(Composition[OneHot, RMS]):
    """A network of another signature than its class names."""

    def __init__(self) -> None:
        super().__init__(Linear(4, 4))  # E static: the same, in a class


# Networks for images.
assert_type(ResNet(10, 3, widths=(8, 16), blocks=1), ResNet)
assert_type(ResNet(10, 3, norm=ChannelBatchNorm, activation=GELU()), ResNet)
assert_type(ResNet(10, 3, norm=lambda width: ChannelGroupNorm(4)), ResNet)
assert_type(UNet(3, 3, widths=[8, 16]), UNet)
assert_type(vit(), ViT)
assert_type(Linear(2, 10) @ ResNet(10, 3) @ Conv2D(3, 1), Module[ChannelRMS, RMS])
assert_type(ResNet(10, 3) @ UNet(3, 1), Module[ChannelRMS, RMS])
assert_type(UNet(3, 3) ** 2, Module[ChannelRMS, ChannelRMS])
assert_type(UNet(3, 3) + Identity(), Module[ChannelRMS, ChannelRMS])
assert_type(RMSNorm() @ vit() @ Conv2D(3, 1), Module[ChannelRMS, RMS])
assert_type(residual(Conv2D(8, 4, 3, 2), 4, Conv2D(8, 4, 1, 2)), Module[ChannelRMS, ChannelRMS])
assert_type(TakePosition(0) @ Patchify(4), Module[ChannelRMS, RMS])
ResNet(10, 3) @ Linear(3, 2)  # E: ResNet takes images
ResNet(10, 3) @ ResNet(3, 3)  # E: ResNet gives features
UNet(3, 3) @ AvgPool()  # E: AvgPool gives features
Embed(4, 9) @ vit()  # E: ViT gives features
vit() ** 2  # E: ViT maps images to features
ResNet(10, 3, (8, 16))  # E: options are given by name
ResNet(10, 3, norm=RMSNorm)  # E: the norm of a ResNet is one of images
ResNet(10, 3, norm=ChannelBatchNorm(8))  # E: what makes the norm, and not the norm
UNet(3)  # E: channels of output and input
ViT(10, 3, d_embed=8, num_heads=2, num_blocks=1)  # E: the sizes of images and patches
ViT(  # E run: there is no such pooling
    10,
    3,
    image_size=8,
    patch_size=4,
    d_embed=8,
    num_heads=2,
    num_blocks=1,
    pooling="max",  # E static: there is no such pooling
)
TakePosition(0) @ Conv2D(3, 1)  # E: TakePosition takes features
UNet(3, 3) @ ResNet(3, 1)  # E: ResNet gives features
UNet(3, 3) @ UNet(2, 1)  # E run: 3 channels are not 2
