//! Two-dimensional symbols as modules, for whoever draws them: QR (ISO/IEC 18004) and Data Matrix ECC 200 (ISO/IEC 16022).

use std::collections::BTreeMap;

use datamatrix::{DataMatrix, SymbolList};
use qrcode::Color;

use crate::Error;
use crate::gs1::Gtin;
use crate::qr::Symbol;
use crate::unit::Serial;

/// Light modules that a QR symbol needs on every side.
const QR_QUIET: usize = 4;
/// Light modules that a Data Matrix symbol needs on every side; the standard asks for one, readers are better with two.
const DATA_MATRIX_QUIET: usize = 2;

/// A square symbol: dark and light modules.
#[derive(Clone, PartialEq, Eq)]
pub struct Matrix {
    side: usize,
    quiet: usize,
    dark: Vec<bool>,
}

impl Matrix {
    /// A QR symbol of the text at level M.
    ///
    /// # Errors
    /// [`Error::Qr`].
    pub fn qr(text: &str) -> Result<Self, Error> {
        let symbol = Symbol::of(text)?;
        Ok(Self {
            side: symbol.modules(),
            quiet: QR_QUIET,
            dark: symbol
                .colors()
                .into_iter()
                .map(|c| c == Color::Dark)
                .collect(),
        })
    }

    /// A Data Matrix symbol of the text, as a phone reads it.
    ///
    /// # Errors
    /// [`Error::DataMatrix`] if the text is empty, is not ASCII or does not fit.
    pub fn data_matrix(text: &str) -> Result<Self, Error> {
        if text.is_empty() || !text.is_ascii() {
            return Err(Error::DataMatrix {
                what: "expected ASCII text".to_owned(),
            });
        }
        Self::of(DataMatrix::encode(text.as_bytes(), squares()))
    }

    /// A GS1 Data Matrix symbol of a unit: FNC1, then AI (01) and (21). Warehouses and pharmacies read it; it is no link.
    ///
    /// # Errors
    /// [`Error::DataMatrix`].
    pub fn gs1_data_matrix(gtin: &Gtin, serial: Serial) -> Result<Self, Error> {
        let text = format!("01{gtin}21{serial}");
        Self::of(DataMatrix::encode_gs1(text.as_bytes(), squares()))
    }

    fn of<E: std::fmt::Debug>(made: Result<DataMatrix, E>) -> Result<Self, Error> {
        let made = made.map_err(|e| Error::DataMatrix {
            what: format!("{e:?}"),
        })?;
        let bitmap = made.bitmap();
        if bitmap.width() != bitmap.height() {
            return Err(Error::Internal {
                what: "a symbol that is no square",
            });
        }
        let side = bitmap.width();
        let mut dark = vec![false; side * side];
        for (x, y) in bitmap.pixels() {
            if let Some(module) = dark.get_mut(y * side + x) {
                *module = true;
            }
        }
        Ok(Self {
            side,
            quiet: DATA_MATRIX_QUIET,
            dark,
        })
    }

    /// Modules a side, without the quiet zone.
    #[must_use]
    pub const fn side(&self) -> usize {
        self.side
    }

    /// Light modules that must be left on every side.
    #[must_use]
    pub const fn quiet(&self) -> usize {
        self.quiet
    }

    fn is_dark(&self, x: usize, y: usize) -> bool {
        x < self.side && y < self.side && self.dark.get(y * self.side + x) == Some(&true)
    }

    /// The borders of the dark parts, as closed lines of corners, to be filled by the even-odd rule. No two lines run along each
    /// other, so no viewer draws a seam between two modules.
    #[must_use]
    pub fn outlines(&self) -> Vec<Vec<(u16, u16)>> {
        // Every border between dark and light once, the dark on its right.
        let mut from: BTreeMap<(u16, u16), Vec<(u16, u16)>> = BTreeMap::new();
        let place = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        for y in 0..self.side {
            for x in 0..self.side {
                if !self.is_dark(x, y) {
                    continue;
                }
                let (left, top, right, bottom) = (place(x), place(y), place(x + 1), place(y + 1));
                for (neighbour, a, b) in [
                    (y > 0 && self.is_dark(x, y - 1), (left, top), (right, top)),
                    (self.is_dark(x + 1, y), (right, top), (right, bottom)),
                    (self.is_dark(x, y + 1), (right, bottom), (left, bottom)),
                    (x > 0 && self.is_dark(x - 1, y), (left, bottom), (left, top)),
                ] {
                    if !neighbour {
                        from.entry(a).or_default().push(b);
                    }
                }
            }
        }
        let mut out = Vec::new();
        while let Some((&start, _)) = from.first_key_value() {
            let mut line = vec![start];
            let mut at = start;
            // As many borders end at a corner as begin there, so every walk comes back.
            while let Some(ends) = from.get_mut(&at) {
                let next = ends.pop();
                if ends.is_empty() {
                    from.remove(&at);
                }
                let Some(next) = next else { break };
                if next == start {
                    break;
                }
                line.push(next);
                at = next;
            }
            out.push(corners(&line));
        }
        out
    }

