"""Label smoothing and R-Drop's divergences in PyTorch: python regularised_losses.py > regularised_losses.json"""

import json

import torch
import torch.nn.functional as F

SMOOTHING, IGNORED = 0.15, -100

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
draw = lambda *shape: (2 * torch.randn(*shape)).requires_grad_()
numbers = lambda tensor: [float(f"{value:.9g}") for value in tensor.flatten().tolist()]
cases = {}


def case(name, loss, *inputs, **given):
    loss.backward()
    cases[name] = {
        "shape": list(inputs[0].shape),
        "inputs": [numbers(input.detach()) for input in inputs],
        "loss": loss.item(),
        "gradients": [numbers(input.grad) for input in inputs],
        **given,
    }


def divergence(p, q):
    """Half of both directions, summed over the classes, of each row."""
    p, q = F.log_softmax(p, -1), F.log_softmax(q, -1)
    both = F.kl_div(p, q, log_target=True, reduction="none") + F.kl_div(q, p, log_target=True, reduction="none")
    return both.sum(-1) / 2


def both_sides(logits):
    """The logits of false and true, of entries that are true with the probability sigmoid(logit)."""
    return torch.stack([torch.zeros_like(logits), logits], -1)


# One label a row; of tags, most tokens have none.
labels = torch.tensor([2, IGNORED, 0, 4, IGNORED, 1, 1])
counts = labels != IGNORED
x = draw(7, 5)
case("smoothed", F.cross_entropy(x, labels, label_smoothing=SMOOTHING, ignore_index=IGNORED), x, labels=labels.tolist())
a, b = draw(7, 5), draw(7, 5)
case("classes", divergence(a, b)[counts].mean(), a, b, labels=labels.tolist())

# The span of each text, over its own tokens.
lengths, spans = [3, 1, 5], [[1, 2], None, [0, 4]]
x = draw(sum(lengths), 2)
texts = [(text, span) for text, span in zip(x.split(lengths), spans) if span]
sides = [
    F.cross_entropy(text[None, :, side], torch.tensor([span[side]]), label_smoothing=SMOOTHING)
    for text, span in texts
    for side in range(2)
]
case("smoothed_spans", sum(sides) / len(sides), x, lengths=lengths, spans=spans)
a, b = draw(sum(lengths), 2), draw(sum(lengths), 2)
pairs = [(p, q) for p, q, span in zip(a.split(lengths), b.split(lengths), spans) if span]
sides = [divergence(p[:, side], q[:, side]) for p, q in pairs for side in range(2)]
case("spans", sum(sides) / len(sides), a, b, lengths=lengths, spans=spans)

# Labels that are true or false each by itself; 2 is none.
targets = torch.tensor([[1, 0, 2], [0, 1, 1], [2, 0, 1], [2, 2, 2]])
a, b = draw(4, 3), draw(4, 3)
entries = divergence(both_sides(a), both_sides(b))
case("label_sets", entries[targets != 2].mean(), a, b, labels=targets.flatten().tolist())

# Ordered labels: one decision at each of 3 thresholds.
ranks = torch.tensor([3, 0, IGNORED, 1])
a, b = draw(4, 3), draw(4, 3)
rows = divergence(both_sides(a), both_sides(b)).sum(-1)
case("ranks", rows[ranks != IGNORED].mean(), a, b, labels=ranks.tolist())

# Numbers.
counts = [1, 0, 1, 1]
a, b = draw(4, 1), draw(4, 1)
kept = torch.tensor(counts) == 1
case("numbers", F.mse_loss(a[kept], b[kept]), a, b, labels=counts)

print(json.dumps({"torch": torch.__version__, "smoothing": SMOOTHING, "cases": cases}))
