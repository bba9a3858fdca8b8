//! The kernels that pay for vector instructions, each with a portable twin that gives the same bytes. What runs is chosen at run
//! time, once; tests hold every kernel against its twin.
//!
//! The one module of this crate with `unsafe`: for vector loads and stores, whose bounds each kernel checks before its loop,
//! for calling a function compiled for instructions that were detected, for what a vector's bytes are, and for wiping memory by the word.

#[cfg(target_arch = "x86_64")]
mod ifma;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use crate::sorter::Row;

/// A row of the band matrix: the first column and the 128 bits from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Band {
    /// First column.
    pub(crate) start: u32,
    /// Bit j stands for column `start + j`.
    pub(crate) bits: u128,
}

/// Width of a band, in columns.
pub(crate) const BAND_COLUMNS: usize = 128;
/// Taps of the convolution that a random bit switches; the tap behind them is always on.
pub(crate) const TAPS: usize = 24;

/// Which kernels run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// Plain integer arithmetic, constant time in the values.
    Portable,
    /// Carry-less multiplication (PCLMULQDQ).
    #[cfg(target_arch = "x86_64")]
    Clmul,
    /// The same and masked 512-bit loads (AVX-512 F, VL, BMI2).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernels {
    /// The best kernels of this processor.
    pub(crate) fn detect() -> Self {
        static FOUND: OnceLock<Kernels> = OnceLock::new();
        *FOUND.get_or_init(|| Self::all().last().copied().unwrap_or(Self::Portable))
    }

    /// Every set of kernels that this processor has, the portable one first.
    pub(crate) fn all() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("pclmulqdq")
            && std::arch::is_x86_feature_detected!("sse4.1")
        {
            all.push(Self::Clmul);
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("bmi2")
            {
                all.push(Self::Avx512);
            }
        }
        all
    }

    /// Its name in figures.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Clmul => "pclmul",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
        }
    }

    /// One product alone: `a * b * x^-128` in the field of POLYVAL (RFC 8452 3). Constant time.
    pub(crate) fn dot(self, a: u128, b: u128) -> u128 {
        match self {
            Self::Portable => portable::dot(a, b),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: these variants exist only where `all` found the instructions.
            Self::Clmul | Self::Avx512 => unsafe { x86::dot(a, b) },
        }
    }

    /// Adds `factor` times each of `values` to the element of `sums` at its place; surplus elements of either are left alone.
    /// Constant time.
    pub(crate) fn add_products(self, sums: &mut [u128], factor: u128, values: &[u128]) {
        match self {
            Self::Portable => portable::add_products(sums, factor, values),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as in `dot`.
            Self::Clmul | Self::Avx512 => unsafe { x86::add_products(sums, factor, values) },
        }
    }

    /// The sum of the products of elements at equal places; surplus elements of either are left alone. Constant time.
    pub(crate) fn inner_product(self, a: &[u128], b: &[u128]) -> u128 {
        match self {
            Self::Portable => portable::inner_product(a, b),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as in `dot`.
            Self::Clmul | Self::Avx512 => unsafe { x86::inner_product(a, b) },
        }
    }

    /// For each row, the sum of the columns that its band names, into the element of `sums` at its place. A row that reaches past
    /// the end of `columns` gives zero. Not constant time in the rows.
    pub(crate) fn sum_bands(self, columns: &[u128], rows: &[Band], sums: &mut [u128]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as in `dot`.
            Self::Avx512 => unsafe { x86::sum_bands(columns, rows, sums) },
            _ => portable::sum_bands(columns, rows, sums),
        }
    }

    /// Adds to each element of `sums` the elements of `from` at the places beside it; a place that does not exist gives nothing.
    /// Constant time in the elements.
    pub(crate) fn add_places<const W: usize, const N: usize>(
        self,
        sums: &mut [[u128; W]],
        from: &[[u128; W]],
        places: &[[u32; N]],
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Clmul | Self::Avx512 => x86::add_places(sums, from, places),
            Self::Portable => portable::add_places(sums, from, places),
        }
    }

    /// One pass of the convolution over `x`, in place: for each i in order, element i is added to element i + 1 + j for each of
    /// the low [`TAPS`] bits j set in `taps[i]`, and to element i + 1 + `TAPS`; places wrap around at the end. `x` has more than
    /// `TAPS` + 1 elements and `taps` as many, or nothing happens. Constant time in `x`.
    pub(crate) fn convolve<const W: usize>(self, x: &mut [[u128; W]], taps: &[u32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as in `dot`.
            Self::Avx512 => unsafe { x86::convolve(x, taps) },
            _ => portable::convolve(x, taps),
        }
    }
}

/// A scalar below 2^255 in signed digits of base 16, lowest first, each from -8 to 8. Secret.
pub(crate) type Digits = [i8; 64];

/// The digits of a little-endian scalar below 2^255. Constant time.
pub(crate) fn digits(scalar: &Row) -> Digits {
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(scalar) {
        for (digit, nibble) in pair.iter_mut().zip([byte & 15, byte >> 4]) {
            *digit = nibble.cast_signed();
        }
    }
    let mut carry = 0;
    for digit in digits.iter_mut().take(63) {
        *digit += carry;
        carry = (*digit + 8) >> 4;
        *digit -= carry << 4;
    }
    digits[63] += carry;
    digits
}

/// Steps over ristretto255 for eight elements at a time, on processors that multiply 52 bits a lane (AVX-512 IFMA). Their twin is
/// curve25519-dalek, which gives the same bytes, one element at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Eights {
    /// Only [`Self::detect`] makes one.
    #[cfg(target_arch = "x86_64")]
    found: (),
    #[cfg(not(target_arch = "x86_64"))]
    never: std::convert::Infallible,
}

impl Eights {
    /// They, if this processor can.
    pub(crate) fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512ifma")
        {
            return Some(Self { found: () });
        }
        None
    }

    /// For each 64 uniform bytes: their element (RFC 9496 4.3.4) times twice the scalar `half`, encoded. Constant time in both.
    pub(crate) fn blind(self, uniform: &[[u8; 64]], half: &Digits) -> Vec<Row> {
        #[cfg(target_arch = "x86_64")]
        {
            let () = self.found;
            // SAFETY: `detect` found the instructions.
            unsafe { ifma::blind(uniform, half) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self.never {}
    }

    /// For each encoding: its element times twice the scalar `half`, encoded. Constant time in the scalar.
    ///
    /// # Errors
    /// The place of the first row that is the identity's or no canonical encoding (RFC 9496 4.3.1).
    pub(crate) fn raise(self, rows: &[Row], half: &Digits) -> Result<Vec<Row>, usize> {
        #[cfg(target_arch = "x86_64")]
        {
            let () = self.found;
            // SAFETY: as above.
            unsafe { ifma::raise(rows, half) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self.never {}
    }
}

/// Overwrites `bytes` with zeros, in a way that the compiler may not leave out: words where `zeroize` takes bytes, since a set of items
/// is large.
pub(crate) fn wipe(bytes: &mut [u8]) {
    // SAFETY: any 16 bytes are a `u128`, and zeros are 16 bytes.
    let (head, words, tail) = unsafe { bytes.align_to_mut::<u128>() };
    for byte in head.iter_mut().chain(tail) {
        // SAFETY: the reference is valid for writes.
        unsafe { core::ptr::write_volatile(byte, 0) };
    }
    for word in words {
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(word, 0) };
    }
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

#[cfg(test)]
mod tests;