    /// Dark modules in a row, as `(x, y, length)`, from the upper left, each as long as it can be.
    #[must_use]
    pub fn runs(&self) -> Vec<(u16, u16, u16)> {
        let mut out = Vec::new();
        for (y, row) in (0_u16..).zip(self.dark.chunks(self.side.max(1))) {
            let mut x = 0_u16;
            for part in row.chunk_by(|a, b| a == b) {
                // The largest symbols have 177 modules a side.
                let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
                if part.first() == Some(&true) {
                    out.push((x, y, length));
                }
                x = x.saturating_add(length);
            }
        }
        out
    }
}

/// The points of a closed line at which it turns.
fn corners(line: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let before = line.iter().cycle().skip(line.len().saturating_sub(1));
    let after = line.iter().cycle().skip(1);
    line.iter()
        .zip(before)
        .zip(after)
        .filter(|((at, before), after)| {
            let straight =
                (before.0 == at.0 && at.0 == after.0) || (before.1 == at.1 && at.1 == after.1);
            !straight
        })
        .map(|((at, _), _)| *at)
        .collect()
}

/// Square symbols alone: that is what labels have room for.
fn squares() -> SymbolList {
    SymbolList::default().enforce_square()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "HTTPS://T.EXAMPLE/01/09521234543213/21/0123456789ABCDEFGHJK";

    fn bits(matrix: &Matrix) -> Vec<bool> {
        let mut out = vec![false; matrix.side * matrix.side];
        for run in matrix.runs() {
            let [x, y, length] = [run.0, run.1, run.2].map(usize::from);
            out[y * matrix.side..][x..][..length].fill(true);
        }
        out
    }

    #[test]
    fn runs_are_the_dark_modules() {
        let gtin = "09521234543213".parse().unwrap();
        let all = [
            (Matrix::qr(URL).unwrap(), 29, 4),
            (Matrix::data_matrix(URL).unwrap(), 26, 2),
            (
                Matrix::gs1_data_matrix(&gtin, Serial::from_bits(7)).unwrap(),
                20,
                2,
            ),
        ];
        for (matrix, side, quiet) in all {
            assert_eq!((matrix.side(), matrix.quiet()), (side, quiet));
            assert_eq!(bits(&matrix), matrix.dark);
            // The outlines, filled by the even-odd rule: a ray to the left crosses an odd number of upright borders.
            let outlines = matrix.outlines();
            for y in 0..side {
                for x in 0..side {
                    let crossed = outlines.iter().flat_map(|line| {
                        line.iter()
                            .zip(line.iter().cycle().skip(1))
                            .filter(|(a, b)| {
                                let (top, bottom) = (a.1.min(b.1), a.1.max(b.1));
                                a.0 == b.0
                                    && usize::from(a.0) <= x
                                    && (usize::from(top)..usize::from(bottom)).contains(&y)
                            })
                    });
                    assert_eq!(crossed.count() % 2 == 1, matrix.is_dark(x, y), "{x} {y}");
                }
            }
            let runs = matrix.runs();
            assert!(
                runs.windows(2)
                    .all(|w| w[0].1 < w[1].1 || w[0].0 + w[0].2 < w[1].0),
                "none touches the next"
            );
        }
    }

    #[test]
    fn what_was_put_in_is_decoded() {
        let decoded = |matrix: &Matrix| DataMatrix::decode(&bits(matrix), matrix.side()).unwrap();
        assert_eq!(decoded(&Matrix::data_matrix(URL).unwrap()), URL.as_bytes());
        let gtin = "09521234543213".parse().unwrap();
        let unit = Matrix::gs1_data_matrix(&gtin, Serial::from_bits(7)).unwrap();
        assert_eq!(decoded(&unit), b"01095212345432132100000000000000000007");
        assert!(Matrix::data_matrix("").is_err());
        assert!(Matrix::data_matrix("ä").is_err());
        assert!(Matrix::data_matrix(&"x".repeat(4000)).is_err());
    }
}
