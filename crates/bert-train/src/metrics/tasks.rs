//! How well a model of several tasks does: the scores of each.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};

use super::Metrics;

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
}

impl TasksMetrics {
    /// The mean over the tasks of what each is judged by.
    pub fn main(&self) -> f64 {
        self.mean(TaskMetrics::main)
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
