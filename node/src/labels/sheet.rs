//! Where everything is on a page, in millimetres from its upper left corner.

use tally_codes::matrix::Matrix;

use super::glyphs::{ADVANCE, HEIGHT, STROKE, lines, text_width};
use super::{Label, LabelError, Paper, SymbolKind};

/// Free edge of a page, millimetres: what office printers cannot print on, and some.
const DEFAULT_MARGIN: f64 = 8.0;
/// Free space between labels, millimetres.
const GAP: f64 = 3.0;
/// Height of a character, millimetres, where there is room.
const TEXT: f64 = 1.9;
/// From one line of text to the next, in heights of a character.
const LINE: f64 = 1.5;

/// How many labels are on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Beside each other.
    pub columns: usize,
    /// Below each other.
    pub rows: usize,
}

/// What sheets shall be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The symbol.
    pub symbol: SymbolKind,
    /// The paper.
    pub paper: Paper,
    /// Labels on a page; as many as fit if it is not said.
    pub grid: Option<Grid>,
    /// Free edge on all sides, 0 to 50 millimetres.
    pub margin_mm: f64,
    /// Side of a module, 0.2 to 5 millimetres.
    pub module_mm: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            symbol: SymbolKind::Qr,
            paper: Paper::A4,
            grid: None,
            margin_mm: DEFAULT_MARGIN,
            module_mm: 0.5,
        }
    }
}

/// What is drawn, black on white.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A symbol: its upper left module is at `(x, y)`, its runs are `(x, y, length)` and its outlines corners, in modules.
    Symbol {
        /// Left, millimetres.
        x: f64,
        /// Top, millimetres.
        y: f64,
        /// Runs of dark modules, for pictures of pixels.
        runs: Vec<(u16, u16, u16)>,
        /// The borders of its dark parts, for vectors.
        outlines: Vec<Vec<(u16, u16)>>,
    },
    /// A text as lines with round ends.
    Strokes {
        /// Left, millimetres.
        x: f64,
        /// Top, millimetres.
        y: f64,
        /// Millimetres for a unit of the points and of the breadth.
        unit: f64,
        /// Breadth of a line, in units.
        breadth: f64,
        /// The lines.
        lines: Vec<Vec<(f64, f64)>>,
    },
}

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What is on it.
    pub shapes: Vec<Shape>,
}

/// Pages of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// Width of a page, millimetres.
    pub width: f64,
    /// Height of a page, millimetres.
    pub height: f64,
    /// Side of a module, millimetres.
    pub module: f64,
    /// Labels on a page.
    pub grid: Grid,
    /// The pages.
    pub pages: Vec<Page>,
}

fn matrix(label: &Label, kind: SymbolKind) -> Result<Matrix, tally_codes::Error> {
    match kind {
        SymbolKind::Qr => Matrix::qr(&label.url),
        SymbolKind::DataMatrix => Matrix::data_matrix(&label.url),
        SymbolKind::Gs1DataMatrix => Matrix::gs1_data_matrix(&label.code.gtin, label.code.serial),
    }
}

/// What a person reads and types: the GTIN, then the serial with its check character in two lines.
fn text(label: &Label) -> [String; 3] {
    let typed = label.code.serial.to_typed();
    let half = typed.match_indices('-').nth(1).map_or(typed.len(), |m| m.0);
    let (first, second) = typed.split_at_checked(half).unwrap_or((&typed, ""));
    [
        label.code.gtin.to_string(),
        first.to_owned(),
        second.trim_start_matches('-').to_owned(),
    ]
}

