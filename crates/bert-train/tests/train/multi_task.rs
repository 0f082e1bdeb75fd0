//! Several tasks together: data of every kind, how steps and losses are shared, and what is written.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use bert_core::NamedTensor;
use bert_heads::{PoolingKind, TaskEmbeddingKind};
use bert_kernels::random::{Purpose, Stream};
use bert_train::{
    Agreement, Balance, Baselines, Check, Column, EpochReport, Error, Example, Metrics, Mixing,
    MultiTaskConfig, MultiTasker, Observer, Recipe, RunConfig, RunFile, Sampling, StepReport,
    StepSize, TaskAnswer, TaskForm, TaskTable, TrainedModel, Verdict, export, run, run_tasks,
};
use burn::tensor::Device;

use crate::{
    examples,
    reference::{assert_close, cpu_devices, devices, folder},
};

/// What an observer saw.
#[derive(Default)]
struct Memory {
    notices: Vec<String>,
    losses: Vec<Vec<(usize, f64)>>,
    epochs: Vec<EpochReport>,
    agreements: Vec<Agreement>,
    weights: Vec<BTreeMap<String, Vec<f32>>>,
    checks: usize,
}

impl Observer for Memory {
    fn checked(&mut self, _: &Check) -> bert_train::Result<()> {
        self.checks += 1;
        Ok(())
    }
    fn notice(&mut self, text: &str) {
        self.notices.push(text.to_owned());
    }
    fn step(&mut self, report: &StepReport) {
        self.losses.push(report.losses.clone());
    }
    fn agreement(&mut self, report: &Agreement) {
        self.agreements.push(report.clone());
    }
    fn epoch(
        &mut self,
        report: &EpochReport,
        parameters: &dyn Fn() -> Vec<NamedTensor>,
    ) -> bert_train::Result<()> {
        self.epochs.push(report.clone());
        let named = parameters().into_iter().map(|tensor| (tensor.name, tensor.values));
        self.weights.push(named.collect());
        Ok(())
    }
}

fn column(name: &str) -> Column {
    Column::Name(name.into())
}

fn table(kind: TaskForm, train: &Path, text: &[&str], label: &str) -> TaskTable {
    let mut table = TaskTable::new(kind, train);
    table.columns.text = text.iter().map(|name| column(name)).collect();
    table.columns.label = Some(column(label));
    table
}

pub fn config(tasks: Vec<(&str, TaskTable)>) -> MultiTaskConfig {
    MultiTaskConfig {
        model: folder().join("tiny-bert"),
        train_embeddings: Default::default(),
        lora: None,
        max_length: Some(24),
        precision: Default::default(),
        baselines: Default::default(),
        recipe: Recipe { epochs: 2, learning_rate: 2e-3, batch_size: 8, ..Recipe::default() },
        mixing: Mixing::default(),
        tasks: tasks.into_iter().map(|(name, table)| (name.to_owned(), table)).collect(),
    }
}

/// Files of every kind in `dir`, and a task for each.
pub fn every_kind(dir: &Path) -> MultiTaskConfig {
    let mut random = Stream::new(1, Purpose::Sample, 0);
    let mut rows = "sentence\tother\tmood\tstars\tscore\ttopics\ttags\n".to_owned();
    let mut questions = vec![];
    for example in examples(80) {
        let good = example.label.as_deref() == Some("good");
        let other = if random.below(2) == 0 { "good film" } else { "bad plot" };
        let stars = if good { 3 + random.below(2) } else { 1 + random.below(2) };
        let same = f64::from(u8::from(good == (other == "good film")));
        let topics: Vec<&str> = ["movie", "film"]
            .into_iter()
            .filter(|word| example.text.split(' ').any(|w| w == *word))
            .collect();
        let tags: Vec<&str> = example
            .text
            .split(' ')
            .map(|word| if word == "good" || word == "bad" { "B-M" } else { "O" })
            .collect();
        let mood = example.label.clone().unwrap();
        let _ = writeln!(
            rows,
            "{}\t{other}\t{mood}\t{stars}\t{same}\t{}\t{}",
            example.text,
            topics.join("|"),
            tags.join(" ")
        );
        let start = example.text.find(&mood).unwrap();
        questions.push(serde_json::json!({
            "context": example.text,
            "qas": [{"id": format!("q{}", example.line), "question": "is it good ?",
                     "answers": [{"text": mood, "answer_start": start}]}],
        }));
    }
    let (file, squad) = (dir.join("rows.tsv"), dir.join("squad.json"));
    fs::write(&file, rows).unwrap();
    fs::write(&squad, serde_json::json!({"data": [{"paragraphs": questions}]}).to_string())
        .unwrap();
    let mut topics = table(TaskForm::MultiLabel, &file, &["sentence"], "topics");
    topics.columns.label_separator = Some('|');
    let mut tags = TaskTable::new(TaskForm::Tag, &file);
    tags.columns.tokens = Some(column("sentence"));
    tags.columns.tags = Some(column("tags"));
    config(vec![
        ("mood", table(TaskForm::Classify, &file, &["sentence"], "mood")),
        ("pairs", table(TaskForm::PairRegress, &file, &["sentence", "other"], "score")),
        ("span", TaskTable::new(TaskForm::Span, &squad)),
        ("stars", table(TaskForm::Ordinal, &file, &["sentence"], "stars")),
        ("tags", tags),
        ("topics", topics),
    ])
}

