"""Reference values from PyTorch + Hugging Face transformers, for parity tests.

Writes, beside this file:
  tiny-bert/            a random 2-layer BERT in Hugging Face layout (safetensors)
  tiny-bert-variants/   the same weights in the other spellings that real checkpoints have
  tiny_bert.json        hidden states, pooler, poolings, per-head logits and losses, gradient norms, AdamW trajectory
  tiny_bert_gradients.safetensors   whole gradients, "HEAD/parameter", in PyTorch's layout (Linear weights are [out, in])
  minilm.json           token ids and embeddings of the real all-MiniLM-L6-v2 on real sentences

Run:  pip install torch transformers safetensors ; python make_reference.py ../models/all-MiniLM-L6-v2
"""
import json, os, sys, copy
import torch, transformers
from torch import nn
from transformers import BertConfig, BertModel, BertForSequenceClassification, BertForTokenClassification, \
    BertForQuestionAnswering, BertForMaskedLM, BertTokenizerFast, AutoTokenizer, get_linear_schedule_with_warmup
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(7); torch.set_num_threads(1)

def L(t):
    """A tensor as nested lists of 8 significant digits."""
    if t.dim() == 0: return float(f"{t.item():.8g}")
    return [L(x) for x in t] if t.dim() > 1 else [float(f"{v:.8g}") for v in t.detach().float().tolist()]

# --- a tiny random BERT ----------------------------------------------------------------------
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [chr(c) for c in range(97, 123)] + ["##" + chr(c) for c in range(97, 123)] + \
    ["the", "movie", "was", "great", "bad", "not", "very", "a", "film", "good", "##ing", "##ed", "play", "act", "plot", ".", ",", "!", "?", "and", "is", "it", "this"]
words = list(dict.fromkeys(words))
cfg = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                 max_position_embeddings=64, type_vocab_size=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                 attn_implementation="eager")
# make LayerNorm weights and biases nontrivial, so that a swapped or dropped one shows
def scramble(m):
    g = torch.Generator().manual_seed(11)
    for n, p in m.named_parameters():
        with torch.no_grad():
            if n.endswith("bias"): p.copy_(torch.randn(p.shape, generator=g) * 0.1)
            elif "LayerNorm.weight" in n: p.copy_(1 + torch.randn(p.shape, generator=g) * 0.1)
            else: p.copy_(torch.randn(p.shape, generator=g) * 0.08)

out = os.path.join(HERE, "tiny-bert"); os.makedirs(out, exist_ok=True)
base = BertModel(cfg); scramble(base); base.eval()
base.save_pretrained(out)
open(os.path.join(out, "vocab.txt"), "w").write("\n".join(words) + "\n")
tok = BertTokenizerFast(os.path.join(out, "vocab.txt")); tok.save_pretrained(out)

variants = os.path.join(HERE, "tiny-bert-variants"); os.makedirs(variants, exist_ok=True)
sd = {k: v.clone().contiguous() for k, v in base.state_dict().items()}
legacy = {("bert." + k).replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in sd.items()}
legacy["cls.seq_relationship.weight"] = torch.randn(2, 32); legacy["cls.seq_relationship.bias"] = torch.randn(2)
save_file(legacy, os.path.join(variants, "legacy_prefix_gamma_beta.safetensors"), {"format": "pt"})
save_file({k: v.half() for k, v in sd.items()}, os.path.join(variants, "f16.safetensors"), {"format": "pt"})
save_file({k: v.bfloat16() for k, v in sd.items()}, os.path.join(variants, "bf16.safetensors"), {"format": "pt"})
torch.save(sd, os.path.join(variants, "pytorch_model.bin"))
nopool = {k: v for k, v in sd.items() if not k.startswith("pooler.")}
save_file(nopool, os.path.join(variants, "no_pooler.safetensors"), {"format": "pt"})
missing = {k: v for k, v in sd.items() if k != "encoder.layer.1.attention.self.value.weight"}
save_file(missing, os.path.join(variants, "missing_one_tensor.safetensors"), {"format": "pt"})
wrong = dict(sd); wrong["encoder.layer.0.intermediate.dense.weight"] = torch.randn(60, 32)
save_file(wrong, os.path.join(variants, "wrong_shape.safetensors"), {"format": "pt"})
keys = sorted(sd); half = len(keys) // 2
save_file({k: sd[k] for k in keys[:half]}, os.path.join(variants, "model-00001-of-00002.safetensors"), {"format": "pt"})
save_file({k: sd[k] for k in keys[half:]}, os.path.join(variants, "model-00002-of-00002.safetensors"), {"format": "pt"})
json.dump({"metadata": {"total_size": sum(v.numel() * 4 for v in sd.values())},
           "weight_map": {k: f"model-0000{1 if i < half else 2}-of-00002.safetensors" for i, k in enumerate(keys)}},
          open(os.path.join(variants, "model.safetensors.index.json"), "w"), indent=1)

