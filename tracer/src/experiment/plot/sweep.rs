//! Throughput and latency against the number of rules, one panel each.

use std::fmt::Debug;

use plotters::prelude::*;

use super::surface::{Area, FONT, failed};
use super::{
    AXIS, BLUE, Error, GREEN, GRID, PURPLE, VERMILION, axis_end, axis_label, free_corner, throughput_unit,
    time_unit,
};
use crate::experiment::stats::Fit;

/// What was measured at one number of rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// How many rules.
    pub rules: f64,
    /// The mean.
    pub mean: f64,
    /// Standard deviation, if there were repetitions.
    pub sd: Option<f64>,
}

/// One way of writing the rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// In Mbit/s.
    pub throughput: Vec<Point>,
    /// In nanoseconds.
    pub latency: Vec<Point>,
}

/// The figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sweep {
    /// Above the figure.
    pub title: String,
    /// What is counted, for the x axis; "rules in the chain".
    pub x: String,
    /// What the latency is the time of; "average time in nf_hook_slow".
    pub latency: String,
    /// The sweep first, then its controls.
    pub series: Vec<Series>,
    /// Latency of the first series against rules, in nanoseconds.
    pub fit: Option<Fit>,
}

/// One panel's points of one series.
type Panel<'a> = Vec<(&'a str, &'a [Point])>;

