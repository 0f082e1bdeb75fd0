//! Bad input: one clear sentence with the place, exit code 2, and nothing lost.

use std::{fs, process::Output};

use crate::{Desk, reference, stderr, stdout, text};

/// Asserts one line on standard error that begins with `error: ` and has all the parts, and the exit code.
#[track_caller]
fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(stdout(output), "");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "{said}");
    for part in parts {
        assert!(last.contains(part), "{part:?} is not in {last:?}");
    }
}

#[test]
fn no_such_file() {
    let desk = Desk::new();
    assert_refused(&desk.train(&["--dev", "nowhere.tsv"]), 2, &["nowhere.tsv"]);
    assert_refused(&desk.train(&["--model", "nowhere"]), 2, &["nowhere"]);
    assert!(!desk.path("run").exists());
}

#[test]
fn a_directory_without_config() {
    let desk = Desk::new();
    fs::create_dir(desk.path("empty")).unwrap();
    assert_refused(&desk.train(&["--model", "empty"]), 2, &["empty", "config.json"]);
}

#[test]
fn a_config_that_is_no_json() {
    let desk = Desk::new();
    desk.copy_model("tiny-bert", "model");
    desk.write("model/config.json", "{ hidden_size: 32");
    assert_refused(&desk.train(&["--model", "model"]), 2, &["config.json", "JSON"]);
}

#[test]
fn damaged_weights() {
    let desk = Desk::new();
    desk.copy_model("tiny-bert", "model");
    let weights = fs::read(desk.path("model/model.safetensors")).unwrap();
    desk.write("model/model.safetensors", &weights[..weights.len() / 2]);
    assert_refused(&desk.train(&["--model", "model"]), 2, &["model.safetensors", "damaged"]);
    let mut oversized = u64::MAX.to_le_bytes().to_vec();
    oversized.extend(&weights[8..]);
    desk.write("model/model.safetensors", oversized);
    assert_refused(&desk.train(&["--model", "model"]), 2, &["model.safetensors"]);
}

#[test]
fn a_checkpoint_of_another_architecture() {
    let desk = Desk::new();
    desk.copy_model("tiny-bert", "model");
    let config = fs::read_to_string(desk.path("model/config.json")).unwrap();
    let other = config.replace("\"model_type\": \"bert\"", "\"model_type\": \"roberta\"");
    assert_ne!(config, other);
    desk.write("model/config.json", other);
    assert_refused(&desk.train(&["--model", "model"]), 2, &["model_type", "roberta", "bert"]);
}

#[test]
fn tensors_that_are_missing_or_of_another_shape() {
    let desk = Desk::new();
    for (file, tensor) in [
        ("missing_one_tensor.safetensors", "encoder.layer.1.attention.self.value.weight"),
        ("wrong_shape.safetensors", "encoder.layer.0.intermediate.dense.weight"),
    ] {
        desk.copy_model("tiny-bert", "model");
        let variant = reference().join("tiny-bert-variants").join(file);
        fs::copy(variant, desk.path("model/model.safetensors")).unwrap();
        assert_refused(&desk.train(&["--model", "model"]), 2, &[tensor]);
    }
}

#[test]
fn a_tokenizer_larger_than_the_embedding() {
    let desk = Desk::new();
    desk.copy_model("tiny-bert", "model");
    let config = fs::read_to_string(desk.path("model/config.json")).unwrap();
    let size = serde_json::from_str::<serde_json::Value>(&config).unwrap()["vocab_size"].clone();
    desk.write(
        "model/config.json",
        config.replace(&format!("\"vocab_size\": {size}"), "\"vocab_size\": 20"),
    );
    assert_refused(&desk.train(&["--model", "model"]), 2, &["20", &size.to_string()]);
}

#[test]
fn a_row_with_too_few_columns() {
    let desk = Desk::new();
    desk.write("train.tsv", "a film\tgood\na plot\tbad\nno label\nit\tgood\n");
    assert_refused(&desk.train(&[]), 2, &["train.tsv", "line 3", "2 columns", "1"]);
}

#[test]
fn invalid_utf8() {
    let desk = Desk::new();
    desk.write("train.tsv", b"a film\tgood\na \xff plot\tbad\n");
    assert_refused(&desk.train(&[]), 2, &["train.tsv", "line 2", "UTF-8"]);
}