#[test]
fn tasks_of_every_kind_are_trained_written_and_applied() {
    for (name, device) in cpu_devices() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = every_kind(dir.path());
        config.recipe.epochs = 8;
        let out = dir.path().join("run");
        let mut memory = Memory::default();
        let report =
            run_tasks(&config, &out, false, &Baselines::None, &device, &mut memory).unwrap();
        let Metrics::Tasks(tasks) = &report.dev else { panic!("{name}: other metrics") };
        let judged: Vec<(&str, &str)> =
            tasks.0.iter().map(|task| (task.name.as_str(), task.metric.as_str())).collect();
        assert_eq!(
            judged,
            [
                ("mood", "accuracy"),
                ("pairs", "spearman"),
                ("span", "f1"),
                ("stars", "kappa"),
                ("tags", "f1"),
                ("topics", "f1_micro")
            ]
        );
        assert!(tasks.0[0].main() > 0.8 && tasks.0[4].main() > 0.8, "{name}: {}", report.dev);
        // The texts of mood, stars, tags and topics are one data set, pairs and questions have their own.
        assert_eq!(
            memory.notices.iter().filter(|line| line.contains("held out")).count(),
            2,
            "{:?}",
            memory.notices
        );
        assert!(memory.losses.iter().all(|step| [1, 4].contains(&step.len())));

        let TrainedModel::MultiTask(tasker) = TrainedModel::load(&out, &device).unwrap() else {
            panic!("{name}: no model of several tasks");
        };
        let text = Example { text: "the good movie".into(), pair: None, label: None, line: 1 };
        let (answers, cut) = tasker.predict(&[text], 24, 8, &device).unwrap();
        assert_eq!(
            (cut, answers[0].keys().map(String::as_str).collect::<Vec<_>>()),
            (0, vec!["mood", "stars", "tags", "topics"])
        );
        let TaskAnswer::Tags { tokens, .. } = &answers[0]["tags"] else { panic!("no tags") };
        assert_eq!(
            tokens.iter().map(|t| t.text.as_str()).collect::<Vec<_>>(),
            ["the", "good", "movie"]
        );
        let TaskAnswer::Label { probabilities, .. } = &answers[0]["stars"] else {
            panic!("no label")
        };
        assert!((probabilities.values().sum::<f64>() - 1.0).abs() < 1e-9);
        let pair = Example {
            text: "is it good ?".into(),
            pair: Some("a bad film".into()),
            label: None,
            line: 1,
        };
        let (answers, _) = tasker.predict(&[pair], 24, 8, &device).unwrap();
        assert_eq!(answers[0].keys().map(String::as_str).collect::<Vec<_>>(), ["pairs", "span"]);
        let TaskAnswer::Part { answer } = &answers[0]["span"] else { panic!("no part") };
        assert!("a bad film".contains(answer.as_str()), "{answer}");

        // Of a file with one column the tasks for one text are asked; of more it must be said which they are.
        let (one, two) = (dir.path().join("one.txt"), dir.path().join("rows.tsv"));
        fs::write(&one, "the good movie\n").unwrap();
        assert_eq!(tasker.texts_of_file(&one, None, false).unwrap(), 1);
        let which = tasker.texts_of_file(&two, None, true).unwrap_err();
        assert!(which.is_bad_input() && which.to_string().contains("7 columns"), "{which}");
        assert!(which.to_string().ends_with("--column COL, twice for a pair"), "{which}");

        // On its training file, one forward serves the tasks of one data set.
        let head = tasker.head("mood").unwrap();
        let own = |columns: &bert_train::Columns| columns.clone();
        let (data, _) =
            tasker.measured(&dir.path().join("rows.tsv"), None, &[head, 3, 4, 5], own, 24).unwrap();
        assert_eq!((data.sets.len(), data.sets[0].heads()), (1, vec![0, 3, 4, 5]));
        let measured = data.metrics(&data.logits(&tasker.model, 8, &device));
        assert_eq!(measured.0.len(), 4);
        assert!(measured.0[0].main() > 0.8, "{name}");
        // What is written is what was trained: the page and the run file are there.
        assert!(
            fs::read_to_string(out.join("report.html"))
                .unwrap()
                .contains("How the gradients of the tasks agree")
        );
        assert_eq!(
            MultiTaskConfig::load(&out.join("run.toml"), toml::Table::new()).unwrap(),
            config
        );
        let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        assert!(
            log.contains("\"gradient_cosines\"") && log.contains("\"losses\":{\"mood\""),
            "{log}"
        );
        // The model can be trained on, with its heads.
        let (again, notices) =
            MultiTasker::from_checkpoint(&out, tasker.settings.clone(), 1, &device).unwrap();
        assert_eq!(notices, Vec::<String>::new());
        let [a, b] = [again, tasker].map(|tasker| tasker.model.named_parameters());
        assert!(a.iter().zip(&b).all(|(a, b)| a.values == b.values), "{name}");
    }
}

