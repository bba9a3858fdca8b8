//! Nothing: `../run` takes the archive of libFuzzer from the build of the one dependency.
