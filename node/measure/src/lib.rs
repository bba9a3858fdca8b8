//! Audiences in, identifier normalisation, attribution.
