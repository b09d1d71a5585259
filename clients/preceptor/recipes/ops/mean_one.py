"""The weights so far over their mean in the response, so that weighing moves the loss between rows and does not scale it."""

from preceptor.recipes.ops.spec import Kind, OpSpec

SPEC = OpSpec("mean_one", Kind.TOKEN_WEIGHT, "the weights so far over their mean in the response")
