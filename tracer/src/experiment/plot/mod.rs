//! Figures, as SVG and PNG from one description.
//!
//! [`sweep`] shows throughput and latency against the number of rules, [`timeline`] against time. The PNG is drawn at
//! twice its size and averaged down, because the library's bitmap lines have hard edges.
//!
//! Colours are from Okabe and Ito's palette, which readers of all kinds of colour vision can tell apart; series
//! differ in their markers as well. The embedded font is Go Regular (Go-Regular.LICENSE).

mod surface;
pub mod sweep;
pub mod timeline;

use std::path::{Path, PathBuf};

use plotters::prelude::*;

/// Okabe and Ito's blue.
const BLUE: RGBColor = RGBColor(0, 114, 178);
/// Okabe and Ito's vermilion.
const VERMILION: RGBColor = RGBColor(213, 94, 0);
/// Okabe and Ito's bluish green.
const GREEN: RGBColor = RGBColor(0, 158, 115);
/// Okabe and Ito's reddish purple.
const PURPLE: RGBColor = RGBColor(204, 121, 167);
/// Okabe and Ito's orange, for shading.
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const GRID: RGBColor = RGBColor(225, 225, 225);
const AXIS: RGBColor = RGBColor(90, 90, 90);

/// The width of a figure in pixels.
const WIDTH: u32 = 1200;
/// The height of a figure in pixels.
const HEIGHT: u32 = 900;

/// Why a figure could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file's name says neither kind.
    #[error("{}: a figure's name ends in .png or .svg", .0.display())]
    Kind(PathBuf),
    /// There is nothing to show.
    #[error("there is nothing to plot: {0}")]
    Empty(&'static str),
    /// The file can't be written.
    #[error("{path}: {1}", path = .0.display())]
    Write(PathBuf, std::io::Error),
    /// The drawing library failed.
    #[error("drawing the figure failed: {0}")]
    Draw(String),
}

/// Something that can be drawn.
pub enum Figure<'a> {
    /// Against the number of rules.
    Sweep(&'a sweep::Sweep),
    /// Against time.
    Timeline(&'a timeline::Timeline),
}

impl Figure<'_> {
    /// Writes the figure; the end of the file's name says whether as PNG or as SVG.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let kind = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
        let bytes = match kind.as_deref() {
            Some("png") => self.png()?,
            Some("svg") => self.svg()?.into_bytes(),
            _ => return Err(Error::Kind(path.to_owned())),
        };
        std::fs::write(path, bytes).map_err(|error| Error::Write(path.to_owned(), error))
    }

    /// The figure as an SVG document.
    pub fn svg(&self) -> Result<String, Error> {
        surface::svg(WIDTH, HEIGHT, |area| self.draw(area, 1))
    }

    /// The figure as a PNG file.
    pub fn png(&self) -> Result<Vec<u8>, Error> {
        surface::png(WIDTH, HEIGHT, |area, scale| self.draw(area, scale))
    }

    fn draw<D: DrawingBackend>(&self, area: &surface::Area<D>, scale: u32) -> Result<(), Error>
    where
        D::ErrorType: 'static,
    {
        match self {
            Figure::Sweep(figure) => figure.draw(area, scale),
            Figure::Timeline(figure) => figure.draw(area, scale),
        }
    }
}

