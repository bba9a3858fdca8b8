//! Faults of machines and of the network between them, under load: cuts, slow and dead links, hung nodes, crashes of one and
//! of all. After each the whole network goes on within ten seconds, and in the end nothing acknowledged is lost.
//!
//! The short form runs every fault once, in an order that the seed gives. The long form draws faults for
//! `TALLY_FAULT_MINUTES` (`tests/faults --minutes N`); `TALLY_FAULTS=CutFew,HangMany` draws these alone, `TALLY_FAULT_NODES=7` sets how many nodes there are, and `TALLY_NODE_LOG`
//! sets the nodes' `log.level`.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use tally_tests::{Lab, Member, Network, Observer, Plan, Scenario, inside_lab, number_from_env};

/// How long a network may take to go on, at every node, after a fault is over.
const HEALED: Duration = Duration::from_secs(10);
/// How long what is left of a network may take to go on without those that are cut off.
const GOES_ON: Duration = Duration::from_secs(10);
/// Longest start of a node.
const START: Duration = Duration::from_secs(30);
/// Entries acknowledged before a cut may still be on their way to the observer for so long.
const ON_ITS_WAY: Duration = Duration::from_millis(1_500);

/// Of n nodes the others go on without `few`, at most a third; nobody goes on without `many`, a third and more.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// A few nodes without the others, which go on.
    CutFew,
    /// Half of them against the other half; nobody goes on.
    CutInHalves,
    /// Every node alone.
    CutAll,
    /// The cable of one node is pulled.
    PullOne,
    /// All cables are pulled.
    PullAll,
    /// One node's link becomes very slow.
    SlowOne,
    /// All links become slow.
    SlowAll,
    /// One node's link delays and loses much; where the kernel has netem.
    PoorOne,
    /// All links delay and lose something; where the kernel has netem.
    PoorAll,
    /// A few nodes hang.
    HangFew,
    /// Many nodes hang at once.
    HangMany,
    /// A few nodes are killed.
    CrashFew,
    /// All are killed.
    CrashAll,
}

const FAULTS: [Fault; 13] = [
    Fault::CutFew,
    Fault::CutInHalves,
    Fault::CutAll,
    Fault::PullOne,
    Fault::PullAll,
    Fault::SlowOne,
    Fault::SlowAll,
    Fault::PoorOne,
    Fault::PoorAll,
    Fault::HangFew,
    Fault::HangMany,
    Fault::CrashFew,
    Fault::CrashAll,
];

/// What faults are done to.
struct Bench<'a> {
    /// How many are a few; at most a third.
    few: std::ops::RangeInclusive<usize>,
    lab: &'a Lab,
    network: &'a mut Network,
    observer: &'a Observer,
}