/// Two tasks on the same texts, one the opposite of the other.
pub fn opposites(dir: &Path) -> MultiTaskConfig {
    let mut rows = "text\tlabel\topposite\n".to_owned();
    for example in examples(60) {
        let label = example.label.unwrap();
        let opposite = if label == "good" { "bad" } else { "good" };
        let _ = writeln!(rows, "{}\t{label}\t{opposite}", example.text);
    }
    let file = dir.join("opposites.tsv");
    fs::write(&file, rows).unwrap();
    let mut config = config(vec![
        ("label", table(TaskForm::Classify, &file, &["text"], "label")),
        ("opposite", table(TaskForm::Classify, &file, &["text"], "opposite")),
    ]);
    for table in config.tasks.values_mut() {
        table.pooling = Some(PoolingKind::Mean);
    }
    config
}

fn run_of(config: &MultiTaskConfig, device: &Device) -> (bert_train::RunReport, Memory) {
    let out = tempfile::tempdir().unwrap();
    let (out, mut memory) = (out.path().join("run"), Memory::default());
    let report = run_tasks(config, &out, false, &Baselines::None, device, &mut memory).unwrap();
    (report, memory)
}

/// Heads that are almost the same must answer the opposite: the gradients on the encoder oppose each other, and what PCGrad
/// makes of them opposes neither.
#[test]
fn tasks_that_conflict_are_seen_and_untangled() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let config = opposites(dir.path());
    // A checkpoint of one head, which both tasks begin with: the opposite task starts exactly in the way of the other.
    let start = dir.path().join("start");
    run_tasks(
        &MultiTaskConfig {
            recipe: Recipe { epochs: 1, learning_rate: 1e-9, ..config.recipe.clone() },
            ..config.clone()
        },
        &start,
        false,
        &Baselines::None,
        &device,
        &mut (),
    )
    .unwrap();
    let tasker = MultiTasker::load(&start, &device).unwrap();
    let mut parameters = tasker.model.named_parameters();
    let of_label: BTreeMap<String, Vec<f32>> =
        parameters.iter().map(|t| (t.name.clone(), t.values.clone())).collect();
    for tensor in &mut parameters {
        if let Some(rest) = tensor.name.strip_prefix("tasks.opposite.") {
            tensor.values.clone_from(&of_label[&format!("tasks.label.{rest}")]);
        }
    }
    bert_core::write_safetensors(start.join("model.safetensors"), &parameters).unwrap();

    let config = MultiTaskConfig { model: start, ..config };
    let (_, memory) = run_of(&config, &device);
    let first = &memory.agreements[0];
    assert_eq!((first.step, memory.agreements.len()), (0, 3));
    assert!(first.cosines[0][1] < -0.5, "{first:?}");
    assert!((first.cosines[0][0] - 1.0).abs() < 1e-9 && first.cosines[0][1] == first.cosines[1][0]);

    // The combined gradient of those two: g_a' + g_b', each without its part along the other.
    let [a, b] = [first.norms[0], first.norms[1]];
    let dot = first.cosines[0][1] * a * b;
    let gram = bert_train::Gram(vec![vec![a * a, dot], vec![dot, b * b]]);
    let [x, y] = bert_train::projections(&gram, &mut Stream::new(0, Purpose::Sample, 0))[..] else {
        panic!("two tasks");
    };
    assert!(x * a * a + y * dot > -1e-9 && x * dot + y * b * b > -1e-9);
    assert!(a * a + dot < 0.0 || dot + b * b < 0.0 || dot < 0.0, "the sum helps both already");

    let mixing = Mixing { balance: Balance::PcGrad, step_size: StepSize::All, ..Mixing::default() };
    let (_, with) = run_of(&MultiTaskConfig { mixing, ..config.clone() }, &device);
    let mixing = Mixing { step_size: StepSize::All, ..Mixing::default() };
    let (_, without) = run_of(&MultiTaskConfig { mixing, ..config }, &device);
    let moved =
        |memory: &Memory| memory.weights[0]["bert.encoder.layer.0.output.dense.weight"].clone();
    assert_ne!(moved(&with), moved(&without));
}

