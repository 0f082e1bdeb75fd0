//! Commands that do their work.

use crate::{Desk, json, reference, stderr, stdout, text};

#[test]
fn train_eval_predict_embed_inspect() {
    let desk = Desk::new();
    let report = json(&desk.train(&["--json", "--lr", "1e-3", "--pooling", "adaptive"]));
    for key in ["accuracy", "f1_macro", "f1_micro", "f1", "matthews", "loss"] {
        assert!(report["dev"][key].is_f64(), "{report}");
        assert!(report["last"][key].is_f64(), "{report}");
    }
    assert!(report["best_epoch"].is_u64() && report["train_seconds"].is_f64());
    assert!(report["examples_per_second"].is_f64());

    let metrics = json(&desk.bert(&["eval", "--model", "run", "--data", "train.tsv", "--json"]));
    assert_eq!(metrics["rows"], 40);
    assert!(metrics["accuracy"].as_f64().unwrap() >= 0.5);

    let answer = json(&desk.bert(&["predict", "--model", "run", "--text", "a bad \"plot\""]));
    assert_eq!(answer["text"], "a bad \"plot\"");
    let probabilities = answer["probabilities"].as_object().unwrap();
    let sum: f64 = probabilities.values().map(|p| p.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9 && probabilities.len() == 2);
    assert!(probabilities.contains_key(answer["label"].as_str().unwrap()));

    desk.write("texts.txt", "the film\n\nit is very good\n");
    let output = desk.bert(&["predict", "--model", "run", "--input", "texts.txt"]);
    assert_eq!(stdout(&output).lines().count(), 2, "{}", stderr(&output));
    // Whoever leaves columns aside without a word is told.
    let output = desk.bert(&["predict", "--model", "run", "--input", "train.tsv"]);
    let told = "train.tsv has 2 columns, of which the first is read: name others with --column COL";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    let output = desk.bert(&["embed", "--model", "run", "--input", "texts.txt", "--normalize"]);
    assert!(!stderr(&output).contains("columns"), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1]["text"], "it is very good");
    let norm: f64 =
        lines[1]["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap().powi(2)).sum();
    assert!((norm - 1.0).abs() < 1e-5);

    let shown = stdout(&desk.bert(&["inspect", "--model", "run"]));
    assert!(shown.contains("2 layers, hidden 32") && shown.contains("bad, good"), "{shown}");
    assert!(stdout(&desk.bert(&["devices"])).contains("flex"));
}

/// Heads and mixture are in the run file and in the model, and a model of both is applied like any other.
#[test]
fn multi_head_pooling_of_a_layer_mixture() {
    let desk = Desk::new();
    let flags = ["--pooling", "multi-head=2", "--layer-mixture", "--pooling-lr", "1e-2"];
    let report = json(&desk.train(&[&flags[..], &["--json"]].concat()));
    let run_file = std::fs::read_to_string(desk.path("run/run.toml")).unwrap();
    assert!(run_file.contains("pooling = \"multi-head=2\"\nlayer_mixture = true\n"), "{run_file}");
    let again = json(&desk.bert(&["train", "run/run.toml", "--out", "again", "--json"]));
    assert_eq!(again["dev"], report["dev"]);
    let tensors = stdout(&desk.bert(&["inspect", "--model", "run", "--tensors"]));
    for name in
        ["pooling.queries  [32, 2]", "pooling.value.weight  [32, 32]", "layer_mixture.gamma"]
    {
        assert!(tensors.contains(name), "{tensors}");
    }
    json(&desk.bert(&["eval", "--model", "run", "--data", "train.tsv", "--json"]));
    desk.write("texts.txt", "the film\n");
    json(&desk.bert(&["embed", "--model", "run", "--input", "texts.txt"]));
    let other = ["embed", "--model", "run", "--input", "texts.txt", "--pooling", "multi-head=4"];
    assert_eq!(desk.bert(&other).status.code(), Some(2));
}

