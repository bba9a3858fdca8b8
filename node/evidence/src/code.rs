//! A unit code as a person gives it.

use std::fmt;
use std::str::FromStr;

use tally_codes::Serial;
use tally_codes::gs1::{DigitalLink, Gtin, LinkOptions};

/// Text that is no unit code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCodeError {
    /// GTIN, serial or link are not of their form.
    #[error(transparent)]
    Codes(#[from] tally_codes::Error),
    /// A link of something else.
    #[error("expected a link with /01/GTIN/21/SERIAL, or GTIN/SERIAL")]
    NoUnit,
}

/// A unit code: the GTIN and the serial of 20 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnitCode {
    /// The product.
    pub gtin: Gtin,
    /// The serial.
    pub serial: Serial,
}

impl FromStr for UnitCode {
    type Err = ParseCodeError;

    /// Reads the link of a QR code (GS1 Digital Link), or `GTIN/SERIAL`. Serials by Crockford's rules, in either case.
    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        if text.contains("://") {
            let link = DigitalLink::parse(text, LinkOptions::default())?;
            let gtin = link.gtin().ok_or(ParseCodeError::NoUnit)?;
            let serial = link.serial().ok_or(ParseCodeError::NoUnit)?.parse()?;
            return Ok(Self { gtin, serial });
        }
        let (gtin, serial) = text.split_once('/').ok_or(ParseCodeError::NoUnit)?;
        Ok(Self {
            gtin: gtin.parse()?,
            serial: serial.parse()?,
        })
    }
}

impl fmt::Display for UnitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.gtin, self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_in_every_form() {
        let code: UnitCode = "09521234543213/0123456789ABCDEFGHJK".parse().unwrap();
        assert_eq!(code.to_string(), "09521234543213/0123456789ABCDEFGHJK");
        for text in [
            "HTTPS://ID.T.CN/01/09521234543213/21/0123456789ABCDEFGHJK",
            "https://id.t.cn/01/09521234543213/10/L7/21/o123456789abcdefghjk?17=270101#x",
            "09521234543213/OI23456789ABCDEFGHJK",
        ] {
            assert_eq!(text.parse(), Ok(code), "{text}");
        }
        for text in [
            "",
            "/",
            "09521234543213",
            "09521234543214/0123456789ABCDEFGHJK",
            "9521234543213/0123456789ABCDEFGHJK",
            "09521234543213/0123456789ABCDEFGHJ",
            "09521234543213/0123456789ABCDEFGHJU",
            "https://id.t.cn/01/09521234543213",
            "https://id.t.cn/01/09521234543213/21/short",
        ] {
            assert!(text.parse::<UnitCode>().is_err(), "{text}");
        }
    }
}