#[test]
fn an_unknown_label_in_dev() {
    let desk = Desk::new();
    desk.write("dev.tsv", "a film\tgood\na plot\tmixed\n");
    assert_refused(&desk.train(&["--dev", "dev.tsv"]), 2, &["dev.tsv", "line 2", "mixed", "good"]);
}

#[test]
fn an_empty_file() {
    let desk = Desk::new();
    desk.write("train.tsv", "");
    assert_refused(&desk.train(&[]), 2, &["train.tsv", "no row"]);
}

#[test]
fn the_wrong_column_taken_for_the_label() {
    let desk = Desk::new();
    let rows =
        (0..40).map(|i| format!("{}\tthe movie number {i} was great\n", ["good", "bad"][i % 2]));
    desk.write("train.tsv", rows.collect::<String>());
    assert_refused(&desk.train(&[]), 2, &["train.tsv", "--label 1", "--text 2"]);
    let right = desk.train(&["--label", "1", "--text", "2"]);
    assert_eq!(right.status.code(), Some(0), "{}", stderr(&right));
}

#[test]
fn data_of_another_form_than_it_seems() {
    let desk = Desk::new();
    let rows = |separator: &str| {
        (0..20)
            .map(|i| format!("a film {i}{separator}{}\n", ["good", "bad"][i % 2]))
            .collect::<String>()
    };
    desk.write("data.csv", rows(";"));
    let refused = ["data.csv has one column", "a comma stands", "has semicolons"];
    assert_refused(&desk.bert(&train_on("data.csv")), 2, &refused);
    desk.write("data.tsv", rows("    "));
    let refused = ["data.tsv has one column", "a tab stands between"];
    assert_refused(&desk.bert(&train_on("data.tsv")), 2, &refused);
    desk.write("data.txt", rows("\t"));
    assert_refused(&desk.bert(&train_on("data.txt")), 2, &["a text and a label a row"]);
    desk.write("data.tsv", (0..20).map(|i| format!("a film\t0.{i:02}\n")).collect::<String>());
    let refused = ["20 of 20 rows", "all labels are numbers", "kind regress", "[task.NAME]"];
    assert_refused(&desk.bert(&train_on("data.tsv")), 2, &refused);
    // A column without texts is read, but not in silence.
    desk.write("data.tsv", "\tgood\n \tbad\na\tgood\na\tbad\n".repeat(5));
    let output = desk.bert(&train_on("data.tsv"));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("texts are empty: is it the right column?"),
        "{}",
        stderr(&output)
    );
}

fn train_on(file: &str) -> [&str; 9] {
    static MODEL: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    let model = MODEL.get_or_init(|| reference().join("tiny-bert"));
    ["train", "--train", file, "--model", text(model), "--out", "run", "--epochs", "1"]
}

#[test]
fn a_directory_that_holds_a_run() {
    let desk = Desk::new();
    assert!(desk.train(&[]).status.success());
    let weights = fs::read(desk.path("run/model.safetensors")).unwrap();
    assert_refused(&desk.train(&[]), 2, &["run", "--overwrite", "bert train --resume run"]);
    assert_eq!(fs::read(desk.path("run/model.safetensors")).unwrap(), weights);
    assert!(desk.train(&["--overwrite"]).status.success());
    desk.copy_model("tiny-bert", "pretrained");
    let model = reference().join("tiny-bert");
    let arguments = ["train", "--train", "train.tsv", "--model", text(&model)];
    let onto_model = [&arguments[..], &["--out", "pretrained"]].concat();
    let replacing = [&onto_model[..], &["--overwrite"]].concat();
    assert_refused(&desk.bert(&onto_model), 2, &["pretrained", "no run"]);
    assert_refused(&desk.bert(&replacing), 2, &["pretrained", "no run"]);
    assert!(desk.path("pretrained/model.safetensors").exists());
    let onto = desk.train(&["--model", "run", "--overwrite"]);
    assert_refused(&onto, 2, &["run", "starts from"]);
}

#[test]
fn sentences_with_too_few_tags() {
    let desk = Desk::new();
    desk.write("slots.tsv", "a film\tO B-X\nit is a film\tO B-X\n");
    let flags = ["--train", "slots.tsv", "--tokens", "1", "--tags", "2", "--out", "run"];
    let model = reference().join("tiny-bert");
    let output = desk.bert(&[&["train", "--model", text(&model)][..], &flags].concat());
    assert_refused(&output, 2, &["slots.tsv", "line 2", "4 tokens", "2 tags"]);
    assert!(!desk.path("run").exists());
}

