//! Throughput with the congestion window above, latency as steps below, on one time axis.

use plotters::prelude::*;

use super::surface::{Area, FONT, failed};
use super::{
    AXIS, BLUE, Error, GREEN, GRID, ORANGE, VERMILION, axis_end, axis_label, free_corner, throughput_unit,
    time_unit,
};

/// The figure. All times are seconds since the workload began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Above the figure.
    pub title: String,
    /// What the latency is the time of; "average time in nf_hook_slow".
    pub latency_label: String,
    /// The end of an interval, and its throughput in Mbit/s.
    pub throughput: Vec<(f64, f64)>,
    /// The end of an interval, and the congestion window then, in KB of 1,000 bytes.
    pub window: Vec<(f64, f64)>,
    /// The end of an interval, which begins at the end of the one before, and its average in nanoseconds.
    pub latency: Vec<(f64, f64)>,
    /// When rules were added.
    pub shade: Option<(f64, f64)>,
}

impl Timeline {
    pub(super) fn draw<D: DrawingBackend>(&self, area: &Area<D>, scale: u32) -> Result<(), Error>
    where
        D::ErrorType: 'static,
    {
        let area = area
            .margin(12 * scale, 4 * scale, 0, 0)
            .titled(&self.title, (FONT, 26 * scale))
            .map_err(failed)?;
        let all = [&self.throughput, &self.window, &self.latency];
        let end = all
            .iter()
            .flat_map(|points| points.iter().map(|p| p.0))
            .fold(0.0, f64::max);
        if end <= 0.0 {
            return Err(Error::Empty("no interval has a throughput or a latency"));
        }
        match (self.throughput.is_empty(), self.latency.is_empty()) {
            (false, false) => {
                let (top, bottom) = area.split_vertically((52).percent());
                self.above(&top, scale, end)?;
                self.below(&bottom, scale, end)
            }
            (false, true) => self.above(&area, scale, end),
            (true, _) => self.below(&area, scale, end),
        }
    }

    fn above<D: DrawingBackend>(&self, area: &Area<D>, scale: u32, end: f64) -> Result<(), Error>
    where
        D::ErrorType: 'static,
    {
        let highest = highest(&self.throughput);
        let (unit, per) = throughput_unit(highest);
        let top = axis_end(highest / per);
        let window_top = axis_end(self::highest(&self.window));
        let mut chart = ChartBuilder::on(area)
            .margin(12 * scale)
            .x_label_area_size(52 * scale)
            .y_label_area_size(92 * scale)
            .right_y_label_area_size(100 * scale)
            .build_cartesian_2d(0.0..end, 0.0..top)
            .map_err(failed)?
            .set_secondary_coord(0.0..end, 0.0..window_top);
        mesh!(chart, scale, "time (s)", format!("throughput ({unit})"));
        if !self.window.is_empty() {
            chart
                .configure_secondary_axes()
                .y_desc("congestion window (KB)")
                .axis_desc_style((FONT, 20 * scale))
                .label_style((FONT, 17 * scale))
                .y_label_formatter(&|v| axis_label(*v))
                .axis_style(AXIS.stroke_width(scale))
                .draw()
                .map_err(failed)?;
        }
        shade!(self, chart, scale, top, end);
        let line = BLUE.stroke_width(2 * scale);
        chart
            .draw_series(LineSeries::new(
                self.throughput.iter().map(|(t, v)| (*t, v / per)),
                line,
            ))
            .map_err(failed)?
            .label("throughput")
            .legend(move |at| legend_line(at, scale, line));
        if !self.window.is_empty() {
            let line = VERMILION.stroke_width(2 * scale);
            chart
                .draw_secondary_series(LineSeries::new(self.window.iter().copied(), line))
                .map_err(failed)?
                .label("congestion window (right axis)")
                .legend(move |at| legend_line(at, scale, line));
        }
        let part = |points: &[(f64, f64)], top: f64| points.iter().map(|(t, v)| (t / end, v / top)).collect();
        let lines = [part(&self.throughput, top * per), part(&self.window, window_top)];
        legend!(chart, scale, free_corner(SeriesLabelPosition::LowerLeft, &lines))
    }

    fn below<D: DrawingBackend>(&self, area: &Area<D>, scale: u32, end: f64) -> Result<(), Error>
    where
        D::ErrorType: 'static,
    {
        let highest = highest(&self.latency);
        let (unit, per) = time_unit(highest);
        let top = axis_end(highest / per);
        let mut chart = ChartBuilder::on(area)
            .margin(12 * scale)
            .x_label_area_size(52 * scale)
            .y_label_area_size(92 * scale)
            // The width of the window's axis above, so that both time axes are one.
            .margin_right(112 * scale)
            .build_cartesian_2d(0.0..end, 0.0..top)
            .map_err(failed)?;
        mesh!(
            chart,
            scale,
            "time (s)",
            format!("{} ({unit})", self.latency_label)
        );
        shade!(self, chart, scale, top, end);
        let line = GREEN.stroke_width(3 * scale);
        let steps: Vec<(f64, f64)> = steps(&self.latency)
            .into_iter()
            .map(|(t, v)| (t, v / per))
            .collect();
        let lines = [steps.iter().map(|(t, v)| (t / end, v / top)).collect()];
        chart
            .draw_series(LineSeries::new(steps, line))
            .map_err(failed)?
            .label(&self.latency_label)
            .legend(move |at| legend_line(at, scale, line));
        legend!(chart, scale, free_corner(SeriesLabelPosition::UpperLeft, &lines))
    }
}

