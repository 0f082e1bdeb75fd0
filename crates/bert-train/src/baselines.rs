//! Whether a task gained by being trained together with others.

use std::{fmt, path::PathBuf};

use bert_kernels::random::{Purpose, Stream};
use serde::{Deserialize, Serialize};

use crate::{
    metrics::{Metrics, TagCounts, sign},
    tag_answers::TagAnswers,
    targets::Targets,
    task_sets::MeasuredTask,
};

/// What the tasks of a run are held against.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<PathBuf>", into = "Vec<PathBuf>")]
pub enum Baselines {
    /// Nothing.
    #[default]
    None,
    /// Each task trained alone, by the same recipe, after the run.
    Train,
    /// Models that were trained before, in these directories.
    Dirs(Vec<PathBuf>),
}

impl Baselines {
    pub(crate) fn are_none(&self) -> bool {
        *self == Self::None
    }
}

/// As flags and run files have them: `train`, `none`, or directories.
impl From<Vec<PathBuf>> for Baselines {
    fn from(words: Vec<PathBuf>) -> Self {
        match words.as_slice() {
            [] => Self::None,
            [one] if one.as_os_str() == "none" => Self::None,
            [one] if one.as_os_str() == "train" => Self::Train,
            _ => Self::Dirs(words),
        }
    }
}

impl From<Baselines> for Vec<PathBuf> {
    fn from(baselines: Baselines) -> Self {
        match baselines {
            Baselines::None => vec![],
            Baselines::Train => vec!["train".into()],
            Baselines::Dirs(dirs) => dirs,
        }
    }
}

/// A task in a run of several against the same task alone, on the same dev rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskComparison {
    /// The task.
    pub task: String,
    /// The score by which it is judged.
    pub metric: String,
    /// The score of the model of several tasks.
    pub together: f64,
    /// The score of the model of this task alone.
    pub alone: f64,
    /// Where the gain, together less alone or of an error the other way round, lies with a probability of 95 %.
    pub interval: [f64; 2],
    /// What that comes to.
    pub verdict: Verdict,
}

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval lies above 0.
    Gained,
    /// The whole interval lies below 0.
    Lost,
    /// It holds 0.
    WithinNoise,
}

/// How often rows are drawn anew.
const RESAMPLES: usize = 1000;

impl TaskComparison {
    /// Compares two models' answers to the same rows.
    ///
    /// The interval is that of the paired bootstrap: the rows are drawn anew, with repetition, 1000 times, and the difference
    /// lies between its 2.5th and 97.5th percentile. It tells what another choice of dev rows could have given, not what
    /// another seed could.
    ///
    /// # Source
    /// Efron: "Bootstrap methods" (Annals of Statistics 7, 1979); paired as in Koehn (EMNLP 2004).
    pub(crate) fn new(
        task: &MeasuredTask,
        targets: &Targets,
        encodings: &[bert_core::Encoding],
        [together, alone]: [&[Vec<f32>]; 2],
        seed: u64,
    ) -> Self {
        let sign = sign(&task.metric);
        let score = |logits: &[Vec<f32>], rows: &[usize]| {
            let of_rows: Vec<&[f32]> = rows.iter().map(|row| logits[*row].as_slice()).collect();
            sign * task.score(&targets.metrics(&task.labels, encodings, rows, &of_rows))
        };
        let all: Vec<usize> = (0..targets.len()).collect();
        // A mean over rows needs each row's score once, however often rows are drawn.
        let is_mean = match targets {
            Targets::Answers(_) => true,
            Targets::Tags(_) => false,
            _ => task.metric == "accuracy",
        };
        let by_row: Vec<f64> = match is_mean {
            true => {
                all.iter().map(|row| score(together, &[*row]) - score(alone, &[*row])).collect()
            }
            false => vec![],
        };
        // Scores of tags are made of sums over sentences, which are counted once.
        let counts = match targets {
            Targets::Tags(all) => Some([together, alone].map(|logits| {
                let rows = all.iter().zip(logits.iter().map(Vec::as_slice));
                TagAnswers::new(rows, &task.labels).counts()
            })),
            _ => None,
        };
        let mut differences: Vec<f64> = (0..RESAMPLES)
            .map(|sample| {
                let mut random = Stream::new(seed, Purpose::Sample, (2 << 32) | sample as u64);
                let rows: Vec<usize> = all.iter().map(|_| random.below(all.len())).collect();
                if is_mean {
                    return rows.iter().map(|row| by_row[*row]).sum::<f64>() / rows.len() as f64;
                }
                if let Some(counts) = &counts {
                    let [together, alone] = counts.each_ref().map(|counts| {
                        let sum: TagCounts = rows.iter().map(|row| counts[*row]).sum();
                        task.score(&Metrics::Tagging(sum.metrics(0.0)))
                    });
                    return together - alone;
                }
                score(together, &rows) - score(alone, &rows)
            })
            .collect();
        differences.sort_by(f64::total_cmp);
        let at = |share: f64| differences[((RESAMPLES - 1) as f64 * share).round() as usize];
        let interval = [at(0.025), at(0.975)];
        Self {
            task: task.name.clone(),
            metric: task.metric.clone(),
            together: sign * score(together, &all),
            alone: sign * score(alone, &all),
            verdict: Verdict::of(interval),
            interval,
        }
    }

