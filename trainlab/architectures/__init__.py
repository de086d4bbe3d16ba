"""Architectures: functions `(inputs, outputs, block, **settings) -> nn.Module`.

`inputs` is the shape of one input and `outputs` the number of outputs, both taken from the data;
`block` makes the hidden layers, with the recipe's normalization, activation and dropout around
them. A function with a parameter `parts` is also told the columns of each input, where the data
have several. `@gives(…)` says which tasks the outputs are for.

The modules keep nothing but parameters and buffers, and their forward pass looks at shapes only, so
that each of them can be a member of a stack.
"""

from trainlab.architectures.autoencoders import autoencoder
from trainlab.architectures.block import NUMBERS, Block, Outputs, Shape, given_by, gives
from trainlab.architectures.convolutional import cnn, unet, vgg
from trainlab.architectures.dense import linear, mlp, mlp_deep, multi_input, multi_label
from trainlab.architectures.ensembles import ensemble
from trainlab.architectures.residual import mlp_residual, resnet, wide_resnet
from trainlab.architectures.words import cbow, skipgram

__all__ = [
    "NUMBERS", "Block", "Outputs", "Shape", "autoencoder", "cbow", "cnn", "ensemble", "given_by",
    "gives", "linear", "mlp", "mlp_deep", "mlp_residual", "multi_input", "multi_label", "resnet",
    "skipgram", "unet", "vgg", "wide_resnet",
]  # fmt: skip
