//! Idempotency keys: which request was answered by which scan.

use tally_contracts::codec::{Canonical, CodecError, Reader, Writer};

use super::table::{Kind, Row, RowKey};

/// Keyed hashes, under the node's own secret, of an idempotency key and of the request that came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUse {
    pub(super) key: [u8; 16],
    pub(super) request: [u8; 16],
}

impl Canonical for KeyUse {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.key).raw(&self.request);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            key: r.array("idempotency key")?,
            request: r.array("request hash")?,
        })
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyState {
    New,
    Answered { index: u64 },
    OtherRequest,
}

impl KeyUse {
    pub(super) fn row_key(&self) -> RowKey {
        RowKey::new(Kind::Request, &self.key)
    }

    /// Request hash, leaf and time of the scan.
    pub(super) fn row(&self, index: u64, time_ms: u64) -> Row {
        let mut w = Writer::new();
        w.raw(&self.request).u64(index).u64(time_ms);
        w.into_bytes().into()
    }

    /// What a row says of this use, `now_ms`; a row older than `max_age_ms` says nothing.
    pub(super) fn state(&self, row: &[u8], now_ms: u64, max_age_ms: u64) -> KeyState {
        let Some((request, index, time_ms)) = parse(row) else {
            return KeyState::New;
        };
        if now_ms.saturating_sub(time_ms) > max_age_ms {
            KeyState::New
        } else if request == self.request {
            KeyState::Answered { index }
        } else {
            KeyState::OtherRequest
        }
    }
}

fn parse(row: &[u8]) -> Option<([u8; 16], u64, u64)> {
    let (request, rest) = row.split_first_chunk::<16>()?;
    let (index, rest) = rest.split_first_chunk::<8>()?;
    let (time, _) = rest.split_first_chunk::<8>()?;
    Some((
        *request,
        u64::from_be_bytes(*index),
        u64::from_be_bytes(*time),
    ))
}

/// The time in a row, in POSIX milliseconds.
pub(super) fn time_of(row: &[u8]) -> Option<u64> {
    parse(row).map(|(_, _, time)| time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_answers_its_own_request_until_it_is_old() {
        let used = |request| KeyUse {
            key: [1; 16],
            request: [request; 16],
        };
        let row = used(1).row(10, 1_000);
        assert_eq!(time_of(&row), Some(1_000));
        let state = |request, now| used(request).state(&row, now, 100);
        assert_eq!(state(1, 1_100), KeyState::Answered { index: 10 });
        assert_eq!(state(2, 1_100), KeyState::OtherRequest);
        assert_eq!(state(1, 1_101), KeyState::New);
        // The clock went back.
        assert_eq!(state(1, 900), KeyState::Answered { index: 10 });
        assert_eq!(used(1).state(&row[..20], 0, 1), KeyState::New);
    }
}
