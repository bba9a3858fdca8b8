//! Whole-system scenarios, faults and vectors.