/// The axes of a panel. A macro because a chart with a second axis is another type.
macro_rules! mesh {
    ($chart:ident, $scale:ident, $x:expr, $y:expr) => {
        $chart
            .configure_mesh()
            .x_desc($x)
            .y_desc($y)
            .axis_desc_style((FONT, 20 * $scale))
            .label_style((FONT, 17 * $scale))
            .x_label_formatter(&|v| axis_label(*v))
            .y_label_formatter(&|v| axis_label(*v))
            .axis_style(AXIS.stroke_width($scale))
            .bold_line_style(GRID.stroke_width($scale))
            .max_light_lines(0)
            .draw()
            .map_err(failed)?
    };
}
use mesh;

/// The time during which rules were added.
macro_rules! shade {
    ($self:ident, $chart:ident, $scale:ident, $top:ident, $end:ident) => {
        if let Some((from, to)) = $self.shade {
            let style = ORANGE.mix(0.22).filled();
            let scale = $scale;
            $chart
                .draw_series([Rectangle::new(
                    [(from.clamp(0.0, $end), 0.0), (to.clamp(0.0, $end), $top)],
                    style,
                )])
                .map_err(failed)?
                .label("rules are being added")
                .legend(move |(x, y)| {
                    let (width, half) = (30 * scale as i32, 7 * scale as i32);
                    Rectangle::new([(x, y - half), (x + width, y + half)], ORANGE.mix(0.35).filled())
                });
        }
    };
}
use shade;

/// The legend of a panel.
macro_rules! legend {
    ($chart:ident, $scale:ident, $position:expr) => {
        $chart
            .configure_series_labels()
            .position($position)
            .margin(12 * $scale)
            .legend_area_size(40 * $scale)
            .label_font((FONT, 17 * $scale))
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .draw()
            .map_err(failed)
    };
}
use legend;

fn legend_line((x, y): (i32, i32), scale: u32, style: ShapeStyle) -> PathElement<(i32, i32)> {
    PathElement::new(vec![(x, y), (x + 30 * scale as i32, y)], style)
}

fn highest(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|p| p.1).fold(0.0, f64::max)
}

/// The corners of the steps: each value holds from the end of the interval before to the end of its own.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut from = 0.0;
    let mut corners = Vec::with_capacity(points.len() * 2);
    for (to, value) in points {
        corners.push((from, *value));
        corners.push((*to, *value));
        from = *to;
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::plot::Figure;

    fn sample() -> Timeline {
        let ramp = |t: f64| ((t - 60.0) / 120.0).clamp(0.0, 1.0);
        let seconds = || (1..=300).map(f64::from);
        Timeline {
            title: "Rules injected during one iperf3 run".into(),
            latency_label: "average time in nf_hook_slow".into(),
            throughput: seconds()
                .map(|t| (t, 24_000.0 / (1.0 + 3.0 * ramp(t)) + 500.0 * (t * 1.7).sin()))
                .collect(),
            window: seconds().map(|t| (t, 3000.0 + 60.0 * (t / 9.0).sin())).collect(),
            latency: (1..=30)
                .map(|i| {
                    (
                        f64::from(i) * 10.0,
                        200.0 + 12_600.0 * ramp(f64::from(i) * 10.0 - 5.0),
                    )
                })
                .collect(),
            shade: Some((60.0, 180.0)),
        }
    }

    #[test]
    fn both_formats_show_it() {
        let figure = sample();
        let svg = Figure::Timeline(&figure).svg().unwrap();
        for text in [
            "time (s)",
            "congestion window (KB)",
            "throughput (Gbit/s)",
            "rules are being added",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
        let png = Figure::Timeline(&figure).png().unwrap();
        assert_eq!(&png[1..4], b"PNG");
        if let Some(folder) = std::env::var_os("KTRAIL_FIGURES") {
            std::fs::write(std::path::Path::new(&folder).join("timeline.png"), png).unwrap();
        }
    }

    #[test]
    fn a_step_lasts_until_the_next() {
        assert_eq!(
            steps(&[(10.0, 1.0), (20.0, 3.0)]),
            [(0.0, 1.0), (10.0, 1.0), (10.0, 3.0), (20.0, 3.0)]
        );
    }
}
