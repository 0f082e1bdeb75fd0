//! Bar charts side by side, as SVG.

/// Bars from left to right, each as long as the mean of its values; where there are several, each is a dot.
pub struct Chart {
    pub title: String,
    /// Where the bars begin.
    pub from: f64,
    /// Digits behind the point of the numbers beside the bars.
    pub digits: usize,
    pub bars: Vec<(String, Vec<f64>)>,
}

const WIDTH: f64 = 380.0;
const NAMES: f64 = 120.0;
const BARS: f64 = 190.0;
const ROW: f64 = 26.0;
const TOP: f64 = 40.0;

impl Chart {
    /// The charts from left to right.
    pub fn svg(charts: &[Self]) -> String {
        let rows = charts.iter().map(|chart| chart.bars.len()).max().unwrap_or(0);
        let (width, height) = (WIDTH * charts.len() as f64, TOP + ROW * rows as f64 + 8.0);
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' \
             font-family='sans-serif' font-size='13'>\n<rect width='100%' height='100%' fill='white'/>\n"
        );
        for (index, chart) in charts.iter().enumerate() {
            svg += &format!("<g transform='translate({} 0)'>\n", WIDTH * index as f64);
            chart.draw(&mut svg);
            svg += "</g>\n";
        }
        svg + "</svg>\n"
    }

    fn draw(&self, svg: &mut String) {
        let largest =
            self.bars.iter().flat_map(|(_, values)| values).fold(self.from, |a, b| a.max(*b));
        let length = |value: f64| BARS * ((value - self.from) / (largest - self.from)).max(0.0);
        let mut line = |text: String| {
            svg.push_str(&text);
            svg.push('\n');
        };
        line(format!("<text x='12' y='22' font-weight='bold'>{}</text>", self.title));
        for (row, (name, values)) in self.bars.iter().enumerate() {
            let y = TOP + ROW * row as f64;
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            line(format!(
                "<text x='{}' y='{}' text-anchor='end'>{name}</text>",
                NAMES - 8.0,
                y + 14.0
            ));
            line(format!(
                "<rect x='{NAMES}' y='{y}' width='{:.1}' height='18' fill='#8fb3d9'/>",
                length(mean)
            ));
            for value in values.iter().filter(|_| values.len() > 1) {
                let x = NAMES + length(*value);
                line(format!("<circle cx='{x:.1}' cy='{}' r='3' fill='#1f3d66'/>", y + 9.0));
            }
            let end = NAMES + values.iter().copied().map(length).fold(0.0, f64::max) + 8.0;
            line(format!("<text x='{end:.1}' y='{}'>{mean:.*}</text>", y + 14.0, self.digits));
        }
    }
}
