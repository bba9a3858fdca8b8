//! One of four validators is dead: a record whose height it would have proposed waits only for a short local time-out.

use std::time::Duration;

use anyhow::ensure;
use tally_tests::{Network, Observer, Plan, Scenario};

/// How long the records are measured.
const MEASURED: Duration = Duration::from_secs(8);

#[test]
fn a_dead_proposer_costs_little() {
    Scenario::run_alone("absent-proposer", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
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
        }
        network.stop()
    });
}
