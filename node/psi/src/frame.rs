//! What all computations' frames share: a type byte, a 32-bit length and that many bytes; fields are read from the front, and
//! nothing may be left.

use crate::Error;
use crate::messages::{HEADER_BYTES, payload_len};

/// Writes the header of a frame that was begun with [`HEADER_BYTES`] of room, once its payload is whole and within `max`.
pub(crate) fn finish(mut out: Vec<u8>, kind: u8, max: usize) -> Result<Vec<u8>, Error> {
    let len = out.len().saturating_sub(HEADER_BYTES);
    if len > max {
        return Err(too_long("frame", len, max));
    }
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    if let Some((header, _)) = out.split_first_chunk_mut::<HEADER_BYTES>() {
        *header = [kind, len[0], len[1], len[2], len[3]];
    }
    Ok(out)
}

/// The type byte of a frame.
pub(crate) fn kind(frame: &[u8]) -> Result<u8, Error> {
    split(frame).map(|(header, _)| header[0])
}

/// The payload of a frame of exactly the length that its header says, which its type allows.
pub(crate) fn payload(frame: &[u8]) -> Result<&[u8], Error> {
    let (header, payload) = split(frame)?;
    let len = payload_len(header)?;
    if payload.len() < len {
        return Err(Error::Truncated {
            what: "frame",
            needed: len,
            left: payload.len(),
        });
    }
    if payload.len() > len {
        return Err(Error::Trailing {
            what: "frame",
            left: payload.len() - len,
        });
    }
    Ok(payload)
}

fn split(frame: &[u8]) -> Result<(&[u8; HEADER_BYTES], &[u8]), Error> {
    frame
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(Error::Truncated {
            what: "frame header",
            needed: HEADER_BYTES,
            left: frame.len(),
        })
}

pub(crate) fn put_bytes(
    out: &mut Vec<u8>,
    what: &'static str,
    bytes: &[u8],
    max: usize,
) -> Result<(), Error> {
    let len = u16::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() <= max)
        .ok_or_else(|| too_long(what, bytes.len(), max))?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

pub(crate) const fn too_long(what: &'static str, found: usize, max: usize) -> Error {
    Error::TooLong {
        what,
        found: found as u64,
        max: max as u64,
    }
}

pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn raw(&mut self, what: &'static str, needed: usize) -> Result<&'a [u8], Error> {
        let Some((head, tail)) = self.0.split_at_checked(needed) else {
            return Err(Error::Truncated {
                what,
                needed,
                left: self.0.len(),
            });
        };
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.raw(what, N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], Error> {
        let len = usize::from(u16::from_be_bytes(self.array(what)?));
        if len > max {
            return Err(too_long(what, len, max));
        }
        self.raw(what, len)
    }

    /// Nothing may be left behind the last field of `what`.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), Error> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(Error::Trailing { what, left }),
        }
    }
}
