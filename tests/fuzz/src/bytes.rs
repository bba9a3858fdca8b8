//! Takes an input apart into small numbers and pieces; past its end everything is zero or empty.

/// What is left of an input.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        piece
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn u64(&mut self) -> u64 {
        (0..8).fold(0, |n, _| n << 8 | u64::from(self.u8()))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u8())
    }

    /// A piece behind its length of two bytes.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let n = self.u16();
        self.take(n.into())
    }
}

/// Puts a piece behind its length.
pub(crate) fn put_piece(out: &mut Vec<u8>, piece: &[u8]) {
    out.extend(
        u16::try_from(piece.len())
            .expect("a small piece")
            .to_be_bytes(),
    );
    out.extend(piece);
}