impl Sweep {
    pub(super) fn draw<D: DrawingBackend>(&self, area: &Area<D>, scale: u32) -> Result<(), Error>
    where
        D::ErrorType: 'static,
    {
        let throughput: Panel = self
            .series
            .iter()
            .map(|s| (s.name.as_str(), &s.throughput[..]))
            .collect();
        let latency: Panel = self
            .series
            .iter()
            .map(|s| (s.name.as_str(), &s.latency[..]))
            .collect();
        let area = area
            .margin(12 * scale, 4 * scale, 0, 0)
            .titled(&self.title, (FONT, 26 * scale))
            .map_err(failed)?;
        let has = |panel: &Panel| panel.iter().any(|(_, points)| !points.is_empty());
        let most = throughput
            .iter()
            .chain(&latency)
            .flat_map(|(_, points)| points.iter());
        let end = most.map(|p| p.rules).fold(0.0, f64::max).max(1.0);
        let (unit, per) = throughput_unit(highest(&throughput));
        let above = format!("throughput ({unit})");
        let (unit, ns) = time_unit(highest(&latency));
        let below = format!("{} ({unit})", self.latency);
        match (has(&throughput), has(&latency)) {
            (true, true) => {
                let (top, bottom) = area.split_vertically((48).percent());
                self.panel(&top, scale, end, &throughput, per, &above, None)?;
                self.panel(&bottom, scale, end, &latency, ns, &below, self.fit)
            }
            (true, false) => self.panel(&area, scale, end, &throughput, per, &above, None),
            (false, true) => self.panel(&area, scale, end, &latency, ns, &below, self.fit),
            (false, false) => Err(Error::Empty("no step has a throughput or a latency")),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a panel is described by all of these, once"
    )]
    fn panel<D: DrawingBackend>(
        &self,
        area: &Area<D>,
        scale: u32,
        end: f64,
        panel: &Panel,
        unit: f64,
        label: &str,
        fit: Option<Fit>,
    ) -> Result<(), Error>
    where
        D::ErrorType: 'static,
    {
        let top = axis_end(highest(panel) / unit);
        let mut chart = ChartBuilder::on(area)
            .margin(12 * scale)
            .margin_right(30 * scale)
            .x_label_area_size(52 * scale)
            .y_label_area_size(92 * scale)
            .build_cartesian_2d(0.0..end * 1.02, 0.0..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(label)
            .axis_desc_style((FONT, 20 * scale))
            .label_style((FONT, 17 * scale))
            .x_label_formatter(&|v| axis_label(*v))
            .y_label_formatter(&|v| axis_label(*v))
            .axis_style(AXIS.stroke_width(scale))
            .bold_line_style(GRID.stroke_width(scale))
            .max_light_lines(0)
            .draw()
            .map_err(failed)?;
        for (index, (name, points)) in panel.iter().enumerate() {
            let colour = [BLUE, VERMILION, GREEN, PURPLE][index % 4];
            let line = colour.stroke_width(2 * scale);
            let at = |p: &Point| (p.rules, p.mean / unit);
            chart
                .draw_series(
                    points
                        .iter()
                        .filter_map(|p| p.sd.map(|sd| (p, sd / unit)))
                        .map(|(p, sd)| {
                            let (x, y) = at(p);
                            PathElement::new(vec![(x, (y - sd).max(0.0)), (x, (y + sd).min(top))], line)
                        }),
                )
                .map_err(failed)?;
            chart
                .draw_series(LineSeries::new(points.iter().map(at), line))
                .map_err(failed)?;
            let size = 5 * scale as i32;
            chart
                .draw_series(
                    points
                        .iter()
                        .map(|p| EmptyElement::at(at(p)) + marker(index, (0, 0), size, colour)),
                )
                .map_err(failed)?
                .label(*name)
                .legend(move |(x, y)| {
                    EmptyElement::at((x, y))
                        + PathElement::new(vec![(0, 0), (30 * scale as i32, 0)], line)
                        + marker(index, (15 * scale as i32, 0), size, colour)
                });
        }
        if let Some(fit) = fit {
            let ends = [0.0, end].map(|x| (x, (fit.at(x) / unit).clamp(0.0, top)));
            let (on, off) = (8 * scale as i32, 6 * scale as i32);
            chart
                .draw_series(DashedLineSeries::new(ends, on, off, BLACK.stroke_width(scale)))
                .map_err(failed)?
                .label(fit_label(&fit))
                .legend(move |(x, y)| {
                    let dash = |from: i32, to: i32| {
                        PathElement::new(
                            vec![(from * scale as i32, 0), (to * scale as i32, 0)],
                            BLACK.stroke_width(scale),
                        )
                    };
                    EmptyElement::at((x, y)) + dash(0, 12) + dash(18, 30)
                });
        }
        // Throughput falls with the rules and latency rises: mostly the corner is free at the bottom or at the top.
        let asked = if fit.is_some() || rises(panel) {
            SeriesLabelPosition::UpperLeft
        } else {
            SeriesLabelPosition::LowerLeft
        };
        let place = |p: &Point| (p.rules / end / 1.02, p.mean / unit / top);
        let lines: Vec<Vec<(f64, f64)>> = panel
            .iter()
            .map(|(_, points)| points.iter().map(place).collect())
            .collect();
        let position = free_corner(asked, &lines);
        chart
            .configure_series_labels()
            .position(position)
            .margin(12 * scale)
            .legend_area_size(40 * scale)
            .label_font((FONT, 17 * scale))
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .draw()
            .map_err(failed)
    }
}

/// The fit, as the legend says it.
fn fit_label(fit: &Fit) -> String {
    format!(
        "fit: {:.3} ± {:.3} ns a rule, R² = {:.4}",
        fit.slope, fit.slope_margin, fit.r2
    )
}

fn highest(panel: &Panel) -> f64 {
    let tops = panel
        .iter()
        .flat_map(|(_, points)| points.iter().map(|p| p.mean + p.sd.unwrap_or(0.0)));
    tops.fold(0.0, f64::max)
}

fn rises(panel: &Panel) -> bool {
    panel.first().is_some_and(
        |(_, points)| matches!((points.first(), points.last()), (Some(a), Some(b)) if b.mean > a.mean * 1.1),
    )
}

/// A marker: a disc, a triangle, a diamond or a square.
fn marker<DB: DrawingBackend>(
    index: usize,
    (x, y): (i32, i32),
    size: i32,
    colour: RGBColor,
) -> DynElement<'static, DB, (i32, i32)> {
    let style = colour.filled();
    let large = size * 13 / 10;
    match index % 4 {
        0 => Circle::new((x, y), size, style).into_dyn(),
        1 => Polygon::new(
            vec![(x, y - large), (x + large, y + size), (x - large, y + size)],
            style,
        )
        .into_dyn(),
        2 => Polygon::new(
            vec![(x, y - large), (x + large, y), (x, y + large), (x - large, y)],
            style,
        )
        .into_dyn(),
        _ => Rectangle::new([(x - size, y - size), (x + size, y + size)], style).into_dyn(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::experiment::plot::Figure;

    /// A sweep that looks like a real one.
    pub(crate) fn sample() -> Sweep {
        let point = |rules: f64, mean: f64| Point {
            rules,
            mean,
            sd: Some(mean * 0.03),
        };
        let steps: Vec<f64> = (0..=30).map(|i| f64::from(i) * 100.0).collect();
        let wiggle = |x: f64| 1.0 + 0.01 * (x / 70.0).sin();
        let chain = Series {
            name: "one rule an address (iptables-legacy)".into(),
            throughput: steps
                .iter()
                .map(|x| point(*x, 28_000.0 / (1.0 + x / 1500.0) * wiggle(*x)))
                .collect(),
            latency: steps
                .iter()
                .map(|x| point(*x, (210.0 + 2.1 * x) * wiggle(*x)))
                .collect(),
        };
        let flat = |name: &str, offset: f64| Series {
            name: name.into(),
            throughput: steps
                .iter()
                .step_by(10)
                .map(|x| point(*x, 27_600.0 * wiggle(*x + offset)))
                .collect(),
            latency: steps
                .iter()
                .step_by(10)
                .map(|x| point(*x, (215.0 + offset) * wiggle(*x)))
                .collect(),
        };
        let points: Vec<_> = chain.latency.iter().map(|p| (p.rules, p.mean)).collect();
        Sweep {
            title: "The cost of a bloated rule chain".into(),
            x: "rules in the chain".into(),
            latency: "average time in nf_hook_slow".into(),
            fit: Fit::of(&points),
            series: vec![
                chain,
                flat("one rule for the whole prefix", 40.0),
                flat("an nft set with as many addresses", 300.0),
            ],
        }
    }

    #[test]
    fn both_formats_show_it() {
        let sweep = sample();
        let svg = Figure::Sweep(&sweep).svg().unwrap();
        for text in [
            "rules in the chain",
            "throughput (Gbit/s)",
            "one rule for the whole prefix",
            "R²",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
        let png = Figure::Sweep(&sweep).png().unwrap();
        let decoder = png::Decoder::new(std::io::Cursor::new(&png));
        let mut reader = decoder.read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (1200, 900));
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        for colour in [BLUE, VERMILION, GREEN] {
            let (r, g, b) = colour.rgb();
            let count = pixels.chunks(3).filter(|p| **p == [r, g, b]).count();
            assert!(count > 100, "{count} pixels in a series' colour");
        }
        if let Some(folder) = std::env::var_os("KTRAIL_FIGURES") {
            std::fs::write(std::path::Path::new(&folder).join("sweep.png"), png).unwrap();
            std::fs::write(std::path::Path::new(&folder).join("sweep.svg"), svg).unwrap();
        }
    }

    #[test]
    fn nothing_to_show() {
        assert_eq!(
            Figure::Sweep(&Sweep::default()).svg().unwrap_err().to_string(),
            "there is nothing to plot: no step has a throughput or a latency"
        );
    }
}