    /// By how much the score together is the better one.
    pub(crate) fn gain(&self) -> f64 {
        sign(&self.metric) * (self.together - self.alone)
    }
}

impl Verdict {
    fn of([low, high]: [f64; 2]) -> Self {
        match () {
            () if low > 0.0 => Self::Gained,
            () if high < 0.0 => Self::Lost,
            () => Self::WithinNoise,
        }
    }
}

/// A sentence.
impl fmt::Display for TaskComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, metric, together, alone, interval: [low, high], verdict } = self;
        let points = 100.0 * self.gain();
        match verdict {
            Verdict::Gained => {
                write!(f, "{task} gained {points:.1} points of {metric} by the other tasks")?
            }
            Verdict::Lost => {
                write!(f, "{task} lost {:.1} points of {metric} by the other tasks", -points)?
            }
            Verdict::WithinNoise => write!(
                f,
                "{task}: the difference of {points:.1} points of {metric} is within noise"
            )?,
        }
        write!(
            f,
            " (95 % interval {:.1} to {:.1}): {together:.4} together, {alone:.4} alone",
            100.0 * low,
            100.0 * high
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{data_set::WordTags, labels::LabelMap};

    /// Counted once a sentence, tags give the interval that scoring every draw of sentences anew gives.
    #[test]
    fn tags_are_resampled_as_if_scored_anew() {
        let names = ["B-M", "I-M", "O"].map(String::from);
        let task = MeasuredTask {
            name: "tags".into(),
            metric: "f1".into(),
            labels: LabelMap::of_model(&names).unwrap(),
        };
        let mut random = Stream::new(5, Purpose::Sample, 0);
        let lengths: Vec<usize> = (0..17).map(|_| 1 + random.below(6)).collect();
        let row = |words: &usize| {
            let tags = (0..*words).map(|_| random.below(3) as u32).collect();
            WordTags { tags, first_tokens: (0..*words).map(Some).collect() }
        };
        let targets = Targets::Tags(lengths.iter().map(row).collect());
        let mut logits = || -> Vec<Vec<f32>> {
            let draw = |words: &usize| (0..3 * words).map(|_| random.uniform()).collect();
            lengths.iter().map(draw).collect()
        };
        let (together, alone) = (logits(), logits());
        let got = TaskComparison::new(&task, &targets, &[], [&together, &alone], 3);

        let score = |logits: &[Vec<f32>], rows: &[usize]| {
            let logits: Vec<&[f32]> = rows.iter().map(|row| logits[*row].as_slice()).collect();
            targets.metrics(&task.labels, &[], rows, &logits).main()
        };
        let mut differences: Vec<f64> = (0..1000)
            .map(|sample| {
                let mut random = Stream::new(3, Purpose::Sample, (2 << 32) | sample);
                let rows: Vec<usize> = (0..17).map(|_| random.below(17)).collect();
                score(&together, &rows) - score(&alone, &rows)
            })
            .collect();
        differences.sort_by(f64::total_cmp);
        // The 2.5th and the 97.5th of a hundred: places 25 and 974 of 999.
        assert_eq!(got.interval, [differences[25], differences[974]]);
        assert!(got.interval[0] < got.interval[1]);
    }

    fn compare(together: &[u32], alone: &[u32]) -> TaskComparison {
        let gold: Vec<u32> = (0..together.len() as u32).map(|row| row % 2).collect();
        let logits = |answers: &[u32]| -> Vec<Vec<f32>> {
            answers.iter().map(|answer| vec![0.5, *answer as f32]).collect()
        };
        let names = ["no", "yes"].map(String::from);
        let task = MeasuredTask {
            name: "polarity".into(),
            metric: "accuracy".into(),
            labels: LabelMap::of_model(&names).unwrap(),
        };
        let (together, alone) = (logits(together), logits(alone));
        TaskComparison::new(&task, &Targets::Classes(gold), &[], [&together, &alone], 3)
    }

    #[test]
    fn less_of_an_error_is_a_gain() {
        let task = MeasuredTask {
            name: "stars".into(),
            metric: "mean_squared_error".into(),
            labels: LabelMap::of_model(&[]).unwrap(),
        };
        let gold: Vec<f32> = (0..50).map(|row| row as f32 / 7.0).collect();
        let off = |by: f32| -> Vec<Vec<f32>> { gold.iter().map(|own| vec![own + by]).collect() };
        let targets = Targets::Numbers(gold.clone());
        let gained = TaskComparison::new(&task, &targets, &[], [&off(0.5), &off(1.0)], 3);
        assert_eq!(gained.verdict, Verdict::Gained);
        assert!((gained.together - 0.25).abs() < 1e-6 && (gained.alone - 1.0).abs() < 1e-6);
        assert!((gained.gain() - 0.75).abs() < 1e-6);
        assert!(gained.interval.iter().all(|gain| (gain - 0.75).abs() < 1e-5), "{gained:?}");
        assert!(
            gained.to_string().contains("gained 75.0 points of mean_squared_error"),
            "{gained}"
        );
    }

    #[test]
    fn a_clear_difference_is_told_from_noise() {
        let right: Vec<u32> = (0..200).map(|row| row % 2).collect();
        // 60 of 200 are wrong.
        let worse: Vec<u32> =
            (0..200).map(|row| if row < 60 { 1 - row % 2 } else { row % 2 }).collect();
        let gained = compare(&right, &worse);
        assert_eq!((gained.together, gained.alone, gained.verdict), (1.0, 0.7, Verdict::Gained));
        // The deviation of the mean of 200 differences, 60 of them 1, is sqrt(0.3 * 0.7 / 200) = 0.0324; the interval is about
        // 1.96 of them on each side.
        for (got, expected) in gained.interval.iter().zip([0.3 - 0.0635, 0.3 + 0.0635]) {
            assert!((got - expected).abs() < 0.015, "{:?}", gained.interval);
        }
        assert!(
            gained.to_string().starts_with("polarity gained 30.0 points of accuracy"),
            "{gained}"
        );
        assert_eq!(compare(&worse, &right).verdict, Verdict::Lost);

        // Two rows more, one less.
        let (mut a, mut b) = (right.clone(), right);
        (a[7], b[8], b[9]) = (0, 1, 0);
        let noise = compare(&a, &b);
        assert_eq!(noise.verdict, Verdict::WithinNoise);
        assert!(
            noise.to_string().contains("difference of 0.5 points of accuracy is within noise"),
            "{noise}"
        );
        // The same call gives the same interval.
        assert_eq!(noise, compare(&a, &b));
    }
}
