"""Reference values of LoRA from PEFT, for parity tests of values, gradients and files.

Writes, beside this file:
  tiny-bert-lora/       adapters on all six maps of each layer of tiny-bert-seqcls, with pooler and classifier, as PEFT saves them
  tiny-bert-lora-patterns/   adapters of several ranks and alphas, scaled by the root of the rank, on some maps of tiny-bert, with a
                        head for five tags
  lora.json             logits and loss with them on tiny_bert.json's batch; of the second ones, merged by PEFT
  lora_gradients.safetensors   the gradient of every parameter that PEFT trains, by the names of its file

Run after make_reference.py:  pip install torch transformers safetensors peft ; python make_lora.py
"""
import json, os
import peft, torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, BertForTokenClassification

HERE = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
torch.manual_seed(29)

reference = json.load(open(os.path.join(HERE, "tiny_bert.json")))
batch = {key: torch.tensor(rows) for key, rows in reference["batch"].items()}
labels = torch.tensor(reference["sequence_classification"]["labels"])

base = BertForSequenceClassification.from_pretrained(os.path.join(HERE, "tiny-bert-seqcls"), attn_implementation="eager")
maps = ["attention.self.query", "attention.self.key", "attention.self.value",
        "attention.output.dense", "intermediate.dense", "output.dense"]
config = LoraConfig(r=5, lora_alpha=7.5, lora_dropout=0.0, modules_to_save=["classifier", "pooler"],
                    target_modules=r"(.*\.)?encoder\.layer\.\d+\.(" + "|".join(m.replace(".", r"\.") for m in maps) + ")")
model = get_peft_model(base, config)
generator = torch.Generator().manual_seed(23)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
model.train()
out = model(**batch, labels=labels)
out.loss.backward()

def save(model, name, base):
    folder = os.path.join(HERE, name)
    model.save_pretrained(folder)
    path = os.path.join(folder, "adapter_config.json")
    written = json.load(open(path))
    written["base_model_name_or_path"] = base
    for key, value in written.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            written[key] = sorted(value)
    json.dump(written, open(path, "w"), indent=2, sort_keys=True)
    os.remove(os.path.join(folder, "README.md"))
    return folder

folder = save(model, "tiny-bert-lora", "tiny-bert-seqcls")

names = load_file(os.path.join(folder, "adapter_model.safetensors"))
gradients = {}
for name, parameter in model.named_parameters():
    if parameter.requires_grad:
        plain = name.replace(".default", "").replace(".modules_to_save", "")
        assert plain in names and names[plain].equal(parameter.detach()), plain
        gradients[plain] = parameter.grad.clone().contiguous()
assert gradients.keys() == names.keys()
save_file(gradients, os.path.join(HERE, "lora_gradients.safetensors"))
tagger = BertForTokenClassification.from_pretrained(os.path.join(HERE, "tiny-bert"), num_labels=5, attn_implementation="eager")
config = LoraConfig(task_type="TOKEN_CLS", r=5, lora_alpha=7.5, lora_dropout=0.0, use_rslora=True,
                    target_modules=["query", "key", "intermediate.dense", "output.dense"],
                    rank_pattern={"attention.self.query": 3, "layer.1.output.dense": 7},
                    alpha_pattern={"bert.encoder.layer.0.intermediate.dense": 2.25, r"attention\.output\.dense": 11})
tagger = get_peft_model(tagger, config)
with torch.no_grad():
    for name, parameter in tagger.named_parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
save(tagger, "tiny-bert-lora-patterns", "tiny-bert")
with torch.no_grad():
    tags = tagger.merge_and_unload().eval()(**batch).logits

json.dump({"peft": peft.__version__, "logits": [[float(f"{v:.8g}") for v in row] for row in out.logits.tolist()],
           "loss": out.loss.item(),
           "patterns": {"logits": [[[float(f"{v:.8g}") for v in token] for token in row] for row in tags.tolist()]}}, open(os.path.join(HERE, "lora.json"), "w"))
for d, _, fs in os.walk(HERE):
    for f in fs: os.chmod(os.path.join(d, f), 0o644)
print("ok", out.loss.item(), len(gradients), "tensors")