# --- forward ------------------------------------------------------------------------------------
texts = [("the movie was great !", None), ("this film is not very good , it was a bad plot .", None), ("acting", "the plot is good ."), ("a", None)]
def encode(pairs, pad_to=None):
    rows = [tok(a, b) for a, b in pairs]
    n = pad_to or max(len(r["input_ids"]) for r in rows)
    ids = torch.tensor([r["input_ids"] + [0] * (n - len(r["input_ids"])) for r in rows])
    tt = torch.tensor([r["token_type_ids"] + [0] * (n - len(r["token_type_ids"])) for r in rows])
    am = torch.tensor([r["attention_mask"] + [0] * (n - len(r["attention_mask"])) for r in rows])
    return dict(input_ids=ids, token_type_ids=tt, attention_mask=am)
batch = encode(texts)
ref = {"torch": torch.__version__, "transformers": transformers.__version__, "texts": texts,
       "batch": {k: v.tolist() for k, v in batch.items()}}
with torch.no_grad():
    o = base(**batch, output_hidden_states=True, output_attentions=True)
ref["note"] = "hidden_states[0] is the embedding output, hidden_states[i] the output of layer i; positions where attention_mask is 0 carry no meaning"
ref["hidden_states"] = [L(h) for h in o.hidden_states]
ref["pooler_output"] = L(o.pooler_output)
ref["attentions_layer0"] = L(o.attentions[0])

# the other activations: the same weights, values and the gradient of one weight for loss = sum over real tokens of hidden * c
ga = torch.Generator().manual_seed(13); c = torch.randn(cfg.hidden_size, generator=ga); ref["activations"] = {"definition": "loss = sum over real tokens of last_hidden_state * c; gradients are in tiny_bert_gradients.safetensors as act_NAME/intermediate", "c": L(c)}
act_grads = {}
for act in ("gelu_new", "relu"):
    ca = copy.deepcopy(cfg); ca.hidden_act = act; ma = BertModel(ca); ma.load_state_dict(base.state_dict()); ma.eval()
    h = ma(**batch).last_hidden_state; ((h * batch["attention_mask"][..., None]) * c).sum().backward()
    ref["activations"][act] = L(h); act_grads[f"act_{act}/intermediate"] = ma.encoder.layer[0].intermediate.dense.weight.grad.clone().contiguous()

def with_head(cls, n):
    c = copy.deepcopy(cfg); c.num_labels = n
    m = cls(c); scramble(m); m.bert.load_state_dict({k: v for k, v in base.state_dict().items() if k in m.bert.state_dict()})
    return m
def save_head(m, name):
    d = os.path.join(HERE, name); m.save_pretrained(d); tok.save_pretrained(d)
    open(os.path.join(d, "vocab.txt"), "w").write("\n".join(words) + "\n")

GRADS = dict(act_grads)  # whole gradients, in PyTorch's layout: "HEAD/parameter name"
def grads(m, loss, head):
    m.zero_grad(); loss.backward(retain_graph=True)
    for n, p in m.named_parameters():
        if p.grad is not None: GRADS[f"{head}/{n}"] = p.grad.detach().clone().contiguous()
    return {n: float(f"{p.grad.norm().item():.8g}") for n, p in m.named_parameters() if p.grad is not None}

m = with_head(BertForSequenceClassification, 3); save_head(m, "tiny-bert-seqcls"); m.train()
y = torch.tensor([2, 0, 1, 1]); o = m(**batch, labels=y)
ref["sequence_classification"] = {"labels": y.tolist(), "logits": L(o.logits), "loss": o.loss.item(), "gradient_norms": grads(m, o.loss, "seqcls")}
m = with_head(BertForTokenClassification, 5); save_head(m, "tiny-bert-tokcls"); m.train()
y = torch.where(batch["attention_mask"].bool(), (batch["input_ids"] % 5), torch.tensor(-100)); y[:, 0] = -100
o = m(**batch, labels=y); ref["token_classification"] = {"labels": y.tolist(), "logits": L(o.logits), "loss": o.loss.item(), "gradient_norms": grads(m, o.loss, "tokcls")}
m = with_head(BertForMaskedLM, 2); save_head(m, "tiny-bert-mlm"); m.train()
y = torch.full_like(batch["input_ids"], -100); y[0, 2] = batch["input_ids"][0, 2]; y[1, 5] = batch["input_ids"][1, 5]
o = m(**batch, labels=y); ref["masked_lm"] = {"labels": y.tolist(), "logits": L(o.logits), "loss": o.loss.item(), "gradient_norms": grads(m, o.loss, "mlm")}
m = with_head(BertForQuestionAnswering, 2); save_head(m, "tiny-bert-qa"); m.train()
o = m(**batch, start_positions=torch.tensor([1, 2, 3, 1]), end_positions=torch.tensor([2, 4, 5, 1]))
ref["question_answering"] = {"start_positions": [1, 2, 3, 1], "end_positions": [2, 4, 5, 1], "start_logits": L(o.start_logits), "end_logits": L(o.end_logits), "loss": o.loss.item(), "gradient_norms": grads(m, o.loss, "qa")}