/// A round upper end for an axis that starts at 0 and must show `max`: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a
/// power of ten, with a little air.
fn axis_end(max: f64) -> f64 {
    if max.is_nan() || max <= 0.0 {
        return 1.0;
    }
    let wanted = max * 1.05;
    let power = 10f64.powf(wanted.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps
        .iter()
        .map(|s| s * power)
        .find(|end| *end >= wanted)
        .unwrap_or(10.0 * power)
}

/// The corner where a legend hides least of these lines, whose points are parts of the panel's width and height; the
/// one that is asked for among equals.
fn free_corner(asked: SeriesLabelPosition, lines: &[Vec<(f64, f64)>]) -> SeriesLabelPosition {
    use SeriesLabelPosition::{LowerLeft, LowerRight, UpperLeft, UpperRight};
    // A legend of four lines takes about so much of half a figure.
    let (width, height) = (0.42, 0.37);
    // Between two points there are others, as close as to hit a legend.
    let between = |pair: &[(f64, f64)]| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        (0..=20).map(move |i| {
            let part = f64::from(i) / 20.0;
            (x0 + (x1 - x0) * part, y0 + (y1 - y0) * part)
        })
    };
    let points: Vec<(f64, f64)> = lines
        .iter()
        .flat_map(|line| line.windows(2).flat_map(between))
        .collect();
    let hidden = |corner: &SeriesLabelPosition| {
        let inside = |(x, y): &&(f64, f64)| {
            let across = match corner {
                LowerRight | UpperRight => *x > 1.0 - width,
                _ => *x < width,
            };
            let along = match corner {
                UpperLeft | UpperRight => *y > 1.0 - height,
                _ => *y < height,
            };
            across && along
        };
        points.iter().filter(inside).count()
    };
    let others = [UpperLeft, LowerLeft, LowerRight, UpperRight];
    let corners = std::iter::once(asked).chain(others);
    // The first of those that hide equally little.
    corners.min_by_key(hidden).unwrap_or(UpperLeft)
}

/// A number for an axis: as many decimals as it needs, up to three, and thousands set apart.
fn axis_label(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if grouped == "0" && rest.is_empty() {
        return grouped;
    }
    format!("{sign}{grouped}{rest}")
}

/// A throughput's unit for values up to this many Mbit/s, and how many Mbit/s it stands for.
fn throughput_unit(max: f64) -> (&'static str, f64) {
    if max >= 2000.0 {
        ("Gbit/s", 1000.0)
    } else {
        ("Mbit/s", 1.0)
    }
}

/// A time's unit for values up to this many nanoseconds, and how many nanoseconds it stands for.
fn time_unit(max: f64) -> (&'static str, f64) {
    if max >= 20_000.0 {
        ("µs", 1000.0)
    } else {
        ("ns", 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(axis_end(0.0), 1.0);
        assert_eq!(axis_end(9.3), 10.0);
        assert_eq!(axis_end(9.9), 12.0);
        assert_eq!(axis_end(3100.0), 4000.0);
    }

    #[test]
    fn labels() {
        assert_eq!(axis_label(0.0), "0");
        assert_eq!(axis_label(-0.0), "0");
        assert_eq!(axis_label(1234567.0), "1,234,567");
        assert_eq!(axis_label(2.5), "2.5");
        assert_eq!(axis_label(-1000.25), "-1,000.25");
    }

    #[test]
    fn a_legend_hides_no_line() {
        use SeriesLabelPosition::{LowerLeft, LowerRight, UpperLeft};
        let corner = |asked, line: &[(f64, f64)]| {
            let corner = free_corner(asked, &[line.to_vec()]);
            format!("{corner:?}")
        };
        let rising = [(0.0, 0.1), (1.0, 0.9)];
        assert_eq!(corner(UpperLeft, &rising), format!("{UpperLeft:?}"));
        // Up at once, and flat then.
        let saturating = [(0.0, 0.5), (0.1, 0.9), (1.0, 0.95)];
        assert_eq!(corner(UpperLeft, &saturating), format!("{LowerLeft:?}"));
        let low_at_left = [(0.0, 0.9), (0.3, 0.2), (0.5, 0.9), (1.0, 0.95)];
        assert_eq!(corner(UpperLeft, &low_at_left), format!("{LowerRight:?}"));
    }

    #[test]
    fn the_name_says_the_kind() {
        let figure = timeline::Timeline {
            throughput: vec![(1.0, 1.0), (2.0, 1.0)],
            ..Default::default()
        };
        let error = Figure::Timeline(&figure)
            .save(Path::new("results.gif"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "results.gif: a figure's name ends in .png or .svg"
        );
    }
}
