//! How each group of parameters is trained, as the check of the first step found it.

use super::page::{Columns, count, table};
use crate::{
    check::{Check, CheckedGroup},
    html::escaped,
};

/// A table with a row a group, and why some gradients are 0.
pub(super) fn parameters(check: &Check) -> String {
    let row = |group: &CheckedGroup| {
        let mut row = vec![count(group.tensors), count(group.values)];
        match &group.training {
            None => row.extend(["frozen", "-", "-", "-"].map(str::to_owned)),
            Some(training) => row.extend([
                format!("{:e}", training.learning_rate),
                training.weight_decay.to_string(),
                training.clip.map_or("none".to_owned(), |clip| clip.to_string()),
                format!("{:.2e}", training.gradient_norm),
            ]),
        }
        row.push(escaped(&group.names.join(", ")));
        row
    };
    let values = |is_taken: &dyn Fn(&&CheckedGroup) -> bool| {
        count(check.groups.iter().filter(is_taken).map(|group| group.values).sum())
    };
    let trained = values(&|group| group.training.is_some());
    let mut html = format!(
        "<p>{trained} of {} numbers were trained at step {}, where this was read off what the optimiser does. The rate is the \
         schedule's highest.</p>",
        values(&|_| true),
        count(check.step)
    );
    let rows: Vec<Vec<String>> = check.groups.iter().map(row).collect();
    let header = [
        "tensors",
        "numbers",
        "learning rate",
        "weight decay",
        "clip",
        "gradient norm",
        "parameters",
    ];
    html += &table(Columns::Texts, &header, &rows);
    let zeros = check.groups.iter().filter_map(|group| group.training.as_ref());
    for zero in zeros.flat_map(|training| &training.zero) {
        let names = escaped(&zero.names.join(", "));
        let reason = escaped(&zero.reason);
        html += &format!("<p>The gradient is 0, and rightly, of {names}: {reason}.</p>");
    }
    html
}