#[test]
fn a_loss_that_is_no_number() {
    let desk = Desk::new();
    let output = desk.train(&["--lr", "1e30", "--batch-size", "8"]);
    assert_refused(&output, 1, &["step 3 (epoch 1)", "learning rate", "evaluations before it"]);
    assert!(!desk.path("run/model.safetensors").exists());
    let log = fs::read_to_string(desk.path("run/metrics.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 2);
}

/// The same where products are in bfloat16, with all that regularises a run without dropout.
#[test]
fn a_loss_that_is_no_number_in_bfloat16() {
    let desk = Desk::new();
    let of_run =
        ["--precision", "bfloat16", "--label-smoothing", "0.1", "--fgm", "1", "--ema", "0.9"];
    let output = desk.train(&[&["--lr", "1e30", "--batch-size", "8"], &of_run[..]].concat());
    assert_refused(&output, 1, &["step 3 (epoch 1)", "learning rate", "--precision float32"]);
    assert!(!desk.path("run/model.safetensors").exists());
}

#[test]
fn regularisation_that_can_not_be() {
    let desk = Desk::new();
    for (flags, parts) in [
        (["--label-smoothing", "1"], ["label-smoothing must be a share", "got 1"]),
        (["--fgm", "inf"], ["fgm must be a number from 0", "got inf"]),
        (["--ema", "1"], ["ema must be a number from 0, less than 1", "got 1"]),
        // The tiny model drops nothing.
        (["--r-drop", "1"], ["leave r-drop out", "config.json"]),
    ] {
        assert_refused(&desk.train(&flags), 2, &parts);
    }
    assert!(!desk.path("run").exists());
}

#[test]
fn a_tokenizer_that_is_no_json() {
    let desk = Desk::new();
    desk.copy_model("tiny-bert", "model");
    let tokenizer = fs::read_to_string(desk.path("model/tokenizer.json")).unwrap();
    let damaged = tokenizer.replace("\"decoder\": {", "\"decoder\": {{");
    assert_ne!(damaged, tokenizer);
    desk.write("model/tokenizer.json", damaged);
    assert_refused(&desk.train(&["--model", "model"]), 2, &["tokenizer.json", "JSON"]);
}

/// Nothing is lost before the run can begin: a path that no run file can hold.
#[cfg(unix)]
#[test]
fn a_path_that_is_no_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    assert!(desk.train(&[]).status.success());
    let path = std::ffi::OsStr::from_bytes(b"bad\xff.tsv");
    fs::copy(desk.path("train.tsv"), desk.folder.path().join(path)).unwrap();
    let output = desk
        .program()
        .args(["train", "--model", text(&reference().join("tiny-bert")), "--out", "run"])
        .args(["--overwrite", "--train"])
        .arg(path)
        .output()
        .unwrap();
    assert_refused(&output, 2, &["UTF-8"]);
    assert!(desk.path("run/model.safetensors").exists());
}

#[test]
fn flags_that_cannot_be_followed() {
    let desk = Desk::new();
    for (flags, parts) in [
        (["--lr", "0"], ["lr", "above 0"]),
        (["--lr=-1", "--header"], ["lr", "above 0"]),
        (["--batch-size", "0"], ["batch-size", "from 1"]),
        (["--batch-size", "4611686018427387904"], ["batch-size", "to 1000000"]),
        (["--epochs", "9223372036854775808"], ["epochs", "to 1000000"]),
        (["--epochs", "0"], ["epochs", "from 1"]),
        (["--max-length", "65"], ["65", "64"]),
        (["--min-delta", "0.1"], ["min-delta", "no patience"]),
        (["--dev-fraction", "1.5"], ["dev fraction", "1.5"]),
        (["--device", "toaster"], ["toaster", "flex"]),
    ] {
        assert_refused(&desk.train(&flags), 2, &parts);
    }
    let arguments = ["predict", "--model", "run", "--text", "good"];
    let output = desk.program().args(arguments).env("BURN_DEVICE", "oven").output().unwrap();
    assert_refused(&output, 2, &["oven", "flex"]);
    let output = desk.bert(&["predict", "--model", "run"]);
    assert_refused(&output, 2, &["--text TEXT", "--input FILE"]);
    std::fs::create_dir(desk.path("folder")).unwrap();
    assert_refused(&desk.train(&["--dev", "folder"]), 2, &["folder", "directory"]);
    let output = desk.train(&["--pooling", "avg"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("adaptive"), "{}", stderr(&output));
}

/// Whether or not this program has a dashboard.
#[test]
fn a_dashboard_without_a_terminal() {
    let desk = Desk::new();
    let output = desk.train(&["--dashboard"]);
    assert_refused(&output, 2, &["--dashboard", "expected a terminal", "leave the flag out"]);
    assert!(!desk.path("run").exists());
}

#[test]
fn out_that_cannot_be_made() {
    let desk = Desk::new();
    desk.write("file", "");
    let model = reference().join("tiny-bert");
    let output =
        desk.bert(&["train", "--model", text(&model), "--train", "train.tsv", "--out", "file/run"]);
    assert_refused(&output, 2, &["file/run"]);
}

#[test]
fn run_files_that_cannot_be_followed() {
    let desk = Desk::new();
    for (content, parts) in [
        ("model = \"m\"\ntrain = \"t\"\nepoch = 3\n", ["line 3", "epochs"]),
        ("model = \"m\"\n\ntrain = 3\n", ["line 3: train", "expected a path in quotes"]),
        (
            "model = \"m\"\ntrain = \"t\"\nseed = 1\nlr = \"x\"\n",
            ["line 4: lr", "expected a number"],
        ),
        ("model = \"m\"\n", ["run.toml", "train"]),
        (
            "model = \"m\"\ntrain = \"t\"\ndev_fraction = 0.2\ndev = \"d\"\n",
            ["line 3", "leave out dev or dev_fraction"],
        ),
        ("model = \n", ["line 1", "run.toml"]),
        (
            "model = \"m\"\ntrain = \"t\"\n\nlr = -3\n",
            ["run.toml, line 4", "lr must be a number above 0, got -3"],
        ),
    ] {
        desk.write("run.toml", content);
        assert_refused(&desk.bert(&["train", "run.toml", "--out", "run"]), 2, &parts);
    }
}

#[test]
fn models_without_what_is_asked_of_them() {
    let desk = Desk::new();
    let bert = reference().join("tiny-bert");
    let output = desk.bert(&["predict", "--model", text(&bert), "--text", "a"]);
    assert_refused(&output, 2, &["tiny-bert", "no classifier"]);
    let output = desk.bert(&["embed", "--model", "nowhere", "--input", "texts.txt"]);
    assert_refused(&output, 2, &["there is no directory nowhere", "nothing is downloaded"]);
    assert!(desk.train(&["--out", "one"]).status.success());
    let output = desk.bert(&["predict", "--model", "one", "--text", "a", "--pair", "b"]);
    assert_refused(&output, 2, &["takes one text: leave out --pair"]);
    desk.write("pairs.tsv", "a\tb\tgood\nb\ta\tbad\n".repeat(10));
    let pairs = ["train", "--train", "pairs.tsv", "--epochs", "1", "--out", "two"];
    let output = desk.bert(&[&pairs[..], &["--model", text(&bert)]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let read = "pairs.tsv is read as pairs of texts: --text 1 --text 2 --label 3";
    assert!(stderr(&output).contains(read), "{}", stderr(&output));
    assert!(!stderr(&output).contains("kind regress"), "{}", stderr(&output));
    desk.write("scores.tsv", "a film\t2.5\na plot\t1\n".repeat(10));
    let scores = ["train", "--train", "scores.tsv", "--epochs", "1", "--out", "scores"];
    let scored = desk.bert(&[&scores[..], &["--model", text(&bert)]].concat());
    assert!(scored.status.success(), "{}", stderr(&scored));
    assert!(stderr(&scored).contains("as 2.5 is: each is a class"), "{}", stderr(&scored));
    let output = desk.bert(&["predict", "--model", "two", "--text", "a"]);
    assert_refused(&output, 2, &["takes two texts: give the second with --pair"]);
    desk.copy_model("tiny-bert", "model");
    fs::copy(
        reference().join("tiny-bert-variants/no_pooler.safetensors"),
        desk.path("model/model.safetensors"),
    )
    .unwrap();
    desk.write("texts.txt", "a film\n");
    let output =
        desk.bert(&["embed", "--model", "model", "--input", "texts.txt", "--pooling", "cls"]);
    assert_refused(&output, 2, &["model", "cls"]);
    let output = desk.train(&["--model", "model"]);
    assert!(
        output.status.success() && stderr(&output).contains("no pooler"),
        "{}",
        stderr(&output)
    );
}

/// What a device cannot do is refused before the run, and named.
#[test]
#[cfg(feature = "ndarray")]
fn products_that_a_device_has_not() {
    let desk = Desk::new();
    let output = desk.train(&["--precision", "bfloat16", "--device", "ndarray"]);
    assert_refused(&output, 2, &["bfloat16", "flex"]);
    assert!(!desk.path("run").exists());
}

#[test]
fn words_that_cannot_be_added() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    let extend = |words: &str| {
        desk.write("words.txt", words);
        desk.bert(&[
            "vocab",
            "extend",
            "--model",
            text(&model),
            "--words",
            "words.txt",
            "--out",
            "o",
        ])
    };
    assert_refused(&extend("cab\ntwo words\n"), 2, &["words.txt, line 2", "one word a line"]);
    assert_refused(&extend("Cab\n"), 2, &["words.txt, line 1", "\"cab\""]);
    assert_refused(&extend("the\n"), 2, &["words.txt", "nothing to add"]);
    assert!(!desk.path("o").exists());
    let scan = ["vocab", "scan", "nowhere.txt", "--model", text(&model)];
    assert_refused(&desk.bert(&scan), 2, &["nowhere.txt"]);
}

#[test]
fn runs_that_cannot_be_compared() {
    let desk = Desk::new();
    assert!(desk.train(&[]).status.success());
    let compare = |runs: &[&str]| desk.bert(&[&["compare"], runs].concat());
    assert_refused(&compare(&["run"]), 2, &["at least two runs"]);
    assert_refused(&compare(&["run", "nowhere"]), 2, &["nowhere holds no run", "bert train"]);
    assert_refused(&compare(&["run", "run"]), 2, &["same settings and seed 0"]);
    for flags in [["--text", "1"], ["--batch-size", "4"], ["--device", "flex"]] {
        let runs = [&["run", "other"], &flags[..]].concat();
        let output = compare(&runs);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("not provided:\n  --data <FILE>"), "{}", stderr(&output));
    }
    let several = ["--pooling", "mean,multi-head=5", "--out", "runs"];
    let output = desk.train(&several);
    assert_refused(&output, 2, &["multi-head=5", "hidden_size 32"]);
    assert!(!desk.path("runs").exists());
    assert_eq!(desk.train(&["--seeds", "0"]).status.code(), Some(2));
}

#[test]
fn adapters_that_make_no_sense() {
    let desk = Desk::new();
    for (lora, message) in [
        ("rank=0", "rank must be a whole number from 1"),
        ("rank=8,targets=query+values", "unknown target \"values\": expected query, key, value"),
        ("rank=8,alpha=-1", "alpha must be a number above 0"),
    ] {
        let output = desk.train(&["--lora", lora]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
    assert_refused(&desk.train(&["--lora", "rank=33"]), 2, &["rank 33", "hidden_size is 32"]);
    assert!(!desk.path("run").exists());
}

#[test]
fn adapters_that_cannot_be_merged() {
    let desk = Desk::new();
    let (model, adapter) =
        (reference().join("tiny-bert-seqcls"), reference().join("tiny-bert-lora"));
    let merge = |adapter: &str, out: &str| {
        desk.bert(&["merge", "--model", text(&model), "--adapter", adapter, "--out", out])
    };
    assert_refused(&merge("nowhere", "o"), 2, &["nowhere/adapter_config.json"]);
    desk.copy_model("tiny-bert-lora", "adapter");
    let config = fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    desk.write(
        "adapter/adapter_config.json",
        config.replace("\"use_dora\": false", "\"use_dora\": true"),
    );
    assert_refused(
        &merge("adapter", "o"),
        2,
        &["adapter_config.json: use_dora must be", "got true"],
    );
    desk.write("adapter/adapter_config.json", config.replace("\"r\": 5", "\"r\": 6"));
    assert_refused(
        &merge("adapter", "o"),
        2,
        &["lora_A.weight must have shape [6, 32], got [5, 32]"],
    );
    assert!(!desk.path("o").exists());
    assert_refused(
        &merge(text(&adapter), "adapter"),
        2,
        &["adapter is not empty: give another --out"],
    );
}

#[test]
fn weights_that_cannot_be_shown() {
    let desk = Desk::new();
    let classifier = reference().join("tiny-bert-seqcls");
    let tagger = reference().join("tiny-bert-tokcls");
    let predict = |model: &std::path::Path, flags: &[&str]| {
        desk.bert(&[&["predict", "--model", text(model), "--text", "a"], flags].concat())
    };
    let output = predict(&tagger, &["--weights", "json"]);
    assert_refused(&output, 2, &["tagger", "leave out --weights"]);
    let output = predict(&classifier, &["--weights", "ansi", "--weights-per-dimension"]);
    assert_refused(&output, 2, &["--weights json"]);
    for file in ["html=nowhere/page.html", "html=."] {
        let output = predict(&classifier, &["--weights", file]);
        assert_refused(&output, 2, &["cannot write", &file[5..]]);
    }
    for form in ["html", "html=", "png"] {
        let output = predict(&classifier, &["--weights", form]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("html=FILE"), "{}", stderr(&output));
    }
}

#[test]
fn poolings_and_mixtures_that_make_no_sense() {
    let desk = Desk::new();
    let output = desk.train(&["--pooling", "multi-head=5"]);
    assert_refused(&output, 2, &["multi-head=5", "hidden_size 32", "multi-head=4"]);
    let output = desk.train(&["--pooling", "multi-head=0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("multi-head=HEADS"), "{}", stderr(&output));
    desk.write("run.toml", "model = \"m\"\ntrain = \"t\"\npooling = \"avg\"\n");
    let output = desk.bert(&["train", "run.toml", "--out", "run"]);
    assert_refused(&output, 2, &["line 3: pooling", "avg", "adaptive"]);
    desk.write("train.conll", "the\tO\nmovie\tB-WHAT\n\n".repeat(9));
    let model = reference().join("tiny-bert");
    let tagger = ["train", "--train", "train.conll", "--model", text(&model), "--out", "run"];
    let output = desk.bert(&[&tagger[..], &["--layer-mixture"]].concat());
    assert_refused(&output, 2, &["train.conll", "leave out the layer mixture"]);
    let output = desk.bert(&[&tagger[..], &["--text", "1"]].concat());
    assert_refused(&output, 2, &["text is for texts with one label", "leave it out"]);
    assert!(!desk.path("run").exists());
}

#[test]
fn task_embeddings_and_words_that_make_no_sense() {
    let desk = Desk::new();
    let output = desk.train(&["--task-embedding", "low-rank=0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("low-rank=16"), "{}", stderr(&output));
    let output = desk.train(&["--task-embedding", "low-rank=99999999999"]);
    assert_refused(&output, 2, &["low-rank=99999999999", "hidden_size 32"]);
    let output = desk.train(&["--train-embeddings", "new"]);
    assert_refused(&output, 2, &["tiny-bert", "no new words", "bert vocab extend"]);
    let output = desk.train(&["--task-embedding-lr", "0"]);
    assert_refused(&output, 2, &["task-embedding-lr", "above 0"]);
    assert!(!desk.path("run").exists());
    let model = reference().join("tiny-bert");
    let output = desk.bert(&["export", "--model", text(&model), "--out", "plain"]);
    assert_refused(&output, 2, &["holds no classifier"]);
    assert!(!desk.path("plain").exists());
}

#[test]
fn ways_to_read_long_texts_that_do_not_fit() {
    let desk = Desk::new();
    for (flags, parts) in [
        (&["--stride", "3"][..], &["stride", "--long windows"][..]),
        (&["--long", "head-tail", "--max-windows", "3"], &["max-windows", "head-tail"]),
        (&["--long", "windows", "--max-windows", "0"], &["max-windows", "1 to 64", "got 0"]),
        (&["--long", "windows", "--max-length", "8", "--stride", "7"], &["stride of 7", "1 to 6"]),
        (&["--freeze", "encoder", "--task-embedding", "full"], &["task-embedding", "freeze"]),
    ] {
        assert_refused(&desk.train(flags), 2, parts);
    }
    let output = desk.train(&["--long", "window"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("truncate, head-tail or windows"), "{}", stderr(&output));
    assert!(!desk.path("run").exists());

    desk.write(
        "tasks.toml",
        "model = \"m\"\n[task.one]\nkind = \"classify\"\ntrain = \"train.tsv\"\n",
    );
    let output = desk.bert(&["train", "tasks.toml", "--out", "run", "--long", "windows"]);
    assert_refused(&output, 2, &["--long", "tasks.toml describes several"]);
}