# --- the three techniques, written from their definitions, over the encoder's last hidden state ---------------
H = 32; g = torch.Generator().manual_seed(5)
with torch.no_grad(): hidden = base(**batch).last_hidden_state
W = torch.randn(H, H, generator=g) * 0.2; b = torch.randn(H, generator=g) * 0.1
scores = hidden @ W.T + b
scores = scores.masked_fill(batch["attention_mask"][..., None] == 0, float("-inf"))
weights = torch.softmax(scores, dim=1); pooled = (hidden * weights).sum(1)
ref["adaptive_pooling"] = {"definition": "weights = softmax over tokens of (hidden @ W^T + b), per hidden dimension, padding excluded; pooled = sum over tokens of hidden * weights",
                           "linear_weight_out_in": L(W), "linear_bias": L(b), "weights": L(weights), "pooled": L(pooled)}
v = torch.randn(H, generator=g)
a = (torch.tanh(hidden @ W.T + b) @ v).masked_fill(batch["attention_mask"] == 0, float("-inf")); a = torch.softmax(a, 1)
ref["attention_pooling"] = {"definition": "token weight = softmax over tokens of v . tanh(W h + b), padding excluded", "v": L(v), "weights": L(a), "pooled": L((hidden * a[..., None]).sum(1))}
mask = batch["attention_mask"][..., None].float()
ref["mean_pooling"] = L((hidden * mask).sum(1) / mask.sum(1)); ref["max_pooling"] = L(hidden.masked_fill(mask == 0, float("-inf")).max(1).values)
with torch.no_grad():
    we = base.embeddings.word_embeddings(batch["input_ids"]); te = we @ W.T + b
    o = base(inputs_embeds=te, attention_mask=batch["attention_mask"], token_type_ids=batch["token_type_ids"])
# gradients of each pooling and of the task embedding: loss = sum(output * c), c fixed
c = torch.randn(len(texts), H, generator=g); ref["gradient_probe"] = {"definition": "loss = sum(pooled * c); gradients are in tiny_bert_gradients.safetensors as pool_KIND/{hidden,W,b,v}", "c": L(c)}
def probe(kind):
    h = hidden.clone().requires_grad_(); Wp, bp, vp = (t.clone().requires_grad_() for t in (W, b, v)); am = batch["attention_mask"]; mk = am[..., None]
    if kind == "adaptive": p = (h * torch.softmax((h @ Wp.T + bp).masked_fill(mk == 0, float("-inf")), 1)).sum(1)
    elif kind == "attention": p = (h * torch.softmax((torch.tanh(h @ Wp.T + bp) @ vp).masked_fill(am == 0, float("-inf")), 1)[..., None]).sum(1)
    elif kind == "mean": p = (h * mk).sum(1) / mk.sum(1)
    else: p = h.masked_fill(mk == 0, float("-inf")).max(1).values
    (p * c).sum().backward()
    for n, t in (("hidden", h), ("W", Wp), ("b", bp), ("v", vp)):
        if t.grad is not None: GRADS[f"pool_{kind}/{n}"] = t.grad.contiguous()
