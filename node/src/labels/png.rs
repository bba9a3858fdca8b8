//! A page as a grey PNG. Modules are whole pixels, all of one size, so that no edge is grey.

use super::{LabelError, Page, Shape, Sheet};

/// The least and the most dots an inch.
const DPI: std::ops::RangeInclusive<u32> = 72..=1200;
/// Dots an inch to dots a metre.
const INCHES_A_METRE: f64 = 39.370_078_74;

struct Canvas {
    width: usize,
    height: usize,
    grey: Vec<u8>,
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "pixels of a page"
)]
impl Canvas {
    fn fill(&mut self, x: usize, y: usize, w: usize, h: usize) {
        for row in self.grey.chunks_mut(self.width.max(1)).skip(y).take(h) {
            if let Some(part) = row.get_mut(x..(x + w).min(self.width)) {
                part.fill(0);
            }
        }
    }

    /// A line with round ends: each pixel is as dark as the line covers of it, nearly.
    fn line(&mut self, a: (f64, f64), b: (f64, f64), breadth: f64) {
        let reach = breadth / 2.0 + 1.0;
        let range = |p: f64, q: f64, end: usize| {
            let from = (p.min(q) - reach).floor().max(0.0) as usize;
            let to = (p.max(q) + reach).ceil().max(0.0) as usize;
            from..to.min(end)
        };
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let squared = dx.mul_add(dx, dy * dy);
        for y in range(a.1, b.1, self.height) {
            for x in range(a.0, b.0, self.width) {
                let (px, py) = (x as f64 + 0.5 - a.0, y as f64 + 0.5 - a.1);
                let along = if squared > 0.0 {
                    (px.mul_add(dx, py * dy) / squared).clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let distance = (px - along * dx).hypot(py - along * dy);
                let covered = (breadth / 2.0 - distance + 0.5).clamp(0.0, 1.0);
                if let Some(grey) = self.grey.get_mut(y * self.width + x) {
                    *grey = (*grey).min((255.0 * (1.0 - covered)) as u8);
                }
            }
        }
    }
}

/// The page with so many dots an inch, 72 to 1,200, which the file says too.
///
/// # Errors
/// [`LabelError::Range`] also if a module would be smaller than two pixels, [`LabelError::Picture`].
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "pixels of a page"
)]
pub fn to_png(sheet: &Sheet, page: &Page, dpi: u32) -> Result<Vec<u8>, LabelError> {
    if !DPI.contains(&dpi) {
        return Err(LabelError::Range {
            what: "dots an inch",
            found: dpi.into(),
            min: (*DPI.start()).into(),
            max: (*DPI.end()).into(),
        });
    }
    let scale = f64::from(dpi) / 25.4;
    let module = (sheet.module * scale).round();
    if module < 2.0 {
        return Err(LabelError::Range {
            what: "pixels of a module",
            found: module,
            min: 2.0,
            max: 4096.0,
        });
    }
    let side = module as usize;
    let (width, height) = (
        (sheet.width * scale).round() as usize,
        (sheet.height * scale).round() as usize,
    );
    let mut canvas = Canvas {
        width,
        height,
        grey: vec![255; width * height],
    };
    for shape in &page.shapes {
        match shape {
            Shape::Symbol { x, y, runs, .. } => {
                let (left, top) = ((x * scale).round() as usize, (y * scale).round() as usize);
                for run in runs {
                    let [x, y, n] = [run.0, run.1, run.2].map(usize::from);
                    canvas.fill(left + x * side, top + y * side, n * side, side);
                }
            }
            Shape::Strokes {
                x,
                y,
                unit,
                breadth,
                lines,
            } => {
                let place =
                    |(px, py): &(f64, f64)| ((x + px * unit) * scale, (y + py * unit) * scale);
                for line in lines {
                    for two in line.windows(2) {
                        if let [a, b] = two {
                            canvas.line(place(a), place(b), breadth * unit * scale);
                        }
                    }
                }
            }
        }
    }
    encode(&canvas, dpi).map_err(|e| LabelError::Picture(e.to_string()))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "dots a metre"
)]
fn encode(canvas: &Canvas, dpi: u32) -> Result<Vec<u8>, ::png::EncodingError> {
    let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut out = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut out, size(canvas.width), size(canvas.height));
    encoder.set_color(::png::ColorType::Grayscale);
    encoder.set_depth(::png::BitDepth::Eight);
    let a_metre = (f64::from(dpi) * INCHES_A_METRE).round() as u32;
    encoder.set_pixel_dims(Some(::png::PixelDimensions {
        xppu: a_metre,
        yppu: a_metre,
        unit: ::png::Unit::Meter,
    }));
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.grey)?;
    writer.finish()?;
    Ok(out)
}
