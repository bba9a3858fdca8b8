//! The canonical codec of everything that is hashed or signed: fixed big-endian integers, explicit lengths, nothing optional
//! in the form. `decode` consumes every byte; every length is checked against a bound before anything is allocated.

/// Why bytes are not the canonical form of what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end before the value does.
    #[error("{what}: {needed} bytes needed, {left} left")]
    Truncated {
        /// The field being read.
        what: &'static str,
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes are left after the value.
    #[error("{left} bytes left after the end")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// A length or count is over its bound.
    #[error("{what}: length {found} is over the limit of {max}")]
    TooLong {
        /// The field being read.
        what: &'static str,
        /// The length found.
        found: usize,
        /// The largest length allowed.
        max: usize,
    },
    /// A byte or number that names nothing, or is not in canonical form.
    #[error("{what}: value {found} is not valid")]
    Invalid {
        /// The field being read.
        what: &'static str,
        /// The value found.
        found: u64,
    },
    /// Text that is not UTF-8, or has control characters.
    #[error("{what}: not plain UTF-8 text")]
    Text {
        /// The field being read.
        what: &'static str,
    },
}

/// A value with exactly one byte form.
pub trait Canonical: Sized {
    /// Appends the bytes.
    fn write(&self, w: &mut Writer);

    /// Reads the value from the start of what is left.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are not the canonical form.
    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError>;

    /// The bytes.
    #[must_use]
    fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.into_bytes()
    }

    /// Decodes the bytes, all of them.
    ///
    /// # Errors
    /// [`CodecError`] for any other bytes.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut r = Reader::new(bytes);
        let value = Self::read(&mut r)?;
        r.finish()?;
        Ok(value)
    }
}

/// Appends canonical bytes to a buffer.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    buf: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.buf
    }

    /// Appends one byte.
    pub fn u8(&mut self, v: u8) -> &mut Self {
        self.buf.push(v);
        self
    }

    /// Appends a big-endian 16-bit number.
    pub fn u16(&mut self, v: u16) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }

    /// Appends a big-endian 32-bit number.
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }

    /// Appends a big-endian 64-bit number.
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }

    /// Appends a byte 0 or 1.
    pub fn bool(&mut self, v: bool) -> &mut Self {
        self.u8(u8::from(v))
    }

    /// Appends bytes of a length that the format fixes.
    pub fn raw(&mut self, v: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(v);
        self
    }

    /// Appends a 32-bit length and that many bytes.
    ///
    /// # Panics
    /// Never in practice: a value over 4 GiB cannot be built under the bounds of any format here.
    pub fn bytes(&mut self, v: &[u8]) -> &mut Self {
        let len = u32::try_from(v.len()).unwrap_or(u32::MAX);
        debug_assert_ne!(len, u32::MAX);
        self.u32(len).raw(v)
    }

    /// Appends UTF-8 text as [`Self::bytes`].
    pub fn text(&mut self, v: &str) -> &mut Self {
        self.bytes(v.as_bytes())
    }

    /// Appends a 32-bit count and each item.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
        for item in items {
            each(self, item);
        }
        self
    }
}

/// Reads canonical bytes; never panics, never allocates past the bound given for a field.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`CodecError::Trailing`] if bytes are left.
    pub const fn finish(self) -> Result<(), CodecError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(CodecError::Trailing {
                left: self.rest.len(),
            })
        }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn raw(&mut self, what: &'static str, n: usize) -> Result<&'a [u8], CodecError> {
        let Some((head, tail)) = self.rest.split_at_checked(n) else {
            return Err(CodecError::Truncated {
                what,
                needed: n,
                left: self.rest.len(),
            });
        };
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CodecError> {
        let mut out = [0; N];
        out.copy_from_slice(self.raw(what, N)?);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// A big-endian 16-bit number.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, CodecError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// A big-endian 32-bit number.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// A big-endian 64-bit number.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// A byte that must be 0 or 1.
    ///
    /// # Errors
    /// [`CodecError::Invalid`] for any other byte.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, CodecError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(CodecError::Invalid {
                what,
                found: found.into(),
            }),
        }
    }

    /// A count or length of at most `max`.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, CodecError> {
        let n = self.u32(what)? as usize;
        if n > max {
            Err(CodecError::TooLong {
                what,
                found: n,
                max,
            })
        } else {
            Ok(n)
        }
    }

    /// A version byte that must be `expected`.
    ///
    /// # Errors
    /// [`CodecError::Invalid`] for any other version.
    pub fn version(&mut self, what: &'static str, expected: u8) -> Result<(), CodecError> {
        let found = self.u8(what)?;
        if found == expected {
            Ok(())
        } else {
            Err(CodecError::Invalid {
                what,
                found: found.into(),
            })
        }
    }

    /// Length-prefixed bytes, at most `max` of them.
    ///
    /// # Errors
    /// [`CodecError::TooLong`], [`CodecError::Truncated`].
    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], CodecError> {
        let n = self.count(what, max)?;
        self.raw(what, n)
    }

    /// Length-prefixed UTF-8 text of at most `max` bytes without control characters.
    ///
    /// # Errors
    /// [`CodecError::Text`], [`CodecError::TooLong`], [`CodecError::Truncated`].
    pub fn text(&mut self, what: &'static str, max: usize) -> Result<String, CodecError> {
        let text =
            std::str::from_utf8(self.bytes(what, max)?).map_err(|_| CodecError::Text { what })?;
        if text.chars().any(char::is_control) {
            return Err(CodecError::Text { what });
        }
        Ok(text.to_owned())
    }

    /// A counted list of at most `max` items. Memory grows with the bytes present, not with the count claimed.
    ///
    /// # Errors
    /// [`CodecError::TooLong`], and whatever reading an item gives.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        max: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let n = self.count(what, max)?;
        let mut out = Vec::with_capacity(n.min(self.left()));
        for _ in 0..n {
            out.push(each(self)?);
        }
        Ok(out)
    }
}