for kind in ("adaptive", "attention", "mean", "max"): probe(kind)
# through the encoder: loss = sum over real tokens of last_hidden_state * (1, -1, 1, -1, ...), as whole gradients task_embedding/{words,W,b}
words_ = we.detach().clone().requires_grad_(); Wt, bt = (t.clone().requires_grad_() for t in (W, b)); base.requires_grad_(False)
h = base(inputs_embeds=words_ @ Wt.T + bt, attention_mask=batch["attention_mask"], token_type_ids=batch["token_type_ids"]).last_hidden_state
((h * mask) * torch.tensor([1.0, -1.0]).repeat(H // 2)).sum().backward(); base.requires_grad_(True)
for n, t in (("words", words_), ("W", Wt), ("b", bt)): GRADS[f"task_embedding/{n}"] = t.grad.contiguous()
mix_s = torch.randn(cfg.num_hidden_layers + 1, generator=g); gamma = 1.3
with torch.no_grad(): hs = torch.stack(base(**batch, output_hidden_states=True).hidden_states)
ref["layer_mixture"] = {"definition": "gamma * sum over layers of softmax(s)_l * hidden_states[l]", "s": L(mix_s), "gamma": gamma, "mixed": L(gamma * (torch.softmax(mix_s, 0)[:, None, None, None] * hs).sum(0))}
ref["task_embeddings"] = {"definition": "word embeddings pass through the task's linear layer (same W, b as adaptive_pooling) before positions, types and LayerNorm are applied", "embedded": L(te), "last_hidden_state": L(o.last_hidden_state)}

# --- 30 optimisation steps, no dropout ----------------------------------------------------------------------------
m = with_head(BertForSequenceClassification, 3); m.train()
nodecay = lambda n: n.endswith("bias") or "LayerNorm" in n
groups = [{"params": [p for n, p in m.named_parameters() if not nodecay(n)], "weight_decay": 0.01}, {"params": [p for n, p in m.named_parameters() if nodecay(n)], "weight_decay": 0.0}]
opt = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8); sch = get_linear_schedule_with_warmup(opt, 6, 30)
g = torch.Generator().manual_seed(3); steps = []
for i in range(30):
    n = 8; ids = torch.randint(5, len(words), (4, n), generator=g); ids[:, 0] = 2; lens = torch.randint(4, n + 1, (4,), generator=g)
    am = (torch.arange(n)[None] < lens[:, None]).long(); ids = ids * am; y = (ids.sum(1) % 3)
    o = m(input_ids=ids, attention_mask=am, labels=y); opt.zero_grad(); o.loss.backward()
    gn = torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0); lr = opt.param_groups[0]["lr"]; opt.step(); sch.step()
    steps.append({"input_ids": ids.tolist(), "attention_mask": am.tolist(), "labels": y.tolist(), "loss": o.loss.item(), "grad_norm_before_clip": gn.item(), "lr": lr})
ref["adamw_trajectory"] = {"start": "tiny-bert-seqcls", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, "no_decay": "biases and LayerNorm", "warmup_steps": 6, "total_steps": 30, "max_grad_norm": 1.0, "steps": steps,
                           "final_logits_on_batch": L(m.eval()(**batch).logits)}
json.dump(ref, open(os.path.join(HERE, "tiny_bert.json"), "w"))
save_file(GRADS, os.path.join(HERE, "tiny_bert_gradients.safetensors"))

# --- the real model -------------------------------------------------------------------------------------------------
path = sys.argv[1]; tok = AutoTokenizer.from_pretrained(path); model = BertModel.from_pretrained(path, attn_implementation="eager").eval()
sents = ["The quick brown fox jumps over the lazy dog.", "Fine-tuning BERT in pure Rust, on any backend.", "naïve café — Zürich, 北京, 東京!", "", "unbelievablyhyperextendedpseudoword", "He said: \"I'm not sure it's worth $3.50…\"",
         "acetylsalicylic acid inhibits COX-1 and COX-2", "A" * 400, "word " * 700, "\tTabs\nand newlines \u0000 control", "🙂 emoji are unknown tokens", "The cat sat on the mat. " * 12]
rows = []
with torch.no_grad():
    for s in sents:
        e = tok(s, truncation=True, max_length=256, return_tensors="pt"); h = model(**e).last_hidden_state
        p = torch.nn.functional.normalize(h.mean(1), dim=-1)[0]
        rows.append({"text": s, "max_length": 256, "input_ids": e["input_ids"][0].tolist(), "cls_first8": L(h[0, 0, :8]), "hidden_norm": h.norm().item(), "mean_pooled_normalised": L(p)})
    e = tok(sents, truncation=True, max_length=64, padding=True, return_tensors="pt"); h = model(**e).last_hidden_state
    mk = e["attention_mask"][..., None].float(); p = torch.nn.functional.normalize((h * mk).sum(1) / mk.sum(1), dim=-1)
json.dump({"model": "sentence-transformers/all-MiniLM-L6-v2", "single": rows, "batched_max_length_64": {"texts": sents, "mean_pooled_normalised": L(p)}}, open(os.path.join(HERE, "minilm.json"), "w"))
print("ok", ref["sequence_classification"]["loss"], [round(s["loss"], 4) for s in steps][:5], steps[-1]["loss"])
for d, _, fs in os.walk(HERE):
    for f in fs: os.chmod(os.path.join(d, f), 0o644)
