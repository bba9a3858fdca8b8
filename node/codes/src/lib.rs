//! Unit codes, batches, GS1 Digital Link and QR.