/// Every way to sample and to balance trains, and the same seed gives the same losses.
#[test]
fn every_mixture_is_repeatable() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut base = every_kind(dir.path());
    base.tasks.retain(|name, _| ["mood", "pairs", "tags"].contains(&name.as_str()));
    let weights = [("mood", 1.0), ("pairs", 2.0), ("tags", 0.5)];
    let weights = weights.map(|(name, weight)| (name.to_owned(), weight)).into();
    let one = |sampling| Mixing { sampling, ..Mixing::default() };
    let all = |balance| Mixing { balance, step_size: StepSize::All, ..Mixing::default() };
    let mut losses = vec![];
    for mixing in [
        one(Sampling::Proportional),
        one(Sampling::Uniform),
        one(Sampling::Temperature { temperature: 2.0 }),
        one(Sampling::Annealed),
        one(Sampling::Weights { weights }),
        one(Sampling::RoundRobin),
        Mixing { balance: Balance::Uncertainty { weight_lr: 0.01 }, ..Mixing::default() },
        all(Balance::Fixed),
        all(Balance::GradNorm { alpha: 1.5, weight_lr: 0.025 }),
        all(Balance::PcGrad),
        all(Balance::Dwa { temperature: 2.0 }),
    ] {
        let config = MultiTaskConfig { mixing: mixing.clone(), ..base.clone() };
        let (_, first) = run_of(&config, &device);
        let (_, second) = run_of(&config, &device);
        assert_eq!(first.losses, second.losses, "{mixing:?}");
        assert!(first.weights.last() == second.weights.last(), "{mixing:?}");
        losses.push(first.losses);
    }
    // A batch of every task in each step: fixed weights, GradNorm and PCGrad part ways after the first steps.
    assert!(losses[7] != losses[8] && losses[7] != losses[9] && losses[8] != losses[9]);
    // One batch a step: learned weights do as well.
    assert!(losses[0] != losses[6]);
}

/// What is learned of the balance is said after each epoch: with uncertainty exp(-s), and half of it for a squared error.
#[test]
fn learned_weights_are_told() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = every_kind(dir.path());
    config.tasks.retain(|name, _| ["mood", "pairs"].contains(&name.as_str()));
    config.tasks.get_mut("mood").unwrap().weight = 3.0;
    config.mixing.balance = Balance::Uncertainty { weight_lr: 0.1 };
    let (_, memory) = run_of(&config, &device);
    let told: Vec<&String> =
        memory.notices.iter().filter(|line| line.starts_with("what each task's loss")).collect();
    assert_eq!(told.len(), 2, "{:?}", memory.notices);
    for (epoch, told) in memory.epochs.iter().zip(told) {
        let s = |name: &str| f64::from(memory.weights[epoch.epoch - 1][name][0]);
        let expected = [
            3.0 * (-s("tasks.mood.log_variance")).exp(),
            0.5 * (-s("tasks.pairs.log_variance")).exp(),
        ];
        let is_close = |(got, expected): (&f64, &f64)| (got - expected).abs() < 1e-5;
        assert!(epoch.weights.iter().zip(&expected).all(is_close), "{epoch:?} {expected:?}");
        let [mood, pairs] = expected;
        assert!(told.ends_with(&format!("mood {mood:.3}, pairs {pairs:.3}")), "{told}");
    }
    assert!(memory.epochs[0].weights != memory.epochs[1].weights);

    config.mixing.balance = Balance::Fixed;
    assert!(run_of(&config, &device).1.epochs.iter().all(|epoch| epoch.weights.is_empty()));
}

