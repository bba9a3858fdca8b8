//! Malachite behind an engine-neutral border.
