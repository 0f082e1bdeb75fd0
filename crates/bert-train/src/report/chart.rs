//! Curves and bars as SVG, in the colours of the page, few enough points to open at once.

use std::fmt::Write;

use crate::html::escaped;

/// Curves over a common axis.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the axis counts.
    pub(crate) axis: &'static str,
    pub(crate) lines: Vec<Line>,
    /// A value that is marked, with its name.
    pub(crate) level: Option<(String, f64)>,
}

/// A curve.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// What the key says; without one, it is not in the key.
    pub(crate) name: Option<String>,
    pub(crate) points: Vec<(f64, f64)>,
    /// The number of its colour.
    pub(crate) colour: usize,
    pub(crate) style: Style,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A line.
    Plain,
    /// A thin line behind the others.
    Raw,
    /// A line with its points.
    Dots,
    /// Broken, with its points.
    Dashed,
    /// Points alone.
    Points,
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// The most points of a line: two for each unit of width.
const MOST_POINTS: usize = 2 * WIDTH as usize;

/// The colours of the page.
const COLOURS: usize = 6;

/// The most points that are dots with a value each.
const MOST_DOTS: usize = 60;

impl Chart {
    /// The chart; nothing where there is no point.
    pub(crate) fn to_html(&self) -> String {
        let is_there = |line: &&Line| line.points.iter().any(is_finite);
        let lines: Vec<&Line> = self.lines.iter().filter(is_there).collect();
        if lines.is_empty() {
            return String::new();
        }
        let points = || lines.iter().flat_map(|line| &line.points).filter(|point| is_finite(point));
        let level = self.level.iter().map(|(_, value)| *value);
        let frame = Frame::new(
            bounds(points().map(|point| point.0)),
            from_zero(bounds(points().map(|point| point.1).chain(level))),
        );
        let mut svg = frame.axes(self.axis);
        if let Some((_, value)) = &self.level {
            let (x, y) = (WIDTH - RIGHT, frame.y(*value));
            push(
                &mut svg,
                format_args!("<path class=\"curve dash level\" d=\"M{LEFT} {y:.1}L{x} {y:.1}\"/>"),
            );
        }
        let mut keys = String::new();
        for line in &lines {
            let (colour, again) =
                (line.colour % COLOURS, if line.is_again() { " again" } else { "" });
            line.draw(&frame, self.axis, &mut svg);
            if let Some(name) = &line.name {
                push(
                    &mut keys,
                    format_args!("<span class=\"key c{colour}{again}\">{}</span>", escaped(name)),
                );
            }
        }
        if let Some((name, _)) = &self.level {
            push(&mut keys, format_args!("<span class=\"key level\">{}</span>", escaped(name)));
        }
        figure(&self.title, &keys, &svg)
    }
}

impl Line {
    /// Whether an earlier line may have its colour.
    fn is_again(&self) -> bool {
        self.colour / COLOURS % 2 == 1
    }

    fn draw(&self, frame: &Frame, axis: &str, svg: &mut String) {
        let colour = self.colour % COLOURS;
        let points = thinned(&self.points, MOST_POINTS);
        let class = match self.style {
            Style::Plain | Style::Dots if self.is_again() => "curve again",
            Style::Plain | Style::Dots => "curve",
            Style::Raw => "curve raw",
            Style::Dashed => "curve dash",
            Style::Points => "",
        };
        if self.style == Style::Points {
            for (x, y) in &points {
                let (x, y) = (frame.x(*x), frame.y(*y));
                push(
                    svg,
                    format_args!(
                        "<circle class=\"point c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>"
                    ),
                );
            }
            return;
        }
        let mut path = String::new();
        for (place, (x, y)) in points.iter().enumerate() {
            let letter = if place == 0 { 'M' } else { 'L' };
            push(&mut path, format_args!("{letter}{:.1} {:.1}", frame.x(*x), frame.y(*y)));
        }
        push(svg, format_args!("<path class=\"{class} c{colour}\" d=\"{path}\"/>"));
        let has_dots = matches!(self.style, Style::Dots | Style::Dashed) || points.len() == 1;
        if has_dots && points.len() <= MOST_DOTS {
            for (x, y) in &points {
                let name = self
                    .name
                    .as_deref()
                    .map(|name| format!("{} ", escaped(name)))
                    .unwrap_or_default();
                push(
                    svg,
                    format_args!(
                        "<circle class=\"dot c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{axis} {x}: {name}{y:.4}</title></circle>",
                        frame.x(*x),
                        frame.y(*y)
                    ),
                );
            }
        }
    }
}