impl Bench<'_> {
    /// The members from `first` on, in a ring, go on without the others.
    fn goes_on(&self, without: &[usize]) -> Result<()> {
        let left: Vec<usize> = (0..self.network.len())
            .filter(|m| !without.contains(m))
            .collect();
        let took = self.observer.progress(&left, GOES_ON)?;
        println!(
            "  {} of {} went on after {took:?}",
            left.len(),
            self.network.len()
        );
        Ok(())
    }

    /// Nobody acknowledges anything: there is no quorum.
    fn stands_still(&self, hold: Duration) -> Result<()> {
        thread::sleep(ON_ITS_WAY + hold);
        let ms = u64::try_from(hold.as_millis())?;
        for member in 0..self.network.len() {
            ensure!(
                !self.observer.heard_within(member, ms),
                "member {member} acknowledged a record without a quorum"
            );
        }
        Ok(())
    }

    /// Holds a fault for a while and takes it back.
    fn run(&mut self, fault: Fault, hold: Duration, rng: &mut impl rand::RngCore) -> Result<()> {
        let count = self.network.len();
        let spare = *self.few.end();
        let mut members: Vec<usize> = (0..count).collect();
        members.shuffle(rng);
        let one = members[0];
        let few = &members[..rng.gen_range(self.few.clone())];
        match fault {
            Fault::CutFew => {
                self.lab.partition(&[&[], few])?;
                self.goes_on(few)?;
                thread::sleep(hold);
            }
            Fault::CutInHalves => {
                self.lab.partition(&[&[], &members[..count / 2]])?;
                self.stands_still(hold)?;
            }
            Fault::CutAll => {
                let alone: Vec<[usize; 1]> = (0..count).map(|i| [i]).collect();
                let groups: Vec<&[usize]> = alone.iter().map(<[usize; 1]>::as_slice).collect();
                self.lab.partition(&groups)?;
                self.stands_still(hold)?;
            }
            Fault::PullOne => {
                self.lab.link(one, false)?;
                self.goes_on(&[one])?;
                thread::sleep(hold);
            }
            Fault::PullAll => {
                (0..count).try_for_each(|i| self.lab.link(i, false))?;
                self.stands_still(hold)?;
            }
            Fault::SlowOne => {
                self.lab.slow(one, rng.gen_range(16..256))?;
                self.goes_on(&[one])?;
                thread::sleep(hold);
            }
            Fault::SlowAll => {
                let kbit = rng.gen_range(1_000..4_000);
                (0..count).try_for_each(|i| self.lab.slow(i, kbit))?;
                self.goes_on(&[])?;
                thread::sleep(hold);
            }
            Fault::PoorOne => {
                self.lab
                    .poor(one, rng.gen_range(100..300), rng.gen_range(5..30))?;
                self.goes_on(&[one])?;
                thread::sleep(hold);
            }
            Fault::PoorAll => {
                let (delay_ms, loss) = (rng.gen_range(10..50), rng.gen_range(1..4));
                (0..count).try_for_each(|i| self.lab.poor(i, delay_ms, loss))?;
                self.goes_on(&[])?;
                thread::sleep(hold);
            }
            Fault::HangFew => {
                self.each(few, |m| m.pause())?;
                let gone_on = self.goes_on(few);
                thread::sleep(hold);
                self.each(few, |m| m.resume())?;
                gone_on?;
            }
            Fault::HangMany => {
                let many = &members[..=spare];
                self.each(many, |m| m.pause())?;
                let still = self.stands_still(hold);
                self.each(many, |m| m.resume())?;
                still?;
            }
            Fault::CrashFew => {
                self.each(few, Member::kill)?;
                self.goes_on(few)?;
                thread::sleep(hold);
                self.each(few, Member::start)?;
                self.each(few, |m| m.wait_up(START))?;
            }
            Fault::CrashAll => {
                for member in self.network.iter_mut() {
                    member.kill()?;
                    thread::sleep(Duration::from_millis(rng.gen_range(0..30)));
                }
                self.each(&members, Member::start)?;
                self.each(&members, |m| m.wait_up(START))?;
            }
        }
        self.lab.heal()
    }

    fn each(&mut self, members: &[usize], act: impl Fn(&mut Member) -> Result<()>) -> Result<()> {
        members
            .iter()
            .try_for_each(|member| act(&mut self.network[*member]))
    }
}

/// The time of the day, as the nodes' logs say it.
fn now() -> String {
    let ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis());
    let (s, ms) = (ms / 1000 % 86_400, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}Z", s / 3600, s / 60 % 60, s % 60)
}