/// A task without a better score for so long is trained no more: its head stays to the bit, and it takes no steps.
#[test]
fn a_finished_task_is_frozen() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = every_kind(dir.path());
    config.tasks.retain(|name, _| ["mood", "pairs"].contains(&name.as_str()));
    config.recipe.epochs = 4;
    // Nothing is learned of it, so that no score is better than the first.
    let mood = config.tasks.get_mut("mood").unwrap();
    (mood.patience, mood.weight) = (Some(1), 1e-12);
    let (report, memory) = run_of(&config, &device);
    assert_eq!(memory.epochs[0].finished, Vec::<usize>::new());
    let ended = memory.epochs.iter().position(|epoch| epoch.finished == [0]).unwrap();
    let heads_after: Vec<&Vec<(usize, f64)>> = memory.losses.iter().rev().take(10).collect();
    assert!(heads_after.iter().all(|step| step.iter().all(|(head, _)| *head == 1)));
    assert_eq!(memory.epochs[ended + 1].head_losses[0], None);
    let head = |epoch: usize| &memory.weights[epoch]["tasks.mood.classifier.weight"];
    assert_eq!(head(ended), head(3));
    assert_eq!(memory.epochs.len(), 4);
    assert!(report.last.scores().len() == 2);
}

/// All three techniques in one model: it learns, is written, and its task embedding folds.
#[test]
fn task_embedding_adaptive_pooling_and_multi_task_in_one_model() {
    for (name, device) in cpu_devices() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = every_kind(dir.path());
        config.tasks.retain(|name, _| ["mood", "stars", "tags"].contains(&name.as_str()));
        config.recipe = Recipe {
            epochs: 8,
            pooling_learning_rate: Some(1e-2),
            task_embedding_learning_rate: Some(5e-3),
            ..config.recipe
        };
        let mood = config.tasks.get_mut("mood").unwrap();
        mood.pooling = Some(PoolingKind::Adaptive);
        mood.task_embedding = Some(TaskEmbeddingKind::LowRank { rank: 3 });
        mood.projection = true;
        config.tasks.get_mut("stars").unwrap().share_embedding = Some("mood".into());
        config.tasks.get_mut("stars").unwrap().layer_mixture = true;
        let out = dir.path().join("run");
        let mut memory = Memory::default();
        let report =
            run_tasks(&config, &out, false, &Baselines::None, &device, &mut memory).unwrap();
        let scores = report.dev.scores();
        assert!(scores[0] > 0.8 && scores[2] > 0.8, "{name}: {}", report.dev);
        let weights = memory.weights.last().unwrap();
        for moved in [
            "tasks.mood.task_embedding.b.weight",
            "tasks.mood.pooling.linear.weight",
            "tasks.mood.projection.weight",
            "tasks.stars.layer_mixture.scalars",
        ] {
            assert!(
                weights[moved].iter().any(|value| value.abs() > 1e-5),
                "{name}: {moved} has not moved"
            );
        }

        // One directory for each of the word embeddings that are read, which answer as before.
        let plain = dir.path().join("plain");
        export(&out, None, &plain, &device).unwrap();
        let tasker = MultiTasker::load(&out, &device).unwrap();
        let text = [Example { text: "it was a bad plot".into(), pair: None, label: None, line: 1 }];
        let (whole, _) = tasker.predict(&text, 24, 8, &device).unwrap();
        for (sub, tasks) in [("mood", vec!["mood", "stars"]), ("tags", vec!["tags"])] {
            let part = MultiTasker::load(&plain.join(sub), &device).unwrap();
            let (answers, _) = part.predict(&text, 24, 8, &device).unwrap();
            assert_eq!(answers[0].keys().map(String::as_str).collect::<Vec<_>>(), tasks);
            if sub == "mood" {
                let probabilities = |answers: &BTreeMap<String, TaskAnswer>| match &answers["mood"]
                {
                    TaskAnswer::Label { probabilities, .. } => {
                        probabilities.values().map(|p| *p as f32).collect::<Vec<_>>()
                    }
                    other => panic!("{other:?}"),
                };
                assert_close(name, &probabilities(&answers[0]), &probabilities(&whole[0]), 1e-4);
            }
        }
    }
}

