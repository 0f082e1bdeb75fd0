//! Whether a model was trained on rows that another run measures on.

use std::path::{Path, PathBuf};

use crate::{
    columns::Column,
    multi_task_config::MultiTaskConfig,
    run::{DEV_FRACTION, RUN_FILE},
    run_config::RunConfig,
    run_file::RunFile,
    sentences::Sentences,
    task_form::AnswerKind,
    task_table::TaskTable,
};

/// What a run learns from, and what it is measured on.
#[derive(Debug)]
struct Rows {
    train: PathBuf,
    dev: Dev,
}

#[derive(Debug, PartialEq)]
enum Dev {
    File(PathBuf),
    /// A share of the training rows, drawn for this seed, evenly by the label in this column.
    HeldOut {
        share: f64,
        seed: u64,
        by: Option<Column>,
    },
}

impl Rows {
    fn of_run(config: &RunConfig) -> Self {
        let dev = match &config.dev {
            Some(path) => Dev::File(path.clone()),
            None => Dev::HeldOut {
                share: config.dev_fraction.unwrap_or(DEV_FRACTION),
                seed: config.recipe.seed,
                by: match Sentences::are_in(&config.train, config.format, &config.columns) {
                    true => None,
                    false => config
                        .columns
                        .complete(&config.train, config.format)
                        .ok()
                        .and_then(|columns| columns.label),
                },
            },
        };
        Self { train: config.train.clone(), dev }
    }

    fn of_task(table: &TaskTable, config: &MultiTaskConfig) -> Self {
        let has_label = |other: &&TaskTable| {
            other.train == table.train
                && matches!(other.kind.answer(), AnswerKind::Label | AnswerKind::Rank)
        };
        // Tasks of one file hold out the same rows, by the label of the first.
        let by = config.tasks.values().find(has_label).and_then(|first| {
            first.columns.complete(&first.train, first.format).ok().and_then(|own| own.label)
        });
        let dev = match &table.dev {
            Some(path) => Dev::File(path.clone()),
            None => Dev::HeldOut {
                share: table.dev_fraction.unwrap_or(DEV_FRACTION),
                seed: config.recipe.seed,
                by,
            },
        };
        Self { train: table.train.clone(), dev }
    }
}

/// Why the model in `dir` may know the dev rows of a task of `config`, where its run file says so.
pub(crate) fn may_have_seen(dir: &Path, config: &MultiTaskConfig, task: &str) -> Option<String> {
    let own = Rows::of_task(config.tasks.get(task)?, config);
    let path = dir.join(RUN_FILE);
    let none = toml::Table::new();
    let others = match RunFile::read(&path).ok()?.has_tasks() {
        true => {
            let other = MultiTaskConfig::load(&path, none).ok()?;
            other.tasks.values().map(|table| Rows::of_task(table, &other)).collect()
        }
        false => vec![Rows::of_run(&RunConfig::load(&path, none).ok()?)],
    };
    let dir = dir.display();
    others.iter().find_map(|other| match &own.dev {
        Dev::File(dev) if is_same_file(&other.train, dev) => Some(format!(
            "{dir} was trained on {}, the dev rows of task {task}: what it scores on them says nothing",
            dev.display()
        )),
        Dev::HeldOut { .. } if is_same_file(&other.train, &own.train) && other.dev != own.dev => {
            Some(format!(
                "{dir} was trained on {}, of which this run holds out other rows for dev: the score of task {task} alone \
                 may be too high; a dev file, or the same seed and dev_fraction, would keep them apart",
                own.train.display()
            ))
        }
        _ => None,
    })
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let same = one.canonicalize().and_then(|one| Ok(one == other.canonicalize()?));
    same.unwrap_or(one == other)
}