/// Founds a network in a lab, keeps it busy, and runs faults until there is none left.
fn under_load(
    scenario: &Scenario,
    count: usize,
    least: usize,
    mut faults: impl FnMut(&[Fault], &mut dyn rand::RngCore) -> Option<(Fault, Duration)>,
) -> Result<()> {
    let plan = Plan::of(count);
    let lab = Lab::new(count)?;
    let mut possible = FAULTS.to_vec();
    match lab.can_lose() {
        Ok(()) => println!("{count} nodes; links can lose (netem)"),
        // It depends on the kernel, not on what could be installed.
        Err(e) => {
            possible.retain(|fault| !matches!(fault, Fault::PoorOne | Fault::PoorAll));
            println!("{count} nodes; SKIPPED: links that lose: {e:#}");
        }
    }
    let mut network = Network::found_at(scenario, &plan, lab.places())?;
    network.start()?;
    let observer = Observer::start(scenario, &network, 1)?;
    let everyone: Vec<usize> = (0..network.len()).collect();
    observer.progress(&everyone, HEALED)?;
    let mut rng = scenario.rng(1);
    let mut slowest = Duration::ZERO;
    while let Some((fault, hold)) = faults(&possible, &mut rng) {
        println!("{} {fault:?} for {hold:?}", now());
        let mut bench = Bench {
            few: least..=(count - 1) / 3,
            lab: &lab,
            network: &mut network,
            observer: &observer,
        };
        bench
            .run(fault, hold, &mut rng)
            .with_context(|| format!("during {fault:?}"))?;
        let healed = observer
            .progress(&everyone, HEALED)
            .with_context(|| format!("after {fault:?} for {hold:?}"))?;
        println!("  {} all went on {healed:?} after it", now());
        slowest = slowest.max(healed);
    }
    let report = observer.finish(&mut network)?;
    println!(
        "{} records acknowledged, height {}, {} entries; p50 {} ms, p99 {} ms; slowest healing {slowest:?}",
        report.records,
        report.height,
        report.entries,
        report.percentile_ms(50),
        report.percentile_ms(99)
    );
    ensure!(report.records > 50, "too little load to prove anything");
    network.stop()
}

#[test]
fn every_fault_heals() {
    inside_lab("faults::every_fault_heals", || {
        Scenario::run("faults", |scenario| {
            let mut left: Option<Vec<Fault>> = None;
            under_load(scenario, 4, 1, |possible, rng| {
                let left = left.get_or_insert_with(|| {
                    let mut all = possible.to_vec();
                    all.shuffle(rng);
                    all
                });
                let hold = Duration::from_millis(rng.gen_range(1_000..4_000));
                left.pop().map(|fault| (fault, hold))
            })
        });
    });
}

/// Two of seven may be away at once.
#[test]
fn seven_nodes_go_on_without_two() {
    inside_lab("faults::seven_nodes_go_on_without_two", || {
        Scenario::run("faults-seven", |scenario| {
            let mut left = vec![Fault::CutFew, Fault::CutInHalves, Fault::CrashFew];
            under_load(scenario, 7, 2, |_, _| {
                left.pop().map(|fault| (fault, Duration::from_secs(1)))
            })
        });
    });
}

#[test]
#[ignore = "the long form: tests/faults --minutes 30"]
fn faults_for_a_long_time() {
    inside_lab("faults::faults_for_a_long_time", || {
        Scenario::run("faults-long", |scenario| {
            let minutes = number_from_env("TALLY_FAULT_MINUTES").unwrap_or(30);
            let end = Instant::now() + Duration::from_secs(60 * minutes);
            let only = std::env::var("TALLY_FAULTS").unwrap_or_default();
            let is_asked =
                |f: &&Fault| only.is_empty() || only.split(',').any(|o| o == format!("{f:?}"));
            // Longer than the pauses that a connection makes before it sends again what was lost.
            let long = Duration::from_secs(45);
            let mut first = vec![(Fault::CutFew, long), (Fault::CutInHalves, long)];
            // Six and seven want more than two processors.
            let count = number_from_env("TALLY_FAULT_NODES").map_or_else(
                || scenario.rng(2).gen_range(4..=7),
                |n| usize::try_from(n).unwrap_or(0),
            );
            under_load(scenario, count, 1, |possible, rng| {
                if let Some(fault) = first.pop() {
                    return Some(fault);
                }
                let drawn: Vec<&Fault> = possible.iter().filter(is_asked).collect();
                let drawn = drawn.choose(rng);
                let fault = **drawn.unwrap_or_else(|| panic!("TALLY_FAULTS: some of {possible:?}"));
                // Most are short; a few outlast every time-out there is.
                let longest = if rng.gen_ratio(1, 10) { 60_000 } else { 8_000 };
                let hold = Duration::from_millis(rng.gen_range(0..longest));
                (Instant::now() < end).then_some((fault, hold))
            })
        });
    });
}
