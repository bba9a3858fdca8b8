//! Private set intersection engines, without any input or output of their own.