/// The same seed gives the same weights to the bit, run after run and on any number of threads.
#[test]
fn weights_do_not_depend_on_the_number_of_threads() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    let weights = ["1", "2", "3", "2"].map(|threads| {
        let output = desk
            .program()
            .env("RAYON_NUM_THREADS", threads)
            .args(["train", "--train", "train.tsv", "--out", "run", "--overwrite"])
            .args(["--pooling", "attention", "--lr", "1e-3", "--model", text(&model)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::read(desk.path("run/model.safetensors")).unwrap()
    });
    assert!(weights.iter().all(|other| *other == weights[0]));
}

/// Products in bfloat16 are other numbers than in float32, but not by much, and the run file says so.
#[test]
fn training_in_bfloat16() {
    let desk = Desk::new();
    let loss = |more: &[&str]| {
        let report = json(&desk.train(&[more, &["--json", "--overwrite"]].concat()));
        report["last"]["loss"].as_f64().unwrap()
    };
    let (full, half) = (loss(&[]), loss(&["--precision", "bfloat16"]));
    assert!(full != half && (full - half).abs() < 0.02, "{full} {half}");
    let run_file = std::fs::read_to_string(desk.path("run/run.toml")).unwrap();
    assert!(run_file.contains("precision = \"bfloat16\""), "{run_file}");
    assert_eq!(loss(&["--precision", "bfloat16"]), half);
}

/// What regularises a run is said by flags and repeated by the run file, and dev losses are measured without it.
#[test]
fn training_that_is_regularised() {
    let desk = Desk::new();
    let plain = json(&desk.train(&["--json"]));
    let flags = ["--label-smoothing", "0.3", "--fgm", "0.5", "--ema", "0.9", "--r-drop", "0"];
    let report = json(&desk.train(&[&flags[..], &["--json", "--overwrite"]].concat()));
    assert_ne!(report["dev"]["loss"], plain["dev"]["loss"]);
    let run_file = std::fs::read_to_string(desk.path("run/run.toml")).unwrap();
    assert!(run_file.contains("label_smoothing = 0.3\nfgm = 0.5\nema = 0.9\n"), "{run_file}");
    let again = json(&desk.bert(&["train", "run/run.toml", "--out", "again", "--json"]));
    assert_eq!(again["last"], report["last"]);
    desk.write("dev.tsv", "the movie was great\tgood\na bad plot\tbad\n");
    let dev =
        json(&desk.train(&[&flags[..], &["--json", "--overwrite", "--dev", "dev.tsv"]].concat()));
    let measured = json(&desk.bert(&["eval", "--model", "run", "--data", "dev.tsv", "--json"]));
    assert_eq!(measured["loss"], dev["dev"]["loss"]);
}

/// A classifier of Hugging Face's is evaluated as it is; its logits are the reference's.
/// Each number of the recipe has a flag, which is a key of the run file, and the run file repeats the run.
#[test]
fn every_flag_of_the_recipe_is_in_the_run_file() {
    let desk = Desk::new();
    let flags = [
        ("lr", "0.002"),
        ("head-lr", "0.003"),
        ("pooling-lr", "0.004"),
        ("task-embedding-lr", "0.005"),
        ("warmup-ratio", "0.25"),
        ("schedule", "\"cosine,end=0.125\""),
        ("freeze", "\"layers=1\""),
        ("unfreeze-every", "\"3\""),
        ("layer-lr-decay", "0.75"),
        ("reinit-layers", "1"),
        ("recompute", "true"),
        ("batch-size", "8"),
        ("micro-batch-size", "3"),
        ("label-smoothing", "0.0625"),
        ("fgm", "0.5"),
        ("ema", "0.875"),
        ("weight-decay", "0.03125"),
        ("max-grad-norm", "0.5"),
        ("seed", "7"),
    ];
    let mut arguments = vec!["--json".to_owned(), "--task-embedding=diagonal".to_owned()];
    arguments.extend(flags.iter().map(|(flag, value)| match *value {
        "true" => format!("--{flag}"),
        value => format!("--{flag}={}", value.trim_matches('"')),
    }));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = json(&desk.train(&arguments));
    let run_file = std::fs::read_to_string(desk.path("run/run.toml")).unwrap();
    for (flag, value) in flags {
        let line = format!("{} = {value}", flag.replace('-', "_"));
        assert!(run_file.lines().any(|other| other == line), "{line} is not in\n{run_file}");
    }
    let again = json(&desk.bert(&["train", "run/run.toml", "--out", "again", "--json"]));
    assert_eq!((&again["dev"], &again["last"]), (&report["dev"], &report["last"]));
}

#[test]
fn a_plain_hugging_face_classifier_is_applied() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert-seqcls");
    let text_of = "the movie was great !";
    let answer = json(&desk.bert(&["predict", "--model", text(&model), "--text", text_of]));
    let file = std::fs::read_to_string(reference().join("tiny_bert.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_str(&file).unwrap();
    let logits = reference["sequence_classification"]["logits"][0].as_array().unwrap();
    let powers: Vec<f64> = logits.iter().map(|l| l.as_f64().unwrap().exp()).collect();
    let sum: f64 = powers.iter().sum();
    for (id, power) in powers.iter().enumerate() {
        let got = answer["probabilities"][format!("LABEL_{id}")].as_f64().unwrap();
        assert!((got - power / sum).abs() < 2e-5, "{answer}");
    }
}

#[test]
fn a_run_file_says_the_same_as_flags() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    desk.write(
        "run.toml",
        format!(
            "model = {:?}\ntrain = \"train.tsv\"\nepochs = 9\npooling = \"max\"\n",
            text(&model)
        ),
    );
    let from_file =
        json(&desk.bert(&["train", "run.toml", "--epochs", "2", "--out", "a", "--json"]));
    let from_flags = json(&desk.train(&["--pooling", "max", "--json"]));
    assert_eq!(from_file["dev"], from_flags["dev"]);
    // What a run wrote down repeats it.
    let again = json(&desk.bert(&["train", "run/run.toml", "--out", "b", "--json"]));
    assert_eq!(again["dev"], from_flags["dev"]);
}

/// What flags say of a run file's columns speaks of another file: its header is not inherited.
#[test]
fn columns_given_anew_bring_their_own_header() {
    let desk = Desk::new();
    let rows = std::fs::read_to_string(desk.path("train.tsv")).unwrap();
    desk.write("with.tsv", format!("review\tverdict\n{rows}"));
    let arguments = ["--train", "with.tsv", "--header", "--max-length", "16", "--json"];
    let model = reference().join("tiny-bert");
    let train = ["train", "--model", text(&model), "--out", "run", "--epochs", "1"];
    json(&desk.bert(&[&train[..], &arguments].concat()));
    let eval = |more: &[&str]| {
        json(&desk.bert(&[&["eval", "--model", "run", "--json", "--data"], more].concat()))
    };
    assert_eq!(eval(&["with.tsv"])["rows"], 40);
    assert_eq!(eval(&["train.tsv", "--text", "1", "--label", "2"])["rows"], 40);
}

/// Tagging, from files of words to spans with their places in characters.
#[test]
fn train_eval_predict_tags() {
    let desk = Desk::new();
    let rows = ["the\tO\nmovie\tB-WHAT\nplot\tI-WHAT\n\n", "a\tO\nbad\tO\nfilm\tB-WHAT\n\n"];
    desk.write("train.conll", (0..40).map(|i| rows[i % 2]).collect::<String>());
    let model = reference().join("tiny-bert");
    let train = ["train", "--model", text(&model), "--lr", "5e-3", "--epochs", "6", "--json"];
    let report =
        json(&desk.bert(&[&train[..], &["--train", "train.conll", "--out", "tags"]].concat()));
    for key in ["f1", "precision", "recall", "accuracy", "loss"] {
        assert!(report["dev"][key].is_f64() && report["last"][key].is_f64(), "{report}");
    }
    assert_eq!(report["dev"].as_object().unwrap().len(), 5);
    let eval = ["eval", "--model", "tags", "--json", "--data"];
    let metrics = json(&desk.bert(&[&eval[..], &["train.conll"]].concat()));
    assert_eq!(
        (metrics["rows"].as_u64(), metrics["f1"].as_f64()),
        (Some(40), Some(1.0)),
        "{metrics}"
    );
    desk.write("two.tsv", "the movie plot\tO B-WHAT I-WHAT\n");
    let columns = ["two.tsv", "--tokens", "1", "--tags", "2"];
    assert_eq!(json(&desk.bert(&[&eval[..], &columns].concat()))["f1"], 1.0);

    let answer = json(&desk.bert(&["predict", "--model", "tags", "--text", "the  movie plot"]));
    assert_eq!(answer["text"], "the  movie plot");
    let expected =
        serde_json::json!([{ "text": "movie plot", "start": 5, "end": 15, "label": "WHAT" }]);
    assert_eq!(answer["spans"], expected);
    assert_eq!(answer["tokens"][2]["label"], "I-WHAT");
    assert!(answer["tokens"][2]["probability"].is_f64());
    desk.write("words.conll", "the\nmovie\n\nfilm\n");
    let output = desk.bert(&["predict", "--model", "tags", "--input", "words.conll"]);
    assert_eq!(stdout(&output).lines().count(), 2, "{}", stderr(&output));
    let output = desk.bert(&["predict", "--model", "tags", "--text", "a", "--pair", "b"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

/// How much each token counts: in the line, in colours, on a page; and where the weight lies on standard error.
#[test]
fn weights_of_tokens() {
    let desk = Desk::new();
    json(&desk.train(&["--json", "--pooling", "adaptive", "--pooling-lr", "1e-1"]));
    let predict = ["predict", "--model", "run", "--weights"];
    let text_of = ["--text", "Thé movie was bad!"];
    let output =
        desk.bert(&[&predict[..], &["json", "--weights-per-dimension"], &text_of].concat());
    assert!(stderr(&output).starts_with("weight (and tokens) of 1 texts: [CLS] "), "{output:?}");
    let answer = json(&output);
    let weights = answer["weights"].as_array().unwrap();
    let sum: f64 = weights.iter().map(|token| token["weight"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{answer}");
    assert_eq!(weights[0]["token"], "[CLS]");
    assert_eq!(weights[0].as_object().unwrap().len(), 3, "{answer}");
    let movie = weights.iter().find(|token| token["token"] == "movie").unwrap();
    // Characters, not bytes.
    assert_eq!((&movie["start"], &movie["end"]), (&4.into(), &9.into()));
    let dimensions = movie["dimensions"].as_array().unwrap();
    let mean = dimensions.iter().map(|weight| weight.as_f64().unwrap()).sum::<f64>() / 32.0;
    assert!(dimensions.len() == 32 && (mean - movie["weight"].as_f64().unwrap()).abs() < 1e-6);

    let shown = stdout(&desk.bert(&[&predict[..], &["ansi"], &text_of].concat()));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("weight beside the largest"), "{shown}");
    assert!(lines[1].starts_with("bad ") || lines[1].starts_with("good "), "{shown}");
    assert!(lines[1].contains("\x1b[38;5;231;48;5;160m"), "{shown}");

    desk.write("texts.txt", "the <b>film</b>\nit is very good\n");
    let page = [&predict[..], &["html=page.html", "--input", "texts.txt"]].concat();
    let output = desk.bert(&page);
    assert_eq!(stdout(&output).lines().count(), 2, "{output:?}");
    assert!(!stdout(&output).contains("weights"));
    let html = std::fs::read_to_string(desk.path("page.html")).unwrap();
    assert_eq!(html.matches("<td class=text>").count(), 2);
    assert!(!html.contains("<b>") && html.contains("&lt;") && html.contains("data-w="));
}

/// Two poolings with two seeds, a second time without training, and the same models on other data.
#[test]
fn train_several_and_compare() {
    let desk = Desk::new();
    let several = ["--pooling", "mean,adaptive", "--seeds", "2", "--dev", "train.tsv"];
    let comparison = json(&desk.train(&[&several[..], &["--json"]].concat()));
    assert_eq!(comparison["metric"], "accuracy");
    assert_eq!(comparison["groups"][1]["name"], "pooling adaptive");
    assert_eq!(comparison["groups"][1]["n"], 2);
    assert!(comparison["pairs"][0]["sentence"].as_str().unwrap().contains("adaptive"));
    let output = desk.train(&several);
    assert_eq!(stderr(&output).matches("not trained again").count(), 4, "{}", stderr(&output));
    let shown = stdout(&output);
    assert!(shown.starts_with("accuracy in %") && shown.contains("\npooling mean"), "{shown}");
    let runs = ["run/mean/seed-0", "run/mean/seed-1", "run/adaptive/seed-0", "run/adaptive/seed-1"];
    let compare = [&["compare"], &runs[..]].concat();
    assert_eq!(stdout(&desk.bert(&compare)), shown);
    assert_eq!(json(&desk.bert(&[&compare[..], &["--json"]].concat())), comparison);
    desk.write("test.tsv", "the movie was great\tgood\na bad plot\tbad\nthe plot\tbad\n");
    let on_test = [&compare[..], &["--data", "test.tsv", "--json"]].concat();
    let rows = |bucket: &serde_json::Value| bucket["rows"].as_u64().unwrap();
    let comparison = json(&desk.bert(&on_test));
    assert_eq!(comparison["lengths"].as_array().unwrap().iter().map(rows).sum::<u64>(), 3);

    // Seeds alone: there is one group.
    let output = desk.train(&["--seed", "7", "--seeds", "2", "--out", "seeds"]);
    assert!(stdout(&output).contains("\nall runs"), "{}", stderr(&output));
    assert!(desk.path("seeds/cls/seed-8/report.json").exists());
}

#[test]
fn a_text_may_begin_with_a_dash() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert-seqcls");
    let answer = json(&desk.bert(&["predict", "--model", text(&model), "--text", "-great !"]));
    assert_eq!(answer["text"], "-great !");
}

#[test]
fn long_texts_are_cut_and_counted() {
    let desk = Desk::new();
    let output = desk.train(&["--max-length", "4"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("dev texts are longer than 4 tokens and were cut"),
        "{}",
        stderr(&output)
    );
}

/// From the words that break to an ordinary BERT that has them.
/// A model of windows reads windows wherever it is applied; its encoder may be frozen.
#[test]
fn long_texts_in_windows() {
    let desk = Desk::new();
    let long = "the movie was a film and it is very very good";
    let rows = (0..20).map(|_| format!("{long}\tgood\na bad plot\tbad\n"));
    desk.write("long.tsv", rows.collect::<String>());
    let flags =
        ["--long", "windows", "--stride", "4", "--max-length", "8", "--pooling", "adaptive"];
    let more = ["--train", "long.tsv", "--freeze", "encoder", "--lr", "1e-2", "--json"];
    let model = reference().join("tiny-bert");
    let arguments = ["train", "--model", text(&model), "--out", "run", "--epochs", "2"];
    let output = desk.bert(&[&arguments[..], &flags, &more].concat());
    json(&output);
    assert!(stderr(&output).contains("the encoder is frozen"), "{}", stderr(&output));
    let run_file = std::fs::read_to_string(desk.path("run/run.toml")).unwrap();
    for key in
        ["long = \"windows\"\n", "stride = 4\n", "max_windows = 8\n", "freeze = \"encoder\"\n"]
    {
        assert!(run_file.contains(key), "{run_file}");
    }
    let settings = std::fs::read_to_string(desk.path("run/bert-tune.json")).unwrap();
    assert!(settings.contains("\"long\": \"windows\""), "{settings}");
    // Flags override the run file; a stride does not outlive its windows.
    let again = ["train", "run/run.toml", "--out", "again", "--long", "head-tail", "--json"];
    json(&desk.bert(&again));
    let run_file = std::fs::read_to_string(desk.path("again/run.toml")).unwrap();
    assert!(run_file.contains("head-tail") && !run_file.contains("stride"), "{run_file}");

    let output = desk.bert(&["eval", "--model", "run", "--data", "long.tsv", "--json"]);
    assert_eq!(json(&output)["rows"], 40);
    assert!(!stderr(&output).contains("were cut"), "{}", stderr(&output));
    let output = desk.bert(&["predict", "--model", "run", "--text", long, "--weights", "json"]);
    let answer = json(&output);
    let weights = answer["weights"].as_array().unwrap();
    let words = weights.iter().filter(|token| token["start"].is_u64());
    let words: Vec<&str> = words.map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(words, long.split(' ').collect::<Vec<&str>>());
    let sum: f64 = weights.iter().map(|token| token["weight"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-5);
    desk.write("texts.txt", long);
    json(&desk.bert(&["embed", "--model", "run", "--input", "texts.txt"]));
}

#[test]
fn vocab_scan_extend_train_export() {
    let desk = Desk::new();
    let rows = (0..40).map(|i| ["the cab was good\tgood\n", "a bad cab or cabs\tbad\n"][i % 2]);
    desk.write("cabs.tsv", rows.collect::<String>());
    let model = reference().join("tiny-bert");
    let scan = ["vocab", "scan", "cabs.tsv", "--model", text(&model), "--text", "1"];
    let report = json(&desk.bert(&[&scan[..], &["--words", "1", "--json"]].concat()));
    assert_eq!((&report["texts"], &report["words"]), (&40.into(), &180.into()));
    assert_eq!(report["chosen"][0]["word"], "cab");
    assert_eq!(report["chosen"][0]["pieces"][2], "##b");
    assert_eq!(report["changed"][0]["word"], "cabs");
    assert!(report["shorter"].as_f64().unwrap() > 0.2, "{report}");
    let output = desk.bert(&[&scan[..], &["--out", "words.txt"]].concat());
    assert!(stdout(&output).contains("cab = c ##a ##b"), "{}", stdout(&output));
    assert_eq!(std::fs::read_to_string(desk.path("words.txt")).unwrap(), "cab\ncabs\nor\n");

    let extend = ["vocab", "extend", "--words", "words.txt", "--init", "sample", "--seed", "3"];
    let output = desk.bert(&[&extend[..], &["--model", text(&model), "--out", "more"]].concat());
    assert!(stdout(&output).starts_with("3 words were added"), "{}", stderr(&output));
    let train = ["train", "--model", "more", "--train", "cabs.tsv", "--out", "run", "--json"];
    let how = ["--task-embedding", "low-rank=4", "--train-embeddings", "new"];
    let rates = ["--task-embedding-lr", "1e-2", "--lr", "1e-3", "--epochs", "1"];
    json(&desk.bert(&[&train[..], &how, &rates].concat()));
    assert!(desk.bert(&["export", "--model", "run", "--out", "plain"]).status.success());
    let [own, plain] = ["run", "plain"].map(|model| {
        let answer = desk.bert(&["predict", "--model", model, "--text", "cabs are good"]);
        json(&answer)["probabilities"]["good"].as_f64().unwrap()
    });
    assert!((own - plain).abs() < 1e-5, "{own} {plain}");
    let config = std::fs::read_to_string(desk.path("plain/config.json")).unwrap();
    assert!(config.contains("BertForSequenceClassification") && config.contains("82"), "{config}");
}

/// The adapters of a run and the model that it started from are the run's model again, which is applied and trained on as any.
#[test]
fn adapters_are_merged() {
    let desk = Desk::new();
    let lora = ["--lora", "rank=3", "--lr", "1e-2", "--pooling", "adaptive"];
    assert!(desk.train(&lora).status.success());
    std::fs::rename(desk.path("run/adapter"), desk.path("sent")).unwrap();
    let model = reference().join("tiny-bert");
    let merge = ["merge", "--model", text(&model), "--adapter", "sent", "--out", "merged"];
    let output = desk.bert(&merge);
    assert!(output.status.success() && stdout(&output).is_empty(), "{}", stderr(&output));
    let answers = ["run", "merged"].map(|model| {
        let eval = json(&desk.bert(&["eval", "--model", model, "--data", "train.tsv", "--json"]));
        let answer = json(&desk.bert(&["predict", "--model", model, "--text", "a bad plot"]));
        (eval, answer)
    });
    assert_eq!(answers[0], answers[1]);
    desk.write("texts.txt", "the film\n");
    json(&desk.bert(&["embed", "--model", "merged", "--input", "texts.txt"]));
    json(&desk.train(&["--model", "merged", "--out", "again", "--json"]));
}

#[test]
fn help_teaches_with_examples() {
    let desk = Desk::new();
    for command in
        ["train", "eval", "predict", "embed", "export", "merge", "inspect", "compare", "vocab"]
    {
        let output = desk.bert(&[command, "--help"]);
        let help = stdout(&output);
        let takes_model = !["compare", "vocab"].contains(&command);
        assert!(output.status.success() && (!takes_model || help.contains("--model")), "{help}");
        // An example that a terminal wraps can't be copied.
        let examples = help.split("Examples:").nth(1).unwrap_or_default();
        let is_long = |line: &&str| line.starts_with("  ") && line.len() > 79;
        assert_eq!(examples.lines().find(is_long), None);
        assert!(!examples.lines().any(|line| line.starts_with("--")), "{examples}");
    }
    assert!(stdout(&desk.bert(&["--help"])).contains("bert train --model"));
    assert!(stdout(&desk.bert(&["compare", "--help"])).contains("runs/*/seed-*"));
}

/// Two tasks on the same texts, from a run file to answers, alone and among others.
#[test]
fn several_tasks_from_a_run_file() {
    let desk = Desk::new();
    let rows = (0..40)
        .map(|i| ["the movie was great\tgood\tO O O B-M\n", "a bad plot\tbad\tO B-M O\n"][i % 2]);
    desk.write("rows.tsv", "text\tmood\ttags\n".to_owned() + &rows.collect::<String>());
    let model = reference().join("tiny-bert");
    let tasks = format!(
        "model = {:?}\nepochs = 2\nlr = 1e-3\n\
         [task.mood]\nkind = \"classify\"\ntrain = \"rows.tsv\"\ntext = [\"text\"]\nlabel = \"mood\"\npooling = \"adaptive\"\n\
         [task.tags]\nkind = \"tag\"\ntrain = \"rows.tsv\"\ntokens = [\"text\"]\ntags = [\"tags\"]\n",
        text(&model)
    );
    desk.write("tasks.toml", &tasks);
    let train = ["train", "tasks.toml", "--out", "run", "--json"];
    let report = json(&desk.bert(&[&train[..], &["--baselines", "train"]].concat()));
    assert!(
        report["dev"]["mood"]["accuracy"].is_f64() && report["dev"]["tags"]["f1"].is_f64(),
        "{report}"
    );
    assert_eq!(report["comparisons"][1]["task"], "tags");
    // The run file that was written gives the same run.
    let again = json(&desk.bert(&["train", "run/run.toml", "--out", "again", "--json"]));
    assert_eq!(again["dev"], report["dev"]);
    assert_eq!(again["comparisons"][1]["task"], "tags");
    // The flag goes over the file's baselines, also where it wants none.
    let none = ["train", "run/run.toml", "--baselines", "none", "--out", "none", "--json"];
    let none = json(&desk.bert(&none));
    assert!(none["dev"] == report["dev"] && none["comparisons"].get(0).is_none(), "{none}");

    let answer = json(&desk.bert(&["predict", "--model", "run", "--text", "a bad plot"]));
    assert_eq!(answer["text"], "a bad plot");
    assert!(answer["mood"]["probabilities"]["bad"].is_f64(), "{answer}");
    assert_eq!(answer["tags"]["tokens"][1]["text"], "bad");
    // Words that are split already give the same tags as the text of them.
    desk.write("words.conll", "a\nbad\nplot\n");
    let words = ["predict", "--model", "run", "--input", "words.conll"];
    assert_eq!(json(&desk.bert(&words)), answer);
    let both = json(&desk.bert(&["eval", "--model", "run", "--data", "rows.tsv", "--json"]));
    assert!(
        both["mood"]["accuracy"].is_f64() && both["tags"]["f1"].is_f64() && both["rows"] == 40,
        "{both}"
    );
    let one = ["eval", "--model", "run", "--data", "rows.tsv", "--task", "mood", "--json"];
    let one = json(&desk.bert(&one));
    assert_eq!(one["accuracy"], both["mood"]["accuracy"]);

    let shown = stdout(&desk.bert(&["inspect", "--model", "run"]));
    for line in
        ["task mood: classify, pooling adaptive, labels bad, good", "task tags: tag, labels B-M, O"]
    {
        assert!(shown.lines().any(|own| own == line), "{shown}");
    }

    // One task by itself: its answer, its weights, and a model of its own.
    let tags = ["predict", "--model", "run", "--task", "tags", "--text", "a bad plot"];
    let tags = json(&desk.bert(&tags));
    assert_eq!(tags["tokens"], answer["tags"]["tokens"]);
    assert!(tags["text"] == "a bad plot" && tags["mood"].is_null(), "{tags}");
    let pair = ["predict", "--model", "run", "--task", "tags", "--text", "a", "--pair", "b"];
    let pair = desk.bert(&pair);
    assert_eq!(pair.status.code(), Some(2));
    let said = stderr(&pair);
    assert!(said.contains("no task that is asked takes two texts: expected one text"), "{said}");
    let alone = ["predict", "--model", "run", "--task", "mood", "--text", "a bad plot"];
    let weights = json(&desk.bert(&[&alone[..], &["--weights", "json"]].concat()));
    assert_eq!(weights["weights"].as_array().unwrap().len(), 5, "{weights}");
    assert_eq!(weights["probabilities"], answer["mood"]["probabilities"]);
    assert!(
        desk.bert(&["export", "--model", "run", "--task", "mood", "--out", "mood"])
            .status
            .success()
    );
    let mood = json(&desk.bert(&["eval", "--model", "mood", "--data", "rows.tsv", "--json"]));
    assert_eq!(mood["accuracy"], one["accuracy"]);

    let seeds =
        ["train", "tasks.toml", "--seeds", "2", "--epochs", "1", "--out", "seeds", "--json"];
    let comparison = json(&desk.bert(&seeds));
    assert_eq!(comparison["groups"][0]["runs"].as_array().unwrap().len(), 2, "{comparison}");

    let runs = ["compare", "seeds/seed-0", "seeds/seed-1", "--json"];
    let by = |more: &[&str]| json(&desk.bert(&[&runs[..], more].concat()));
    let (mean, tags) = (by(&[]), by(&["--task", "tags"]));
    assert_eq!(
        (&mean["metric"], &tags["metric"]),
        (&"mean of mood accuracy, tags f1".into(), &"tags f1".into())
    );
    let on_data = by(&["--task", "tags", "--metric", "loss", "--data", "rows.tsv"]);
    assert_eq!((&on_data["metric"], &on_data["is_error"]), (&"tags loss".into(), &true.into()));

    for (arguments, expected) in [
        (
            &["compare", "seeds/seed-0", "seeds/seed-1", "--metric", "loss"][..],
            "there is no metric \"loss\" here: of several tasks together there is only the mean: name one of them with --task",
        ),
        (
            &["compare", "seeds/seed-0", "seeds/seed-1", "--task", "moods"],
            "has no task \"moods\": its tasks are mood, tags",
        ),
        (
            &["train", "tasks.toml", "--pooling", "mean", "--out", "x"],
            "--pooling belongs to a task",
        ),
        (
            &["train", "--model", "m", "--train", "rows.tsv", "--baselines", "train", "--out", "x"],
            "--baselines is for several tasks",
        ),
        (
            &["predict", "--model", "run", "--task", "moods", "--text", "a"],
            "has no task \"moods\": its tasks are mood, tags",
        ),
        (
            &["predict", "--model", "run", "--task", "tags", "--weights", "json", "--text", "a"],
            "task \"tags\" of kind tag is no classifier of texts by itself",
        ),
        (
            &["predict", "--model", "run", "--weights", "json", "--text", "a"],
            "say which one with --task NAME",
        ),
        (
            &["embed", "--model", "run", "--pooling", "adaptive", "--input", "rows.tsv"],
            "has its adaptive pooling in task mood: take it out first, by `bert export --model run --task mood",
        ),
        (&["train", "--resume", "seeds"], "seeds holds several runs, not one"),
        (
            &["eval", "--model", "mood", "--data", "rows.tsv", "--task", "mood"],
            "is a model of one task: leave out --task mood",
        ),
    ] {
        let output = desk.bert(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn a_search_ends_with_a_table() {
    let desk = Desk::new();
    let model = reference().join("tiny-bert");
    let search = |lr: &str| {
        let run = format!("[run]\nmodel = '{}'\ntrain = 'train.tsv'\nepochs = 1\n", text(&model));
        format!("trials = 3\n[space]\nlr = {{ {lr} }}\n{run}")
    };
    desk.write("search.toml", search("log = [1e-4, 1e-2]"));
    let output = desk.bert(&["search", "search.toml", "--out", "found"]);
    let table = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    let head: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(head, ["trial", "accuracy", "lr", "seconds"]);
    let best = lines[1].split_whitespace().next().unwrap();
    assert_eq!(lines[4], format!("the best model is in found/trial-{best}"));
    json(&desk.bert(&[
        "eval",
        "--model",
        &format!("found/trial-{best}"),
        "--data",
        "train.tsv",
        "--json",
    ]));

    desk.write("search.toml", search("choice = [1e30, 2e30, 3e30]"));
    let output = desk.bert(&["search", "search.toml", "--out", "failed"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("  failed: the "), "{}", stdout(&output));
    assert!(stderr(&output).contains("trials came to its end"), "{}", stderr(&output));
    desk.write("search.toml", search("log = [0, 1]"));
    let output = desk.bert(&["search", "search.toml", "--out", "refused"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("search.toml, line 3: lr: a logarithm"),
        "{}",
        stderr(&output)
    );
}
