//! One of four validators is dead: a record whose height it would have proposed waits only for a short local time-out.

use std::time::Duration;

use anyhow::ensure;
use tally_tests::{Network, Observer, Plan, Scenario};

/// How long the records are measured.
const MEASURED: Duration = Duration::from_secs(8);

/// The most that a round may cost whose proposer's connection is gone. The time that a record takes anyway is allowed twice, for a machine that is
/// not alone.
const ROUND_MS: u64 = 500;

#[test]
fn a_dead_proposer_costs_little() {
    Scenario::run_alone("absent-proposer", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let mut alive_ms = 0;
        for (first, dead) in [(1, false), (100_000, true)] {
            if dead {
                network[3].kill()?;
            }
            let observer = Observer::start(scenario, &network, first)?;
            std::thread::sleep(MEASURED);
            if dead {
                network[3].start()?;
                network[3].wait_up(Duration::from_secs(30))?;
            }
            let report = observer.finish(&mut network)?;
            println!(
                "{}: {} records, p50 {} ms, p90 {} ms, p99 {} ms, slowest {} ms",
                if dead { "one dead" } else { "all alive" },
                report.records,
                report.percentile_ms(50),
                report.percentile_ms(90),
                report.percentile_ms(99),
                report.percentile_ms(100)
            );
            ensure!(report.records > 20, "too few records to say anything");
            let p90 = report.percentile_ms(90);
            if dead {
                // A quarter of the records waits for one round without a proposer.
                ensure!(
                    p90 < 2 * alive_ms + ROUND_MS,
                    "a round without a proposer cost {} ms",
                    p90.saturating_sub(alive_ms)
                );
            } else {
                alive_ms = p90;
            }
        }
        network.stop()
    });
}
