//! A sheet as PDF 1.7: vectors alone, in black of the grey colour space; no fonts, no pictures.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::types::{LineCapStyle, LineJoinStyle};
use pdf_writer::{Content, Filter, Pdf, Rect, Ref, TextStr};

use super::{LabelError, Page, Shape, Sheet};

/// Points in a millimetre.
const POINTS: f64 = 72.0 / 25.4;

#[allow(
    clippy::cast_possible_truncation,
    reason = "PDF numbers have a few digits"
)]
const fn f(x: f64) -> f32 {
    x as f32
}

/// All pages in one file. The same sheet gives the same bytes.
///
/// # Errors
/// [`LabelError::Picture`].
pub fn to_pdf(sheet: &Sheet) -> Result<Vec<u8>, LabelError> {
    let mut pdf = Pdf::new();
    let (catalog, tree, info) = (Ref::new(1), Ref::new(2), Ref::new(3));
    let picture = |what: &str| LabelError::Picture(what.to_owned());
    let count = i32::try_from(sheet.pages.len()).map_err(|_| picture("too many pages"))?;
    let page_ref = |i: i32| Ref::new(4 + 2 * i);
    let content_ref = |i: i32| Ref::new(5 + 2 * i);
    pdf.catalog(catalog).pages(tree);
    pdf.pages(tree).kids((0..count).map(page_ref)).count(count);
    pdf.document_info(info)
        .title(TextStr("Labels"))
        .producer(TextStr("tally"));
    for (i, page) in (0..count).zip(&sheet.pages) {
        let mut written = pdf.page(page_ref(i));
        written
            .parent(tree)
            .media_box(Rect::new(
                0.0,
                0.0,
                f(sheet.width * POINTS),
                f(sheet.height * POINTS),
            ))
            .contents(content_ref(i));
        written.resources();
        drop(written);
        let content = content(sheet, page);
        let mut zipped = ZlibEncoder::new(Vec::new(), Compression::default());
        let zipped = zipped
            .write_all(&content)
            .and_then(|()| zipped.finish())
            .map_err(|e| picture(&e.to_string()))?;
        pdf.stream(content_ref(i), &zipped)
            .filter(Filter::FlateDecode);
    }
    Ok(pdf.finish())
}

fn content(sheet: &Sheet, page: &Page) -> Vec<u8> {
    let mut out = Content::new();
    out.set_fill_gray(0.0).set_stroke_gray(0.0);
    out.set_line_cap(LineCapStyle::RoundCap);
    out.set_line_join(LineJoinStyle::RoundJoin);
    // From here on: millimetres from the upper left corner, y downwards.
    out.transform([
        f(POINTS),
        0.0,
        0.0,
        f(-POINTS),
        0.0,
        f(sheet.height * POINTS),
    ]);
    for shape in &page.shapes {
        out.save_state();
        match shape {
            Shape::Symbol { x, y, outlines, .. } => {
                let side = f(sheet.module);
                out.transform([side, 0.0, 0.0, side, f(*x), f(*y)]);
                for line in outlines {
                    for (i, (x, y)) in line.iter().enumerate() {
                        if i == 0 {
                            out.move_to(f32::from(*x), f32::from(*y));
                        } else {
                            out.line_to(f32::from(*x), f32::from(*y));
                        }
                    }
                    out.close_path();
                }
                out.fill_even_odd();
            }
            Shape::Strokes {
                x,
                y,
                unit,
                breadth,
                lines,
            } => {
                out.transform([f(*unit), 0.0, 0.0, f(*unit), f(*x), f(*y)]);
                out.set_line_width(f(*breadth));
                for line in lines {
                    for (i, (x, y)) in line.iter().enumerate() {
                        if i == 0 {
                            out.move_to(f(*x), f(*y));
                        } else {
                            out.line_to(f(*x), f(*y));
                        }
                    }
                }
                out.stroke();
            }
        }
        out.restore_state();
    }
    out.finish().to_vec()
}
