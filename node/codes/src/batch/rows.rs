//! Rows for printers: which there are, what they look like, and making them without trees.
//!
//! Outer codes and claim codes are rows apart, in the same order, so that they can go to different machines and different people.
//! All rows of one kind and batch have one length.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use zeroize::Zeroizing;

use super::bulk::Scratch;
use super::derive::Deriver;
use super::levels::CHUNK;
use crate::Error;
use crate::gs1::{Gtin, UrlBase};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowFormat {
    /// Fields with commas between them, after a line with their names (RFC 4180, LF).
    Csv,
    /// A JSON object in each line.
    Jsonl,
}

impl RowFormat {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }

    /// The first line of a file of outer codes, LF included; empty if there is none.
    #[must_use]
    pub const fn outer_header(self) -> &'static str {
        match self {
            Self::Csv => "url,serial\n",
            Self::Jsonl => "",
        }
    }

    /// The first line of a file of claim codes, LF included; empty if there is none.
    #[must_use]
    pub const fn claims_header(self) -> &'static str {
        match self {
            Self::Csv => "serial,claim_code\n",
            Self::Jsonl => "",
        }
    }
}

impl fmt::Display for RowFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RowFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(Error::RowFormat),
        }
    }
}

/// Which rows are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowForms {
    format: RowFormat,
    base: Option<UrlBase>,
    claims: bool,
}

impl RowForms {
    /// No rows at all.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            format: RowFormat::Csv,
            base: None,
            claims: false,
        }
    }

    /// Rows of outer codes, their links beginning with `base`.
    #[must_use]
    pub const fn outer(format: RowFormat, base: UrlBase) -> Self {
        Self {
            format,
            base: Some(base),
            claims: false,
        }
    }

    /// Rows of claim codes alone.
    #[must_use]
    pub const fn claims(format: RowFormat) -> Self {
        Self {
            format,
            base: None,
            claims: true,
        }
    }

    /// Rows of claim codes besides, if wanted.
    #[must_use]
    pub const fn with_claims(mut self, wanted: bool) -> Self {
        self.claims = wanted;
        self
    }

    /// The format.
    #[must_use]
    pub const fn format(&self) -> RowFormat {
        self.format
    }

    /// Whether there are rows of claim codes.
    #[must_use]
    pub const fn has_claims(&self) -> bool {
        self.claims
    }

    /// Bytes of a row of outer codes, LF included; 0 without them.
    #[must_use]
    pub fn outer_len(&self) -> usize {
        // Every GTIN has as many digits.
        self.base
            .as_ref()
            .map_or(0, |base| Row::outer(self.format, base, None).len())
    }

    pub(super) fn rows(&self, gtin: &Gtin) -> [Option<Row>; 2] {
        [
            self.base
                .as_ref()
                .map(|base| Row::outer(self.format, base, Some(gtin))),
            self.claims.then(|| Row::claims(self.format)),
        ]
    }
}

/// Rows of some units. Secret: wiped when dropped. To be used again from step to step.
#[derive(Default)]
pub struct RowBuffers {
    /// Of outer codes.
    pub outer: Zeroizing<Vec<u8>>,
    /// Of claim codes.
    pub claims: Zeroizing<Vec<u8>>,
}

/// What stands in each row, and where the unit's own characters go.
pub(super) struct Row {
    template: Vec<u8>,
    serials: [Option<usize>; 2],
    claim: Option<usize>,
}

const SERIAL: &[u8; 20] = &[b'0'; 20];

impl Row {
    fn outer(format: RowFormat, base: &UrlBase, gtin: Option<&Gtin>) -> Self {
        let mut template = Vec::with_capacity(base.url_len() + 64);
        let (before, between, after): (&str, &str, &str) = match format {
            RowFormat::Csv => ("", ",", "\n"),
            RowFormat::Jsonl => ("{\"url\":\"", "\",\"serial\":\"", "\"}\n"),
        };
        template.extend_from_slice(before.as_bytes());
        match gtin {
            Some(gtin) => base.write_url(&mut template, gtin, SERIAL),
            None => template.resize(template.len() + base.url_len(), b'0'),
        }
        let first = before.len() + base.serial_at();
        template.extend_from_slice(between.as_bytes());
        let second = template.len();
        template.extend_from_slice(SERIAL);
        template.extend_from_slice(after.as_bytes());
        Self {
            template,
            serials: [Some(first), Some(second)],
            claim: None,
        }
    }

    fn claims(format: RowFormat) -> Self {
        let (before, between, after): (&str, &str, &str) = match format {
            RowFormat::Csv => ("", ",", "\n"),
            RowFormat::Jsonl => ("{\"serial\":\"", "\",\"claim_code\":\"", "\"}\n"),
        };
        let serial = before.len();
        let mut template = [before.as_bytes(), SERIAL, between.as_bytes()].concat();
        let claim = template.len();
        template.extend_from_slice(b"....-....-.....");
        template.extend_from_slice(after.as_bytes());
        Self {
            template,
            serials: [Some(serial), None],
            claim: Some(claim),
        }
    }