/// Bars side by side over a common axis: each of `series` has a height for each of the parts between `edges`.
pub(crate) fn bars(title: &str, axis: &str, edges: &[f64], series: &[(&str, Vec<f64>)]) -> String {
    let heights = || series.iter().flat_map(|(_, heights)| heights.iter().copied());
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return String::new() };
    if heights().all(|height| height == 0.0) {
        return String::new();
    }
    let frame = Frame::new((*first, *last), bounds(heights().chain([0.0])));
    let mut svg = frame.axes(axis);
    let mut keys = String::new();
    for (place, (name, heights)) in series.iter().enumerate() {
        for (edges, height) in edges.windows(2).zip(heights).filter(|(_, height)| **height > 0.0) {
            let (from, to) = (frame.x(edges[0]), frame.x(edges[1]));
            let width = (to - from) / series.len() as f64;
            let x = from + width * place as f64;
            push(&mut svg, format_args!("{}", bar(&frame, place, (x, width), *height)));
        }
        push(&mut keys, format_args!("<span class=\"key c{place}\">{}</span>", escaped(name)));
    }
    figure(title, &keys, &svg)
}

/// A bar from 0 up, with a little room beside it.
pub(crate) fn bar(frame: &Frame, colour: usize, (x, width): (f64, f64), height: f64) -> String {
    let (y, bottom) = (frame.y(height), frame.y(0.0));
    format!(
        "<rect class=\"bar c{colour}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        x + 0.05 * width,
        0.9 * width,
        bottom - y
    )
}

/// A drawing with its title and key.
pub(crate) fn figure(title: &str, keys: &str, svg: &str) -> String {
    let title = escaped(title);
    format!(
        "<figure><figcaption>{title}<span class=\"keys\">{keys}</span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">{svg}</svg></figure>\n"
    )
}

/// Where values lie in a drawing.
pub(crate) struct Frame {
    xs: (f64, f64),
    ys: (f64, f64),
}

impl Frame {
    pub(crate) fn new(xs: (f64, f64), ys: (f64, f64)) -> Self {
        Self { xs, ys }
    }

    pub(crate) fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.xs.0) / (self.xs.1 - self.xs.0) * (WIDTH - LEFT - RIGHT)
    }

    pub(crate) fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.ys.0) / (self.ys.1 - self.ys.0) * (HEIGHT - BOTTOM - TOP)
    }

    /// Lines and numbers at round values, and what the lower axis counts.
    pub(crate) fn axes(&self, axis: &str) -> String {
        let mut svg = "<g class=\"grid\">".to_owned();
        let (left, right, base) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
        let (ticks, step) = ticks(self.ys, 5);
        let most = largest(&ticks);
        for value in ticks {
            let y = self.y(value);
            push(
                &mut svg,
                format_args!(
                    "<line x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    left - 6.0,
                    y + 4.0,
                    written(value, step, most)
                ),
            );
        }
        let (ticks, step) = self::ticks(self.xs, 5);
        let most = largest(&ticks);
        // The name of the axis stands at its end.
        let room = right - 9.0 * (axis.chars().count() + 2) as f64;
        for value in ticks {
            let x = self.x(value);
            push(
                &mut svg,
                format_args!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{base}\" y2=\"{}\"/>",
                    base + 4.0
                ),
            );
            if x < room {
                let y = HEIGHT - 8.0;
                push(
                    &mut svg,
                    format_args!(
                        "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                        written(value, step, most)
                    ),
                );
            }
        }
        push(
            &mut svg,
            format_args!(
                "<text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text></g>",
                HEIGHT - 8.0,
                escaped(axis)
            ),
        );
        svg
    }
}

fn push(to: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = to.write_fmt(text); // INVARIANT: writing to a string does not fail
}

fn is_finite(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

/// The lowest and the highest of the values, never the same.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(start, |(low, high), value| (low.min(value), high.max(value)));
    let spread = high - low;
    // Room that numbers of this size can still tell apart.
    let least = low.abs().max(high.abs()) * 1e-9;
    if spread > least {
        (low, high)
    } else {
        let room = if low == 0.0 { 0.5 } else { 0.5 * low.abs() };
        (low - room, high + room)
    }
}

/// A little room above and below; down to 0 where that is near.
fn from_zero((low, high): (f64, f64)) -> (f64, f64) {
    let room = 0.05 * (high - low);
    let low = if (0.0..0.4 * high).contains(&low) { 0.0 } else { low - room };
    (low, high + room)
}

/// About `count` round values within the bounds, and how far apart they are.
fn ticks((low, high): (f64, f64), count: usize) -> (Vec<f64>, f64) {
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    ((first..=last).map(|number| number as f64 * step).collect(), step)
}

/// A round value, with the digits that tell it from the next; `most` is the largest of its axis.
fn written(value: f64, step: f64, most: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&most) {
        let power = value.abs().log10() + 1e-9;
        let digits = (power.floor() - step.log10() - 1e-9).ceil().max(0.0) as usize;
        return format!("{value:.digits$e}");
    }
    let digits = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
    format!("{value:.digits$}")
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}

/// At most `most` points: of points that lie close together the lowest and the highest, so that no peak is lost.
pub(crate) fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(is_finite).collect();
    if points.len() <= most {
        return points;
    }
    let parts = most / 2;
    let mut thin = Vec::with_capacity(most);
    for part in 0..parts {
        let of_part = part * points.len() / parts..(part + 1) * points.len() / parts;
        let by_height = |a: &usize, b: &usize| points[*a].1.total_cmp(&points[*b].1);
        let (low, high) = (of_part.clone().min_by(by_height), of_part.max_by(by_height));
        let mut both: Vec<usize> = low.into_iter().chain(high).collect();
        both.sort_unstable();
        both.dedup();
        thin.extend(both.into_iter().map(|place| points[place]));
    }
    thin
}

