"""The activations a coder can have: a new one is one file and one line here."""

from plainspoken.coders.activation import Activation
from plainspoken.coders.batch_topk import BATCH_TOPK
from plainspoken.coders.jump_relu import JUMP_RELU
from plainspoken.coders.relu import RELU
from plainspoken.coders.topk import TOPK

ACTIVATIONS: dict[str, Activation] = {each.name: each for each in (TOPK, BATCH_TOPK, RELU, JUMP_RELU)}