#[test]
fn tasks_are_held_against_being_alone() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let mut config = every_kind(dir.path());
    config.tasks.retain(|name, _| ["mood", "tags"].contains(&name.as_str()));
    config.recipe.epochs = 4;
    let out = dir.path().join("run");
    config.recipe.regularisation.ema = 0.5;
    let mut memory = Memory::default();
    let report = run_tasks(&config, &out, false, &Baselines::Train, &device, &mut memory).unwrap();
    // The run and both baselines, each with its check and what it says.
    assert_eq!(memory.checks, 3);
    let said = memory.notices.iter().filter(|text| text.starts_with("the average of the weights"));
    assert_eq!(said.count(), 3, "{:?}", memory.notices);
    let names: Vec<&str> = report.comparisons.iter().map(|c| c.task.as_str()).collect();
    assert_eq!(names, ["mood", "tags"]);
    for comparison in &report.comparisons {
        let [low, high] = comparison.interval;
        let difference = comparison.together - comparison.alone;
        assert!(low <= difference && difference <= high, "{comparison}");
        assert_eq!(comparison.verdict == Verdict::WithinNoise, low <= 0.0 && high >= 0.0);
    }
    assert_eq!(report.comparisons[0].together, report.dev.scores()[0]);
    assert!(
        fs::read_to_string(out.join("report.html")).unwrap().contains("Together against alone")
    );

    // The run itself as its own baseline: no difference at all.
    let again = dir.path().join("again");
    let dirs = Baselines::Dirs(vec![out.clone()]);
    let error = run_tasks(&config, &again, false, &dirs, &device, &mut ()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("fits 2 of the tasks"), "{error}");
    let mut alone = config.clone();
    alone.tasks.retain(|name, _| name == "mood");
    let mood = dir.path().join("mood");
    run_tasks(&alone, &mood, false, &Baselines::None, &device, &mut ()).unwrap();
    let dirs = Baselines::Dirs(vec![mood.clone()]);
    let mut memory = Memory::default();
    let report = run_tasks(&config, &again, false, &dirs, &device, &mut memory).unwrap();
    assert_eq!(report.comparisons.len(), 1);
    assert_eq!(report.comparisons[0].task, "mood");
    // It held out the same rows of the same file; another seed, share or split would have held out others.
    let seen =
        |notices: &[String]| notices.iter().filter(|line| line.contains("was trained on")).count();
    assert_eq!(seen(&memory.notices), 0, "{:?}", memory.notices);
    let said = |config: &MultiTaskConfig, dir: &Path| {
        let mut memory = Memory::default();
        let dirs = Baselines::Dirs(vec![dir.to_owned()]);
        run_tasks(config, &again, true, &dirs, &device, &mut memory).unwrap();
        assert!(seen(&memory.notices) < 2, "{:?}", memory.notices);
        memory.notices.into_iter().find(|line| line.contains("was trained on"))
    };
    config.recipe.epochs = 1;
    let mut other = config.clone();
    other.recipe.seed = 1;
    let notice = said(&other, &mood).unwrap();
    assert!(
        notice.contains("mood was trained on") && notice.contains("holds out other rows"),
        "{notice}"
    );
    other = config.clone();
    other.tasks.values_mut().for_each(|table| table.dev_fraction = Some(0.3));
    assert!(said(&other, &mood).is_some());
    other = config.clone();
    for table in other.tasks.values_mut() {
        table.dev = Some(table.train.clone());
    }
    assert!(said(&other, &mood).unwrap().contains("the dev rows of task mood"));

    // The same of a run of one task; its columns, which are left open, are the same.
    let rows = fs::read_to_string(&config.tasks["mood"].train).unwrap();
    let rows = rows.lines().map(|row| row.split('\t').collect::<Vec<_>>());
    let two: String = rows.map(|row| format!("{}\t{}\n", row[0], row[2])).collect();
    let file = dir.path().join("two.tsv");
    fs::write(&file, two).unwrap();
    let mut of_one = config.clone();
    of_one.tasks.retain(|name, _| name == "mood");
    of_one.tasks.insert("mood".into(), table(TaskForm::Classify, &file, &["sentence"], "mood"));
    let single = dir.path().join("single");
    let mut run_config = RunConfig::new(&config.model, &file);
    (run_config.recipe.epochs, run_config.columns.header) = (1, true);
    run_config.max_length = Some(24);
    run(&run_config, &single, false, &device, &mut ()).unwrap();
    assert_eq!(said(&of_one, &single), None);
    of_one.recipe.seed = 1;
    assert!(said(&of_one, &single).is_some());
}

/// The first line of a fault, with the line and the key that it names.
fn fault(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    fs::write(&path, text).unwrap();
    let error = MultiTaskConfig::load(&path, toml::Table::new()).unwrap_err();
    assert!(error.is_bad_input(), "{error}");
    error.to_string().replace(&path.display().to_string(), "run.toml")
}

