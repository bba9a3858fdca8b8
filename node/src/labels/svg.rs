//! A page as SVG 1.1, in millimetres.

use std::fmt::Write as _;

use super::{Page, Shape, Sheet};

/// The page as a drawing of its own.
#[must_use]
pub fn to_svg(sheet: &Sheet, page: &Page) -> String {
    let (w, h) = (sheet.width, sheet.height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}mm\" height=\"{h}mm\" viewBox=\"0 0 {w} {h}\">\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"#fff\"/>\n"
    );
    // Writing to a string cannot fail.
    for shape in &page.shapes {
        match shape {
            Shape::Symbol { x, y, outlines, .. } => {
                let _ = write!(
                    out,
                    "<path fill-rule=\"evenodd\" transform=\"translate({x:.3} {y:.3}) scale({})\" d=\"",
                    sheet.module
                );
                for line in outlines {
                    for (i, (x, y)) in line.iter().enumerate() {
                        let _ = write!(out, "{}{x} {y}", if i == 0 { 'M' } else { 'L' });
                    }
                    out.push('z');
                }
                out.push_str("\"/>\n");
            }
            Shape::Strokes {
                x,
                y,
                unit,
                breadth,
                lines,
            } => {
                let _ = write!(
                    out,
                    "<path fill=\"none\" stroke=\"#000\" stroke-linecap=\"round\" stroke-linejoin=\"round\" stroke-width=\"{breadth}\" \
                     transform=\"translate({x:.3} {y:.3}) scale({unit:.4})\" d=\""
                );
                for line in lines {
                    for (i, (x, y)) in line.iter().enumerate() {
                        let _ = write!(out, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
                    }
                }
                out.push_str("\"/>\n");
            }
        }
    }
    out.push_str("</svg>\n");
    out
}
