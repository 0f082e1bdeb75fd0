//! A check as a person reads it: a table, or one line.

use std::fmt;

use crate::{
    check::{Check, CheckedGroup, GroupTraining},
    quantities::{Bytes, Count, Duration},
};

/// Patterns of names that a row shows.
const MOST_NAMES: usize = 4;

/// A table with a row a group, and what the run is going to take.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>7}  {:>8}  {:>8}  {:>8}  {:>5}  {:>4}  parameters",
            "tensors", "values", "gradient", "rate", "decay", "clip"
        )?;
        for group in &self.groups {
            write_row(group, f)?;
        }
        let training = self.groups.iter().filter_map(|group| group.training.as_ref());
        for zero in training.flat_map(|training| &training.zero) {
            let (names, reason) = (names(&zero.names), &zero.reason);
            writeln!(f, "the gradient is 0, and rightly, of {names} ({}): {reason}", zero.tensors)?;
        }
        write!(f, "{}", self.plan)?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

impl Check {
    /// What it found, in one line.
    pub fn summary(&self) -> String {
        let count = |is_trained: bool| {
            let groups = self.groups.iter();
            groups.filter(|group| group.training.is_some() == is_trained).fold(
                (0, 0, 0),
                |(groups, tensors, values), group| {
                    (groups + 1, tensors + group.tensors, values + group.values)
                },
            )
        };
        let (groups, tensors, values) = count(true);
        let frozen = match count(false) {
            (_, 0, _) => String::new(),
            (_, tensors, values) => format!(", {tensors} frozen ({} values)", Count(values)),
        };
        let plan = &self.plan;
        let memory = match plan.memory.total {
            Some(total) => {
                format!(", {} of {} of memory", Bytes(plan.memory.most()), Bytes(total))
            }
            None => String::new(),
        };
        format!(
            "checked: {tensors} tensors ({} values) trained in {groups} groups{frozen}; {} steps, {} of them warm-up, \
             about {}{memory}",
            Count(values),
            Count(plan.steps),
            Count(plan.warmup_steps),
            Duration(plan.seconds)
        )
    }
}

fn write_row(group: &CheckedGroup, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (values, names) = (Count(group.values), names(&group.names));
    write!(f, "{:>7}  {values:>8}  ", group.tensors)?;
    match &group.training {
        Some(GroupTraining { gradient_norm, learning_rate, weight_decay, clip, .. }) => {
            let clip = clip.map_or("none".to_owned(), |clip| clip.to_string());
            write!(
                f,
                "{gradient_norm:>8.2e}  {learning_rate:>8.2e}  {weight_decay:>5}  {clip:>4}  "
            )?;
        }
        None => write!(f, "{:>8}  {:>8}  {:>5}  {:>4}  ", "frozen", "", "", "")?,
    }
    writeln!(f, "{names}")
}

fn names(patterns: &[String]) -> String {
    let shown = patterns.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match patterns.len().checked_sub(MOST_NAMES) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
