//! A QR symbol and how it is drawn.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Luma};
use qrcode::render::{svg, unicode};
use qrcode::{EcLevel, QrCode};

use crate::Error;

/// Largest text, in bytes.
pub const MAX_TEXT: usize = 512;

/// A symbol.
pub struct Symbol(QrCode);

impl Symbol {
    /// Of `text`, in alphanumeric mode as far as it goes: upper-case letters, digits and `$%*+-./:` and space take 5.5 bits each.
    ///
    /// # Errors
    /// [`Error::Qr`] if the text is empty or too long.
    pub fn of(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(Error::Qr {
                what: format!("text of {} bytes, expected 1 to {MAX_TEXT}", text.len()),
            });
        }
        QrCode::with_error_correction_level(text, EcLevel::M)
            .map(Self)
            .map_err(|e| Error::Qr {
                what: e.to_string(),
            })
    }

    /// Modules a side, without the quiet zone.
    #[must_use]
    pub fn modules(&self) -> usize {
        self.0.width()
    }

    /// The modules from the upper left, row by row.
    pub(crate) fn colors(&self) -> Vec<qrcode::Color> {
        self.0.to_colors()
    }

    /// A scalable drawing with its quiet zone of four modules.
    #[must_use]
    pub fn to_svg(&self) -> String {
        self.0
            .render::<svg::Color<'_>>()
            .min_dimensions(200, 200)
            .build()
    }

    /// A grey PNG with its quiet zone; `module_pixels` is 1 to 64.
    ///
    /// # Errors
    /// [`Error::Range`], [`Error::Qr`].
    pub fn to_png(&self, module_pixels: u32) -> Result<Vec<u8>, Error> {
        if !(1..=64).contains(&module_pixels) {
            return Err(Error::Range {
                what: "pixels per module",
                found: module_pixels.into(),
                min: 1,
                max: 64,
            });
        }
        let image = self
            .0
            .render::<Luma<u8>>()
            .module_dimensions(module_pixels, module_pixels)
            .build();
        let mut out = Vec::new();
        PngEncoder::new(&mut out)
            .write_image(
                image.as_raw(),
                image.width(),
                image.height(),
                ExtendedColorType::L8,
            )
            .map_err(|e| Error::Qr {
                what: e.to_string(),
            })?;
        Ok(out)
    }

    /// Lines of half blocks for a dark terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0
            .render::<unicode::Dense1x2>()
            .dark_color(unicode::Dense1x2::Light)
            .light_color(unicode::Dense1x2::Dark)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CAPACITY_M, version_for};
    use super::*;

    #[test]
    fn versions_are_those_of_the_table() {
        for (i, capacity) in CAPACITY_M.iter().enumerate() {
            let full = "A".repeat(*capacity);
            let version = i + 1;
            assert_eq!(version_for(*capacity), u8::try_from(version).ok());
            assert_eq!(Symbol::of(&full).unwrap().modules(), 17 + 4 * version);
            assert_eq!(
                Symbol::of(&format!("{full}A")).unwrap().modules(),
                21 + 4 * version
            );
        }
        assert_eq!(version_for(312), None);
    }

    #[test]
    fn a_unit_code_is_drawn_in_three_ways() {
        let symbol =
            Symbol::of("HTTPS://T.EXAMPLE/01/09521234543213/21/0123456789ABCDEFGHJK").unwrap();
        assert_eq!(symbol.modules(), 29);
        let svg = symbol.to_svg();
        assert!(svg.contains("<svg") && svg.ends_with("</svg>"));
        let png = symbol.to_png(4).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
        let image = image::load_from_memory(&png).unwrap().into_luma8();
        assert_eq!(image.dimensions(), ((29 + 8) * 4, (29 + 8) * 4));
        // The upper left finder pattern begins after the quiet zone, and the quiet zone is light.
        assert_eq!(
            (image.get_pixel(16, 16).0, image.get_pixel(15, 15).0),
            ([0], [255])
        );
        assert_eq!(symbol.to_text().lines().count(), (29_usize + 8).div_ceil(2));
        assert!(symbol.to_png(0).is_err() && symbol.to_png(65).is_err());
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert!(Symbol::of("").is_err());
        assert!(Symbol::of(&"A".repeat(MAX_TEXT)).is_ok());
        assert!(Symbol::of(&"A".repeat(MAX_TEXT + 1)).is_err());
    }
}
