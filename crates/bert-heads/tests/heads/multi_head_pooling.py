"""Values and gradients of multi-head attention pooling in PyTorch: python multi_head_pooling.py > multi_head_pooling.json"""

import json

import torch

LENGTHS, SIZE, HEADS = [3, 5, 1], 6, 3

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
draw = lambda *shape: torch.randn(*shape, requires_grad=True)
given = {
    "hidden": draw(sum(LENGTHS), SIZE),
    "W": draw(SIZE, SIZE),
    "b": draw(SIZE),
    "queries": draw(SIZE, HEADS),
    "V": draw(SIZE, SIZE),
    "c": draw(SIZE),
}
probe = torch.randn(len(LENGTHS), SIZE)

h, q = given["hidden"], given["queries"]
scores = torch.tanh(h @ given["W"] + given["b"]) @ q
values = h + h @ given["V"] + given["c"]
weights, pooled = [], []
for scores, values in zip(scores.split(LENGTHS), values.split(LENGTHS)):
    weights.append(torch.softmax(scores, 0))
    slices = values.view(-1, HEADS, SIZE // HEADS)
    pooled.append(torch.einsum("th,thd->hd", weights[-1], slices).reshape(SIZE))
pooled = torch.stack(pooled)
(pooled * probe).sum().backward()

numbers = lambda tensor: [float(f"{value:.9g}") for value in tensor.flatten().tolist()]
print(json.dumps({
    "lengths": LENGTHS, "size": SIZE, "heads": HEADS, "torch": torch.__version__,
    "given": {name: numbers(tensor.detach()) for name, tensor in given.items()},
    "probe": numbers(probe),
    "weights": numbers(torch.cat(weights).detach()),
    "pooled": numbers(pooled.detach()),
    "gradients": {name: numbers(tensor.grad) for name, tensor in given.items()},
}))
