"""Every atom: its type, the neighbours that fit it, and the arguments that it refuses."""

from typing import Literal, assert_type

import torch

from modula import (
    RMS,
    Bias,
    ChannelRMS,
    Conv1D,
    Conv2D,
    Conv3D,
    ConvTranspose1D,
    ConvTranspose2D,
    ConvTranspose3D,
    Embed,
    Gain,
    Linear,
    Module,
    OneHot,
)

assert_type(Linear(4, 3), Linear[RMS, RMS])
assert_type(Embed(4, 9), Embed)
assert_type(Conv2D(4, 3), Conv2D)
assert_type(Bias(4), Bias)
assert_type(Gain(4), Gain)

assert_type(Linear(4, 3) @ Linear(3, 2), Module[RMS, RMS])
assert_type(Linear(4, 3) @ Embed(3, 9), Module[OneHot, RMS])
assert_type(Linear(4, 3) @ Bias(3), Module[RMS, RMS])
assert_type(Gain(3) @ Linear(3, 2), Module[RMS, RMS])
assert_type(Bias(3) @ Embed(3, 9), Module[OneHot, RMS])
assert_type(Conv2D(4, 3) @ Conv2D(3, 1, kernel_size=5), Module[ChannelRMS, ChannelRMS])

# Convolutions in 1, 2 and 3 dimensions, whose sizes are numbers or tuples of that length.
assert_type(Conv1D(4, 3), Conv1D)
assert_type(Conv3D(4, 3), Conv3D)
assert_type(ConvTranspose1D(4, 3), ConvTranspose1D)
assert_type(ConvTranspose2D(4, 3), ConvTranspose2D)
assert_type(ConvTranspose3D(4, 3), ConvTranspose3D)
assert_type(Conv1D(4, 3, (5,), dilation=(2,)), Conv1D)
assert_type(Conv2D(4, 4, (3, 1), 1, "same", groups=4), Conv2D)
assert_type(Conv2D(4, 3, 3, 1, (1, 0), padding_mode="reflect"), Conv2D)
assert_type(Conv3D(4, 3, (1, 2, 3), padding="same"), Conv3D)
assert_type(ConvTranspose2D(4, 3, (4, 2), 2, (1, 0), output_padding=1), ConvTranspose2D)
assert_type(Conv2D(4, 3).padding_mode, Literal["zeros", "reflect", "replicate", "circular"])
assert_type(Conv2D(4, 3).stride, tuple[int, ...])
assert_type(Conv1D(4, 3) @ ConvTranspose1D(3, 2), Module[ChannelRMS, ChannelRMS])
assert_type(ConvTranspose2D(4, 3) @ Conv2D(3, 2), Module[ChannelRMS, ChannelRMS])
assert_type(ConvTranspose3D(4, 3) @ Conv3D(3, 2), Module[ChannelRMS, ChannelRMS])
assert_type(Conv2D(4, 3, groups=1, mass=2.0, dtype=torch.float64).double(), Conv2D)
Conv1D(4, 3) @ Linear(3, 2)  # E: Conv1D takes sequences, Linear gives features
Linear(4, 3) @ ConvTranspose2D(3, 2)  # E: Linear takes features, ConvTranspose2D gives images
ConvTranspose3D(4, 3) @ Embed(3, 9)  # E: ConvTranspose3D takes volumes
Conv1D(4, 3, (5, 5))  # E: one number for the one axis of a sequence
Conv2D(4, 3, (5,))  # E: two numbers for the two axes of an image
Conv3D(4, 3, (5, 5))  # E: three numbers for the three axes of a volume
ConvTranspose2D(4, 3, 2, (2, 2, 2))  # E: two numbers for the two axes of an image
Conv2D(4, 3, padding="valid")  # E: padding is a number, or "same"
Conv2D(4, 3, padding_mode="mirror")  # E: there is no such mode
Conv2D(4, 3, groups=0.5)  # E: a number of groups is whole
ConvTranspose2D(4, 3, padding="same")  # E: a transposed convolution has no such padding
Conv2D(4, 3, groups=2)  # E run: 3 channels do not split into 2 groups
Conv2D(4, 3) @ ConvTranspose2D(4, 3)  # E run: 3 channels are not 4