fn within(what: &'static str, found: f64, min: f64, max: f64) -> Result<(), LabelError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(LabelError::Range {
        what,
        found,
        min,
        max,
    })
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of labels and pages"
)]
impl Sheet {
    /// Lays labels out, row by row.
    ///
    /// # Errors
    /// [`LabelError::Range`], [`LabelError::TooLarge`], [`LabelError::Codes`].
    pub fn new(labels: &[Label], options: &Options) -> Result<Self, LabelError> {
        within("margin in mm", options.margin_mm, 0.0, 50.0)?;
        within("module in mm", options.module_mm, 0.2, 5.0)?;
        if let Some(grid) = options.grid {
            within("columns", grid.columns as f64, 1.0, 100.0)?;
            within("rows", grid.rows as f64, 1.0, 100.0)?;
        }
        let matrices = labels
            .iter()
            .map(|label| matrix(label, options.symbol))
            .collect::<Result<Vec<_>, _>>()?;
        let modules = matrices
            .iter()
            .map(|m| m.side() + 2 * m.quiet())
            .max()
            .unwrap_or(1) as f64;
        let (width, height) = options.paper.size();
        let (usable_width, usable_height) = (
            width - 2.0 * options.margin_mm,
            height - 2.0 * options.margin_mm,
        );
        let unit = |symbol: f64| {
            let longest = labels.first().map_or(1.0, |l| {
                text(l).iter().map(|t| text_width(t)).fold(1.0, f64::max)
            });
            (TEXT / HEIGHT).min(symbol / longest)
        };
        let needed = |module: f64| {
            let symbol = modules * module;
            (symbol, symbol + 3.0 * LINE * HEIGHT * unit(symbol))
        };
        let (label_width, label_height) = needed(options.module_mm);
        let grid = options.grid.unwrap_or(Grid {
            columns: ((usable_width + GAP) / (label_width + GAP))
                .floor()
                .max(1.0) as usize,
            rows: ((usable_height + GAP) / (label_height + GAP))
                .floor()
                .max(1.0) as usize,
        });
        let place_width = usable_width / grid.columns as f64;
        let place_height = usable_height / grid.rows as f64;
        if label_width > place_width || label_height > place_height {
            let mut module = options.module_mm;
            while module > 0.01 {
                let (w, h) = needed(module);
                if w <= place_width && h <= place_height {
                    break;
                }
                module -= 0.01;
            }
            return Err(LabelError::TooLarge {
                width: label_width,
                height: label_height,
                place_width,
                place_height,
                module,
            });
        }
        let unit = unit(label_width);
        let mut pages = Vec::new();
        let per_page = grid.columns * grid.rows;
        for (labels, matrices) in labels.chunks(per_page).zip(matrices.chunks(per_page)) {
            let mut shapes = Vec::with_capacity(2 * labels.len());
            for (at, (label, matrix)) in labels.iter().zip(matrices).enumerate() {
                let column = (at % grid.columns) as f64;
                let row = (at / grid.columns) as f64;
                let x =
                    options.margin_mm + column * place_width + (place_width - label_width) / 2.0;
                let y =
                    options.margin_mm + row * place_height + (place_height - label_height) / 2.0;
                let quiet = (modules - matrix.side() as f64) / 2.0 * options.module_mm;
                shapes.push(Shape::Symbol {
                    x: x + quiet,
                    y: y + quiet,
                    runs: matrix.runs(),
                    outlines: matrix.outlines(),
                });
                shapes.push(strokes(&text(label), x, y + label_width, label_width, unit));
            }
            pages.push(Page { shapes });
        }
        Ok(Self {
            width,
            height,
            module: options.module_mm,
            grid,
            pages,
        })
    }
}

/// Lines of text, each in the middle of `width`.
fn strokes(text: &[String; 3], x: f64, y: f64, width: f64, unit: f64) -> Shape {
    let mut out = Vec::new();
    let mut top = 0.0;
    for line in text {
        let mut left = (width / unit - text_width(line)) / 2.0;
        for c in line.chars() {
            out.extend(lines(c).map(|points| {
                points
                    .into_iter()
                    .map(|(x, y)| (x + left, y + top))
                    .collect()
            }));
            left += ADVANCE;
        }
        top += LINE * HEIGHT;
    }
    Shape::Strokes {
        x,
        y,
        unit,
        breadth: STROKE,
        lines: out,
    }
}
