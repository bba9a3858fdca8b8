//! Fuzz targets: one for each family of things that read bytes from outside. Each has a function that takes any bytes and
//! panics where a property is broken, and one that makes its seeds from real encodings.
//!
//! The binaries of this package are one of these functions each, in libFuzzer's loop; `make-seeds` writes `seeds/`. See
//! `docs/testing.md`.

pub mod apply;
pub mod codes;
pub mod consensus;
pub mod contracts;
pub mod evidence;
pub mod files;
pub mod gateway;
pub mod ledger;
pub mod match_stream;
pub mod measure;
pub mod merkle;
pub mod node;
pub mod overlap;
pub mod proofs;
pub mod psi;
pub mod sealed;
pub mod snapshot;
pub mod sum;
pub mod swarm;

mod bytes;
mod stream;

/// One body of each kind, of the same tests.
#[path = "../../../contracts/tests/common/bodies.rs"]
mod bodies;
/// The network of the contracts' own tests.
#[path = "../../../contracts/tests/common/mod.rs"]
#[allow(missing_docs, unreachable_pub)]
mod net;

/// Seeds by name.
pub type Seeds = Vec<(String, Vec<u8>)>;

/// A target: its name, what it does with bytes, and its seeds.
pub struct Target {
    /// Name of its binary and of its folder of seeds.
    pub name: &'static str,
    /// Takes any bytes; panics where a property is broken.
    pub run: fn(&[u8]),
    /// Makes the seeds.
    pub seeds: fn() -> Seeds,
}

macro_rules! targets {
    ($($name:literal $run:path, $seeds:path;)+) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target { name: $name, run: $run, seeds: $seeds }),+];
    };
}

targets! {
    "apply" apply::run, apply::seeds;
    "codes" codes::run, codes::seeds;
    "consensus" consensus::run, consensus::seeds;
    "contracts" contracts::run, contracts::seeds;
    "evidence" evidence::run, evidence::seeds;
    "files" files::run, files::seeds;
    "gateway" gateway::run, gateway::seeds;
    "ledger" ledger::run, ledger::seeds;
    "match-stream" match_stream::run, match_stream::seeds;
    "measure" measure::run, measure::seeds;
    "merkle" merkle::run, merkle::seeds;
    "node" node::run, node::seeds;
    "overlap" overlap::run, overlap::seeds;
    "overlap-machine" overlap::run_machine, overlap::machine_seeds;
    "proofs" proofs::run, proofs::seeds;
    "psi" psi::run, psi::seeds;
    "psi-machine" psi::run_machine, psi::machine_seeds;
    "sealed" sealed::run, sealed::seeds;
    "snapshot" snapshot::run, snapshot::seeds;
    "sum" sum::run, sum::seeds;
    "sum-machine" sum::run_machine, sum::machine_seeds;
    "swarm" swarm::run, swarm::seeds;
    "vole-machine" psi::run_vole, psi::vole_seeds;
}

/// What libFuzzer calls, in a binary of one target.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        /// Called once: a panic anywhere, also on another thread or one that is caught, ends the process, which is what
        /// libFuzzer takes for a finding.
        #[unsafe(no_mangle)]
        extern "C" fn LLVMFuzzerInitialize(
            _: *const std::ffi::c_int,
            _: *const *const *const std::ffi::c_char,
        ) -> std::ffi::c_int {
            let print = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                print(info);
                std::process::abort();
            }));
            0
        }

        /// Called with every input.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn LLVMFuzzerTestOneInput(
            data: *const u8,
            size: usize,
        ) -> std::ffi::c_int {
            let bytes = if size == 0 {
                &[]
            } else {
                // SAFETY: libFuzzer hands over `size` bytes that stay as they are for the length of this call.
                unsafe { std::slice::from_raw_parts(data, size) }
            };
            $run(bytes);
            0
        }
    };
}

/// Seeds with names that need no allocation at the caller's.
fn named<N: Into<String>, B: Into<Vec<u8>>>(seeds: impl IntoIterator<Item = (N, B)>) -> Seeds {
    seeds
        .into_iter()
        .map(|(name, bytes)| (name.into(), bytes.into()))
        .collect()
}

/// What a decoder took, it must write back byte for byte.
#[track_caller]
fn same(what: &str, bytes: &[u8], again: &[u8]) {
    assert!(
        bytes == again,
        "{what}: read and written again, it is another"
    );
}
