//! What every member agrees on: records, rules and state; pure and deterministic.
//!
//! In scope: the canonical codec, envelopes and their signatures, blocks, the contracts (`apply`), the state tree and its
//! proofs. Out of scope: files, sockets, clocks, randomness, consensus. Formats are described in `docs/formats.md`.

pub mod block;
pub mod codec;
pub mod domains;
pub mod ids;