# Weights, and the options that all atoms share.
assert_type(Linear(4, 3).weight, torch.nn.Parameter)
assert_type(Linear(4, 3).mass, float)
assert_type(Linear(4, 3).sensitivity, float)
assert_type(Linear(4, 3, mass=2.0, device="cpu", dtype=torch.float64), Linear[RMS, RMS])
assert_type(Embed(4, 9, mass=0.5), Embed)
assert_type(Conv2D(4, 3, 3, stride=2, padding=0, mass=0), Conv2D)
assert_type(Bias(4, dtype=torch.float32), Bias)
assert_type(Gain(4, device=torch.device("cpu")), Gain)
assert_type(Linear(4, 3).tare(2.0), Linear[RMS, RMS])
assert_type(Linear(4, 3).double(), Linear[RMS, RMS])
assert_type(Embed(4, 9).to("cpu"), Embed)

# Features, images and ids are not exchangeable.
Embed(4, 9) @ Linear(9, 3)  # E: Embed takes ids, Linear gives features
Embed(4, 9) @ Embed(9, 4)  # E: Embed takes ids, Embed gives features
Embed(4, 9) @ Bias(9)  # E: Embed takes ids, Bias gives features
Embed(4, 9) @ Gain(9)  # E: Embed takes ids, Gain gives features
Embed(4, 9) @ Conv2D(9, 3)  # E: Embed takes ids, Conv2D gives images
Conv2D(4, 3) @ Linear(3, 2)  # E: Conv2D takes images, Linear gives features
Conv2D(4, 3) @ Embed(3, 9)  # E: Conv2D takes images, Embed gives features
Conv2D(4, 3) @ Bias(3)  # E: Conv2D takes images, Bias gives features
Conv2D(4, 3) @ Gain(3)  # E: Conv2D takes images, Gain gives features
Linear(4, 3) @ Conv2D(3, 1)  # E: Linear takes features, Conv2D gives images
Bias(4) @ Conv2D(4, 1)  # E: Bias takes features, Conv2D gives images
Gain(4) @ Conv2D(4, 1)  # E: Gain takes features, Conv2D gives images
Linear(4, 3) @ (Linear(3, 2) @ Conv2D(2, 1))  # E: the inner composition does not fit
(Conv2D(4, 3) @ Conv2D(3, 1)) @ Linear(1, 2)  # E: the chain takes images

# Operands that are not modules.
Linear(4, 3) @ torch.nn.Linear(2, 3)  # E: a torch.nn module declares no norms
torch.nn.Linear(4, 4) @ Linear(4, 3)  # E: a torch.nn module declares no norms
Linear(4, 3) @ torch.relu  # E: a function has no sensitivity; FunctionBond gives it one
Linear(4, 3) @ Linear  # E: a class is no module
Linear(4, 3) @ 3  # E: a number is no module
3 @ Linear(4, 3)  # E: a number is no module
Linear(4, 3) @ [Linear(3, 2), Linear(3, 2)]  # E: modules side by side stand in a tuple
Linear(4, 3) @ None  # E: nothing is no module

# Widths are numbers, known at run time.
Linear("4", 3)  # E: a width is a whole number
Linear(4)  # E: two widths
Embed(4)  # E: two widths
Conv2D(4, 3, 3, 1, 0, 1)  # E: options are given by name
Bias(4, 3)  # E: one width
Gain()  # E: one width
Linear(4, 3, fan_out=2)  # E: there is no such option
Embed(4, 9, domain=OneHot)  # E: an Embed has no choice of domain
Linear(4, 3, mass="1")  # E: a mass is a number
Linear(4, 3).tare("1")  # E: a mass is a number
Linear(4, 3) @ Linear(2, 3)  # E run: a width of 3 is not one of 2
Conv2D(4, 3) @ Conv2D(2, 1)  # E run: 3 channels are not 2
Bias(4) @ Linear(3, 3)  # E run: a width of 4 is not one of 3
Linear(0, 3)  # E run: a width is at least 1
