//! Links libFuzzer, which `run` built and whose folder it names: its main function for the targets, and for all binaries what
//! the counters of the instrumented crates report to.

fn main() {
    println!("cargo::rerun-if-env-changed=TALLY_LIBFUZZER");
    match std::env::var("TALLY_LIBFUZZER") {
        Ok(folder) => println!("cargo::rustc-link-search=native={folder}"),
        Err(_) => println!(
            "cargo::error=build this by tests/fuzz/run, which names the folder of libfuzzer.a in TALLY_LIBFUZZER"
        ),
    }
    println!("cargo::rustc-link-lib=static=fuzzer");
    println!("cargo::rustc-link-lib=stdc++");
    // rustc keeps whole sections that have a start symbol, and with the counters' every instrumented function: a target would
    // carry, clear and scan those of all others.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,start-stop-gc");
}
