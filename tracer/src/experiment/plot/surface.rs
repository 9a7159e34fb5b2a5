//! What a figure is drawn on: an SVG text, or pixels that become a PNG.

use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

use super::Error;

/// An area to draw on.
pub type Area<'a, D> = DrawingArea<D, Shift>;

/// The font's name, which an SVG viewer looks up among its own.
pub const FONT: &str = "sans-serif";

static TTF: &[u8] = include_bytes!("Go-Regular.ttf");

/// How many times larger the PNG is drawn, each way.
const OVERSAMPLE: u32 = 2;

/// What the drawing library says, as an error.
pub fn failed<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> Error {
    Error::Draw(error.to_string())
}

fn fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Only a broken font is refused; a test draws with it.
        let _ = register_font(FONT, FontStyle::Normal, TTF);
    });
}

/// Draw an SVG document.
pub fn svg(
    width: u32,
    height: u32,
    draw: impl FnOnce(&Area<SVGBackend>) -> Result<(), Error>,
) -> Result<String, Error> {
    fonts();
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(text)
}

/// Draw a PNG file; the closure gets the factor by which to enlarge sizes in pixels.
pub fn png(
    width: u32,
    height: u32,
    draw: impl FnOnce(&Area<BitMapBackend>, u32) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    fonts();
    let large = (width * OVERSAMPLE, height * OVERSAMPLE);
    let mut pixels = vec![0; large.0 as usize * large.1 as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, large).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        draw(&area, OVERSAMPLE)?;
        area.present().map_err(failed)?;
    }
    encode(&average(&pixels, width, height), width, height).map_err(|error| Error::Draw(error.to_string()))
}

/// Make each pixel of the small image the mean of those of the large one.
fn average(large: &[u8], width: u32, height: u32) -> Vec<u8> {
    let (width, height, n) = (width as usize, height as usize, OVERSAMPLE as usize);
    let mut small = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let mut sum = 0;
                for dy in 0..n {
                    for dx in 0..n {
                        let at = ((y * n + dy) * width * n + x * n + dx) * 3 + channel;
                        sum += usize::from(large[at]);
                    }
                }
                small.push((sum / (n * n)) as u8);
            }
        }
    }
    small
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(out)
}
