"""Steps of AdamW with FGM, and with an average of the weights, in PyTorch: python regularised_steps.py > regularised_steps.json

All rows are one batch, nothing is dropped, and the rate falls linearly from the first step on.
"""

import copy
import json
import os

import torch
from transformers import BertForSequenceClassification

STEPS, RATE, EPSILON, DECAY = 6, 1e-3, 2.0, 0.3
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../bert-core/tests/reference/tiny-bert-seqcls")

generator = torch.Generator().manual_seed(23)
lengths = torch.tensor([6, 9, 4, 7, 5])
ids = torch.randint(5, 79, (len(lengths), int(lengths.max())), generator=generator)
mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
ids, labels = ids * mask, torch.tensor([2, 0, 1, 1, 2])


def start():
    model = BertForSequenceClassification.from_pretrained(FOLDER, attn_implementation="eager").train()
    decays = lambda name: not (name.endswith("bias") or "LayerNorm" in name)
    groups = [
        {"params": [p for n, p in model.named_parameters() if decays(n) == which], "weight_decay": 0.01 * which}
        for which in (True, False)
    ]
    return model, torch.optim.AdamW(groups, lr=RATE, eps=1e-8)


def losses(model, shift):
    words = model.bert.embeddings.word_embeddings(ids) + shift
    return model(inputs_embeds=words, attention_mask=mask, labels=labels).loss


def steps(adverse, after=lambda step, model: None):
    model, optimizer = start()
    done = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = RATE * (STEPS - step) / STEPS
        optimizer.zero_grad()
        shift = torch.zeros(*ids.shape, model.config.hidden_size, requires_grad=True)
        loss = losses(model, shift)
        loss.backward()
        if adverse:
            # Each text has a norm of its own, over all of its tokens.
            norms = shift.grad.flatten(1).norm(dim=1)[:, None, None]
            losses(model, EPSILON * shift.grad / norms).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        after(step, model)
        done.append({"loss": loss.item(), "grad_norm": norm.item()})
    return model, done


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=mask).logits.flatten().tolist()


adversarial, adversarial_steps = steps(True)

average = start()[0]


def update(step, model):
    updates = step + 1
    decay = min(DECAY, (1 + updates) / (10 + updates))
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), model.parameters()):
            mean.mul_(decay).add_(weight, alpha=1 - decay)


plain, plain_steps = steps(False, update)
rows = [row[:length].tolist() for row, length in zip(ids, lengths)]
print(json.dumps({
    "torch": torch.__version__, "rate": RATE, "rows": rows, "labels": labels.tolist(),
    "fgm": {"epsilon": EPSILON, "steps": adversarial_steps, "logits": logits(adversarial)},
    "ema": {"decay": DECAY, "steps": plain_steps, "logits": logits(average), "last_logits": logits(plain)},
}))