    /// Bytes of a row.
    pub(super) const fn len(&self) -> usize {
        self.template.len()
    }

    /// Writes a row to `out`, which has its length.
    fn write(&self, out: &mut [u8], serial: &[u8; 20], claim: &[u8; 12], check: u8) {
        out.copy_from_slice(&self.template);
        let mut put = |at: usize, text: &[u8]| {
            if let Some(to) = out.get_mut(at..at + text.len()) {
                to.copy_from_slice(text);
            }
        };
        for at in self.serials.into_iter().flatten() {
            put(at, serial);
        }
        if let Some(at) = self.claim {
            let [a, b, c, d, e, f, g, h, rest @ ..] = claim;
            put(at, &[*a, *b, *c, *d]);
            put(at + 5, &[*e, *f, *g, *h]);
            put(at + 10, rest);
            put(at + 14, &[check]);
        }
    }
}

/// Where the rows of one chunk go.
#[derive(Default)]
pub(super) struct ChunkRows<'a>([Option<(&'a Row, &'a mut [u8])>; 2]);

impl<'a> ChunkRows<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Writes the next row of each kind.
    pub(super) fn write(&mut self, serial: &[u8; 20], claim: &[u8; 12], check: u8) {
        for slot in &mut self.0 {
            let Some((row, rest)) = slot.take() else {
                continue;
            };
            if let Some((to, rest)) = rest.split_at_mut_checked(row.len()) {
                row.write(to, serial, claim, check);
                *slot = Some((row, rest));
            }
        }
    }
}

/// Cuts the buffers into the rows of each chunk from `start` to `end`, after giving them their lengths.
pub(super) fn chunk_rows<'a>(
    rows: &'a [Option<Row>; 2],
    buffers: &'a mut RowBuffers,
    total: u64,
    (start, end): (u64, u64),
) -> Vec<ChunkRows<'a>> {
    let units = (end.saturating_mul(CHUNK))
        .min(total)
        .saturating_sub(start.saturating_mul(CHUNK));
    let RowBuffers { outer, claims } = buffers;
    let mut out: Vec<ChunkRows<'a>> = Vec::new();
    out.resize_with(
        usize::try_from(end.saturating_sub(start)).unwrap_or_default(),
        ChunkRows::default,
    );
    for ((kind, row), buffer) in rows.iter().enumerate().zip([outer, claims]) {
        let length = row.as_ref().map_or(0, Row::len);
        let bytes = usize::try_from(units).map_or(0, |n| n.saturating_mul(length));
        if buffer.capacity() < bytes {
            // A vector that grows leaves its old bytes behind unwiped; so this one is new.
            *buffer = Zeroizing::new(Vec::with_capacity(bytes));
        }
        buffer.resize(bytes, 0);
        let Some(row) = row else { continue };
        let parts = buffer.chunks_mut(256 * length);
        for (chunk, part) in out.iter_mut().zip(parts) {
            if let Some(slot) = chunk.0.get_mut(kind) {
                *slot = Some((row, part));
            }
        }
    }
    out
}

/// Makes rows of a batch without its trees: to print it again, or to encrypt its claim codes again.
pub struct BatchRows<'a> {
    deriver: &'a Deriver,
    rows: [Option<Row>; 2],
    next: u64,
    end: u64,
}

/// Chunks worked on between two calls: 16,384 units.
pub(super) const WINDOW: u64 = 64;

impl<'a> BatchRows<'a> {
    /// For the first `chunks` chunks of the batch, or all of them if it has fewer.
    #[must_use]
    pub fn new(deriver: &'a Deriver, forms: &RowForms, chunks: u64) -> Self {
        let spec = deriver.spec();
        Self {
            deriver,
            rows: forms.rows(spec.gtin()),
            next: 0,
            end: spec.count().div_ceil(CHUNK).min(chunks),
        }
    }

    /// Units made so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.next
            .saturating_mul(CHUNK)
            .min(self.deriver.spec().count())
    }

    /// Units in all, of the chunks that are wanted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.end
            .saturating_mul(CHUNK)
            .min(self.deriver.spec().count())
    }

    /// Makes the next rows, as [`BatchBuild::next_rows`](super::BatchBuild::next_rows) does.
    pub fn next_rows(&mut self, buffers: &mut RowBuffers) -> bool {
        if self.next >= self.end {
            buffers.outer.clear();
            buffers.claims.clear();
            return false;
        }
        let end = self.next.saturating_add(WINDOW).min(self.end);
        let (start, deriver) = (self.next, self.deriver);
        chunk_rows(&self.rows, buffers, deriver.spec().count(), (start, end))
            .into_par_iter()
            .enumerate()
            .for_each_init(Scratch::new, |scratch, (at, rows)| {
                deriver.unit_rows(start + at as u64, rows, scratch);
            });
        self.next = end;
        true
    }
}
