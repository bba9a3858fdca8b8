//! Clocks that are minutes wrong. One wrong clock stops nobody, and its node follows; two of four stop the network until they are
//! right again, and then it goes on. libfaketime, a test tool, lies to a node about the time; the product knows nothing of it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tally_tests::{Network, Observer, Plan, Scenario, skip, until};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a network without enough right clocks is watched.
const WATCHED: Duration = Duration::from_secs(4);
/// Where Debian puts the multi-threaded library.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, if it is installed.
fn library() -> Option<String> {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .iter()
        .map(|dir| Path::new(dir).join(LIBRARY))
        .find(|path| path.is_file())
        .and_then(|path| path.to_str().map(str::to_owned))
}

/// Restarts a node with its clock wrong by so many seconds; 0 sets it right.
fn set_clock(network: &mut Network, member: usize, library: &str, seconds: i64) -> Result<()> {
    let member = &mut network[member];
    member.stop()?;
    let (preload, offset) = if seconds == 0 {
        (String::new(), String::new())
    } else {
        (library.to_owned(), format!("{seconds:+}s"))
    };
    member.set_env("LD_PRELOAD", &preload);
    member.set_env("FAKETIME", &offset);
    // Only the wall clock is wrong: time does not jump for whoever measures it.
    member.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    member.set_env("DONT_FAKE_MONOTONIC", "1");
    member.start()?;
    member.wait_up(PATIENCE)
}

#[test]
fn wrong_clocks_stop_nobody_for_ever() {
    let Some(library) = library() else {
        skip("clock_skew", "libfaketime is not installed");
        return;
    };
    Scenario::run("clock-skew", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let everyone = [0, 1, 2, 3];
        let observer = Observer::start(scenario, &network, 1)?;
        observer.progress(&everyone, PATIENCE)?;
        for seconds in [240, -240] {
            set_clock(&mut network, 3, &library, seconds)?;
            let took = observer
                .progress(&everyone[..3], PATIENCE)
                .with_context(|| format!("one clock {seconds} s off"))?;
            println!("one clock {seconds} s off: the others went on after {took:?}");
            // It votes for nobody and nobody for it, but it has what was decided.
            let (height, _) = network[0].head(None)?;
            network[3].wait_height(height, PATIENCE)?;
            ensure!(
                network[3].ended().is_none(),
                "the node with the wrong clock ended"
            );
            // A block from the future is no block; its turn to propose comes within some heights. One that is late takes the time of
            // the block before it, which is right enough.
            if seconds > 0 {
                until("a block refused for its time", PATIENCE, || {
                    let refused = network[0].log().contains("from this node's clock");
                    ensure!(refused, "was the clock wrong at all?");
                    Ok(())
                })?;
            }
        }
        set_clock(&mut network, 3, &library, 0)?;
        observer.progress(&everyone, PATIENCE)?;

        set_clock(&mut network, 2, &library, 240)?;
        set_clock(&mut network, 3, &library, -300)?;
        // What both had voted for before may still be decided, and a late clock's blocks have the time of the block before, which is
        // right enough until that is older than the rules' 30 s; then two right clocks of four are no quorum.
        until("the network to stand still", 2 * PATIENCE, || {
            thread::sleep(WATCHED);
            for member in everyone {
                ensure!(
                    !observer.heard_within(member, u64::try_from(WATCHED.as_millis())?),
                    "member {member} acknowledged a record with two clocks wrong"
                );
            }
            Ok(())
        })?;
        set_clock(&mut network, 2, &library, 0)?;
        set_clock(&mut network, 3, &library, 0)?;
        let took = observer.progress(&everyone, PATIENCE)?;
        println!("two clocks right again: all went on after {took:?}");
        let report = observer.finish(&mut network)?;
        println!("{} records, height {}", report.records, report.height);
        network.stop()
    });
}