#[test]
fn run_files_are_refused_with_line_and_key() {
    let task = "model = \"m\"\n[task.a]\nkind = \"classify\"\ntrain = \"a.tsv\"\n";
    for (text, line, expected) in [
        ("model = \"m\"\nepoch = 3\n[task.a]\n", 2, "did you mean \"epochs\"?"),
        (
            &format!("{task}poling = \"mean\"\n"),
            5,
            "unknown key \"task.a.poling\": did you mean \"pooling\"?",
        ),
        (&format!("{task}pooling = \"men\"\n"), 5, "task.a.pooling: "),
        (&task.replace("classify", "clasify"), 3, "unknown variant `clasify`"),
        (
            &task.replace("[task.a]", "[task.\"a b\"]"),
            2,
            "the name of task \"a b\" must be made of ASCII letters",
        ),
        (
            &format!("{task}metric = \"spearman\"\n"),
            5,
            "kind classify has no metric \"spearman\": expected accuracy",
        ),
        (&format!("{task}text = [\"a\", \"b\"]\n"), 5, "choose kind pair-classify"),
        (&format!("{task}tokens = \"a\"\n"), 5, "tokens and tags are for kind tag"),
        (&format!("{task}label_separator = \",\"\n"), 5, "choose kind multi-label"),
        (&format!("{task}share_embedding = \"b\"\n"), 5, "there is no task \"b\", the tasks are a"),
        (
            &format!("{task}share_embedding = \"a\"\n"),
            5,
            "task \"a\" has no task_embedding to share",
        ),
        (&format!("{task}weight = 0.0\n"), 5, "weight must be a number above 0, got 0"),
        (
            &format!("{task}gradient_factor = -1.0\n"),
            5,
            "gradient_factor must be a number from 0, got -1",
        ),
        (&format!("{task}batch_size = 0\n"), 5, "batch_size must be a whole number from 1"),
        (&format!("{task}patience = 0\n"), 5, "patience must be a whole number from 1"),
        (&format!("{task}dev = \"d\"\ndev_fraction = 0.1\n"), 6, "leave out dev or dev_fraction"),
        (
            &task.replace("classify", "tag").replace("a.tsv\"", "a.conll\"\npooling = \"mean\""),
            5,
            "kind tag answers every token and pools nothing: leave out pooling",
        ),
        (
            &task.replace("classify", "tag").replace("a.tsv\"", "a.tsv\"\nlabel = \"x\""),
            5,
            "kind tag reads the columns tokens and tags",
        ),
        (
            &task.replace("classify", "span").replace("a.tsv\"", "a.json\"\nlabel = \"x\""),
            3,
            "kind span reads questions with their texts from a JSON file in SQuAD's form",
        ),
        (
            &task.replace("[task.a]", "balance = { kind = \"pcgrad\" }\n[task.a]"),
            2,
            "balance pcgrad needs a batch of every task in each step: write step = \"all\"",
        ),
        (
            &task.replace(
                "[task.a]",
                "sampling = { kind = \"weights\", weights = { b = 1.0 } }\n[task.a]",
            ),
            2,
            "sampling has a weight for \"b\", but the tasks are a",
        ),
        (
            &task.replace("[task.a]", "sampling = { kind = \"weights\", weights = {} }\n[task.a]"),
            2,
            "sampling needs a weight above 0 for each task",
        ),
        (
            &task.replace(
                "[task.a]",
                "sampling = { kind = \"temperature\", temperature = 0.5 }\n[task.a]",
            ),
            1,
            "temperature must be a number from 1, got 0.5",
        ),
        (
            &task
                .replace("[task.a]", "step = \"all\"\nsampling = { kind = \"uniform\" }\n[task.a]"),
            1,
            "leave out sampling, or write step = \"one\"",
        ),
        (
            &task.replace("[task.a]", "pooling = \"mean\"\n[task.a]"),
            2,
            "key \"pooling\" belongs to a task: write it under [task.NAME]",
        ),
        (&task.replace("[task.a]", "[task.text]"), 2, "a task cannot be called \"text\""),
        (
            &format!("{task}dev_fraction = 1.5\n"),
            5,
            "dev_fraction must be above 0 and below 1, got 1.5",
        ),
        (
            &format!("{task}task_embedding = \"full\"\ngradient_factor = 0.0\n"),
            6,
            "no gradient reaches the task's task_embedding",
        ),
        (
            &task.replace("[task.a]", "balance = { kind = \"gradnorm\", alpha = -1.0 }\n[task.a]"),
            1,
            "alpha must be a number from 0",
        ),
    ] {
        let got = fault(text);
        assert!(
            got.starts_with(&format!("run.toml, line {line}: ")),
            "line {line} of {text:?}: {got}"
        );
        assert!(got.contains(expected), "{got}\nexpected: {expected}");
    }
    assert!(RunFile::read(Path::new("absent.toml")).unwrap_err().is_bad_input());
}

