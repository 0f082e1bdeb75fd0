//! How well a model of several tasks does: the scores of each.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};

use super::{Metrics, sign};

/// The scores of every task; its JSON has the tasks' names as keys.
#[derive(Debug, Clone, PartialEq)]
pub struct TasksMetrics(pub Vec<TaskMetrics>);

/// The scores of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskMetrics {
    /// The task.
    pub name: String,
    /// The score by which it is judged, one of those of `metrics`.
    pub metric: String,
    /// All scores.
    pub metrics: Metrics,
}

impl TaskMetrics {
    /// The score by which the task is judged.
    pub fn main(&self) -> f64 {
        self.metrics.score(&self.metric).unwrap_or_else(|| self.metrics.main())
    }

    /// The same, the higher the better: an error counts less than nothing.
    pub fn judged(&self) -> f64 {
        sign(&self.metric) * self.main()
    }
}

impl TasksMetrics {
    /// The mean over the tasks of what each is judged by, errors taken off.
    pub fn main(&self) -> f64 {
        self.mean(TaskMetrics::judged)
    }

    /// The mean over the tasks of their losses.
    pub fn loss(&self) -> f64 {
        self.mean(|task| task.metrics.loss())
    }

    fn mean(&self, of: impl Fn(&TaskMetrics) -> f64) -> f64 {
        self.0.iter().map(of).sum::<f64>() / self.0.len().max(1) as f64
    }
}

impl Serialize for TasksMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for task in &self.0 {
            map.serialize_entry(&task.name, &task.metrics)?;
        }
        map.end()
    }
}

/// Each task is judged by the main score of its kind, since none is written down.
impl<'de> Deserialize<'de> for TasksMetrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tasks;
        impl<'de> Visitor<'de> for Tasks {
            type Value = TasksMetrics;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the scores of each task")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TasksMetrics, A::Error> {
                let mut tasks = vec![];
                while let Some((name, metrics)) = map.next_entry::<String, Metrics>()? {
                    let metric = metrics.main_name().to_owned();
                    tasks.push(TaskMetrics { name, metric, metrics });
                }
                Ok(TasksMetrics(tasks))
            }
        }
        deserializer.deserialize_map(Tasks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{RegressionMetrics, is_error};

    #[test]
    fn in_a_mean_an_error_is_taken_off() {
        let task = |name: &str, metric: &str| TaskMetrics {
            name: name.into(),
            metric: metric.into(),
            metrics: Metrics::Regression(RegressionMetrics {
                spearman: 0.75,
                pearson: 0.5,
                mean_squared_error: 0.25,
                loss: 0.25,
            }),
        };
        let tasks = TasksMetrics(vec![task("a", "spearman"), task("b", "mean_squared_error")]);
        assert_eq!(tasks.main(), (0.75 - 0.25) / 2.0);
        let all = Metrics::Tasks(tasks);
        assert_eq!(all.scores(), [0.75, -0.25]);
        let name = all.main_name();
        assert_eq!(name, "mean of a spearman, minus b mean_squared_error");
        assert!(!is_error(&name) && is_error("b mean_squared_error"));
    }
}