/// The mean of the points up to each, those of about the last fiftieth counting most: the weight of a point falls by
/// `1 / (1 + n / 50)` with each that follows.
pub(crate) fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let rate = 1.0 / (1.0 + points.len() as f64 / 50.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    points
        .iter()
        .filter(|point| is_finite(point))
        .map(|(x, y)| {
            sum = (1.0 - rate) * sum + rate * y;
            weight = (1.0 - rate) * weight + rate;
            (*x, sum / weight)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: Vec<(f64, f64)>, style: Style) -> Line {
        Line { name: Some("a <line>".into()), points, colour: 0, style }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks((0.0, 2.5), 5), (vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5], 0.5));
        assert_eq!(ticks((3.0, 97.0), 5), (vec![20.0, 40.0, 60.0, 80.0], 20.0));
        assert_eq!(ticks((-0.3, 0.3), 5).0.len(), 3);
        let texts = [
            (0.5, 0.5, 1.5),
            (0.25, 0.05, 0.3),
            (5e-4, 5e-4, 2e-3),
            (20_000.0, 1e4, 3e4),
            (2e-5, 1e-5, 5e-5),
            (2.5e-5, 5e-6, 5e-5),
            (-1.0, 1.0, 1.0),
            (2e6, 1e6, 3e6),
            (0.0, 0.1, 0.5),
        ];
        let texts = texts.map(|(value, step, most)| written(value, step, most));
        let expected = ["0.5", "0.25", "0.0005", "20000", "2e-5", "2.5e-5", "-1", "2e6", "0"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_line_keeps_its_peaks_and_opens_at_once() {
        let mut points: Vec<(f64, f64)> = (0..100_003).map(|step| (f64::from(step), 1.0)).collect();
        points[77_777].1 = 9.0;
        points[5].1 = f64::NAN;
        let thin = thinned(&points, MOST_POINTS);
        assert!(thin.len() <= MOST_POINTS && thin.contains(&(77_777.0, 9.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
        let chart =
            Chart { lines: vec![line(points, Style::Raw)], axis: "step", ..Chart::default() };
        assert!(chart.to_html().len() < 20_000);
    }

    /// Three points: the rate is 1 / (1 + 3 / 50) = 0.943396; the second value is
    /// (0.056604 * 0.943396 * 1 + 0.943396 * 3) / (0.056604 * 0.943396 + 0.943396) = 2.892857.
    #[test]
    fn smoothing_by_hand() {
        let smooth = smoothed(&[(0.0, 1.0), (1.0, 3.0), (2.0, 3.0)]);
        assert_eq!(smooth[0], (0.0, 1.0));
        assert!((smooth[1].1 - 2.892_857).abs() < 1e-6, "{smooth:?}");
    }

    #[test]
    fn a_chart_by_hand() {
        // x from 0 to 2 over 60 to 470; y from 0 to 2 with room above, 2.1 over 184 to 10.
        let points = vec![(0.0, 0.0), (1.0, f64::INFINITY), (2.0, 2.0)];
        let chart =
            Chart { lines: vec![line(points, Style::Dots)], axis: "step", ..Chart::default() };
        let html = chart.to_html();
        assert!(html.contains("d=\"M60.0 184.0L470.0 18.3\""), "{html}");
        assert!(html.contains("<title>step 2: a &lt;line&gt; 2.0000</title>"), "{html}");
        let none =
            Chart { lines: vec![line(vec![(0.0, f64::NAN)], Style::Plain)], ..Chart::default() };
        assert_eq!(none.to_html(), "");
    }

    #[test]
    fn one_point_or_equal_ones_have_a_place() {
        for points in [vec![(3.0, 0.0)], vec![(1.0, 7.0), (2.0, 7.0)], vec![(1e9, 1e-12)]] {
            let chart = Chart { lines: vec![line(points, Style::Plain)], ..Chart::default() };
            let html = chart.to_html();
            assert!(
                html.contains("<path") && !html.contains("NaN") && !html.contains("inf"),
                "{html}"
            );
        }
    }

    #[test]
    fn bars_by_hand() {
        let html =
            bars("a", "tokens", &[0.0, 1.0, 2.0], &[("x", vec![1.0, 0.0]), ("y", vec![0.5, 1.0])]);
        // Each part is 205 wide, each bar half of that and a tenth less.
        assert!(
            html.contains(
                "<rect class=\"bar c0\" x=\"65.1\" y=\"10.0\" width=\"92.2\" height=\"174.0\"/>"
            ),
            "{html}"
        );
        assert_eq!(html.matches("<rect").count(), 3);
        assert_eq!(bars("a", "tokens", &[], &[]), "");
        assert_eq!(bars("a", "tokens", &[0.0, 1.0], &[("x", vec![0.0])]), "");
    }
}
