//! Blocks on disk, the state store, and the proofs served from them.
