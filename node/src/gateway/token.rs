//! Names one press of one page's button, so that pressing it twice or reloading counts once.

use rand_core::{OsRng, RngCore};
use subtle::ConstantTimeEq;

use super::router::Gateway;
use crate::scans::ScannedCode;

/// How long the button of a page works; after that the page shows itself anew.
const TOKEN_LIFE_MS: u64 = 12 * 3600 * 1000;

impl Gateway {
    fn token_mac(&self, random: &str, time: &str, code: &ScannedCode) -> String {
        hex::encode(self.service.log().pseudonym(&[
            b"page",
            random.as_bytes(),
            time.as_bytes(),
            &code.hash().0,
        ]))
    }

    /// A token for a code's page.
    pub(super) fn token(&self, code: &ScannedCode) -> String {
        let mut random = [0; 16];
        OsRng.fill_bytes(&mut random);
        let random = hex::encode(random);
        let time = format!("{:016x}", self.service.now_ms());
        let mac = self.token_mac(&random, &time, code);
        format!("{random}.{time}.{mac}")
    }

    /// Whether a page of this code, of this node and not too old, has the token.
    pub(super) fn is_valid_token(&self, token: &str, code: &ScannedCode) -> bool {
        let mut parts = token.split('.');
        let (Some(random), Some(time), Some(mac), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let expected = self.token_mac(random, time, code);
        let age = u64::from_str_radix(time, 16)
            .map(|made| self.service.now_ms().saturating_sub(made))
            .unwrap_or(u64::MAX);
        bool::from(expected.as_bytes().ct_eq(mac.as_bytes())) && age < TOKEN_LIFE_MS
    }
}