#[test]
fn data_that_does_not_fit_its_task_is_refused() {
    let (_, device) = devices().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows.tsv");
    fs::write(&file, "text\tother\tscore\na film\tgood\t1.5\na plot\tbad\tmany\na movie\tgood\t1.5\nit\tis\tmany\n").unwrap();
    let refused = |table: TaskTable| {
        let out = dir.path().join("run");
        let error =
            run_tasks(&config(vec![("t", table)]), &out, false, &Baselines::None, &device, &mut ())
                .unwrap_err();
        assert!(error.is_bad_input() && !out.exists(), "{error}");
        error
    };
    let error = refused(table(TaskForm::Regress, &file, &["text"], "score"));
    let Error::Task { task, source } = &error else { panic!("{error}") };
    assert!(task == "t" && matches!(**source, Error::NotNumber { line: 3, .. }), "{error}");
    assert!(error.to_string().contains("expected a number as label, got \"many\""), "{error}");
    let mut pair = table(TaskForm::Classify, &file, &[], "score");
    pair.columns.header = true;
    let error = refused(pair);
    assert!(
        error
            .to_string()
            .ends_with("choose kind pair-classify, or name the columns with text = [..]"),
        "{error}"
    );

    let mut odd = table(TaskForm::Classify, &dir.path().join("rows.tsv"), &["text"], "score");
    odd.pooling = Some(PoolingKind::MultiHead { heads: 7 });
    assert!(refused(odd).to_string().contains("multi-head=7"));
    let three = every_kind(dir.path());
    let refused_all = |config: &MultiTaskConfig| {
        let out = dir.path().join("run");
        let error = run_tasks(config, &out, false, &Baselines::None, &device, &mut ()).unwrap_err();
        assert!(error.is_bad_input() && !out.exists(), "{error}");
        error.to_string()
    };
    let mut f1 = three.clone();
    f1.tasks.retain(|name, _| name == "stars");
    let stars = f1.tasks.get_mut("stars").unwrap();
    (stars.kind, stars.metric) = (TaskForm::Classify, Some("f1".into()));
    assert!(
        refused_all(&f1)
            .contains("task \"stars\" has 4 labels, and metric f1 is that of the second of two")
    );
    let mut ordinal = three.clone();
    ordinal.tasks.retain(|name, _| name == "mood");
    ordinal.tasks.get_mut("mood").unwrap().kind = TaskForm::Ordinal;
    assert!(refused_all(&ordinal).contains("expected a number as label, got \"bad\""));
    let mut shares = three.clone();
    shares.tasks.get_mut("mood").unwrap().dev_fraction = Some(0.2);
    assert!(refused_all(&shares).contains("give them the same dev_fraction"));
    // Tags and mood read the same texts, pairs others of the same file.
    let mut sizes = three.clone();
    for (name, size) in [("mood", 4), ("pairs", 5), ("tags", 6)] {
        sizes.tasks.get_mut(name).unwrap().batch_size = Some(size);
    }
    let message = refused_all(&sizes);
    let parts = ["rows.tsv: tasks \"mood\" and \"tags\"", "4 rows by", "[task.mood] and 6 by"];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    let mut columns = three.clone();
    columns.tasks.get_mut("mood").unwrap().columns = Default::default();
    columns.tasks.get_mut("mood").unwrap().columns.header = true;
    let message = refused_all(&columns);
    assert!(
        message.contains("task \"mood\": ")
            && message.contains("`label = \"")
            && !message.contains("--"),
        "{message}"
    );
    let mut three = every_kind(dir.path());
    three.tasks.retain(|name, _| ["mood", "pairs"].contains(&name.as_str()));
    three.recipe.epochs = 1;
    let out = dir.path().join("run");
    run_tasks(&three, &out, false, &Baselines::None, &device, &mut ()).unwrap();
    let tasker = MultiTasker::load(&out, &device).unwrap();
    let unknown = tasker.head("moods").unwrap_err();
    assert!(
        unknown.is_bad_input()
            && unknown.to_string().ends_with("has no task \"moods\": its tasks are mood, pairs"),
        "{unknown}"
    );
    let mut single = three.clone();
    single.tasks.retain(|name, _| name == "mood");
    single.tasks.get_mut("mood").unwrap().task_embedding = Some(TaskEmbeddingKind::Diagonal);
    let one = dir.path().join("one");
    run_tasks(&single, &one, false, &Baselines::None, &device, &mut ()).unwrap();
    let pair = Example { text: "a".into(), pair: Some("b".into()), label: None, line: 1 };
    let none = MultiTasker::load(&one, &device).unwrap().predict(&[pair], 24, 8, &device);
    let none = none.unwrap_err();
    assert!(
        none.is_bad_input() && none.to_string().ends_with("takes two texts: expected one text"),
        "{none}"
    );
    let embed = bert_train::Embedder::load(&one, None, &device).unwrap_err();
    assert!(embed.is_bad_input() && embed.to_string().contains("bert export --model"), "{embed}");
    let which = tasker.heads_of_file(None).unwrap_err();
    assert!(
        which.is_bad_input()
            && which.to_string().ends_with("say which one with --task, one of mood, pairs"),
        "{which}"
    );
}
