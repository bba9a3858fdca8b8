//! Measures, over the tuning seeds, what `src/ratio/tables.rs` holds: how two scans lie to each other that are of one city, of a
//! journey, of two copies, or of any two customers. It looks at what a node would see; of copies it is told which pack was scanned.
//!
//! `cargo run --release -p tally-trace --example rates`

use tally_trace::observation::{Observation, Territory};
use tally_trace::ratio::pairs::{CLASSES, Pair, WORDS};
use tally_trace::sim::params::{FROZEN, TUNING_SEEDS};
use tally_trace::sim::{Campaign, SimScan, World};

const HONEST: u64 = 2_000_000;
const RUNS: u64 = 15_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

type Table = [[f64; CLASSES]; WORDS];

#[derive(Clone, Default)]
struct Counted {
    any: Table,
    soon: Table,
    late: Table,
    copies: Table,
    inside: [[f64; 2]; CLASSES],
    home: [f64; 2],
    copy_home: [f64; 2],
}

fn add(table: &mut Table, a: &Observation, b: &Observation) -> Option<usize> {
    let pair = Pair::of(a.spot.as_ref(), b.spot.as_ref())?;
    *table.get_mut(pair.word)?.get_mut(pair.class)? += 1.0;
    Some(pair.class)
}

fn add_home([out, ins]: &mut [f64; 2], o: &Observation) {
    match o.territory {
        Territory::Inside => *ins += 1.0,
        Territory::Outside => *out += 1.0,
        Territory::Unknown => {}
    }
}

fn one(world: &World, seed: u64) -> Counted {
    let mut out = Counted::default();
    let mut before: Option<Observation> = None;
    for unit in 0..HONEST {
        let scans: Vec<_> = world
            .honest_unit(seed, unit)
            .iter()
            .map(SimScan::observation)
            .collect();
        let Some(first) = scans.first().copied() else {
            continue;
        };
        add_home(&mut out.home, &first);
        if let Some(other) = before.replace(first) {
            add(&mut out.any, &other, &first);
        }
        if let [a, b] = scans.as_slice()
            && a.source != b.source
        {
            let lag = b.time_ms.abs_diff(a.time_ms);
            if lag < 2 * HOUR_MS {
                add(&mut out.soon, a, b);
            } else if lag > DAY_MS {
                add(&mut out.late, a, b);
            }
        }
    }
    for run in 0..RUNS {
        for scans in world.campaign(seed, run, &Campaign::of_run(run)) {
            let mut packs = std::collections::BTreeSet::new();
            let mut first: Option<Observation> = None;
            for scan in scans.iter().filter(|s| s.pack != 0) {
                if !packs.insert(scan.pack) || packs.len() > 6 {
                    continue;
                }
                let o = scan.observation();
                if let Some(first) = &first {
                    if let Some(class) = add(&mut out.copies, first, &o)
                        && first.territory == Territory::Inside
                    {
                        out.inside[class][usize::from(o.territory == Territory::Inside)] += 1.0;
                    }
                } else {
                    add_home(&mut out.copy_home, &o);
                    first = Some(o);
                }
            }
        }
    }
    out
}

fn shares(table: &Table) -> Table {
    table.map(|row| {
        let all: f64 = row.iter().sum();
        row.map(|x| x / all)
    })
}

fn show(name: &str, table: &Table) {
    println!("pub const {name}: [[f64; CLASSES]; WORDS] = [");
    for row in table {
        let cells: Vec<String> = row.iter().map(|x| format!("{x:.2e}")).collect();
        println!("    [{}],", cells.join(", "));
    }
    println!("];");
}

fn main() {
    let world = World::new(FROZEN);
    let parts: Vec<Counted> = std::thread::scope(|scope| {
        let world = &world;
        let parts = TUNING_SEEDS.map(|seed| scope.spawn(move || one(world, seed)));
        parts.into_iter().filter_map(|p| p.join().ok()).collect()
    });
    let sum = |pick: &dyn Fn(&Counted) -> Table| {
        let mut all = Table::default();
        for part in &parts {
            for (to, from) in all.iter_mut().zip(pick(part)) {
                for (a, b) in to.iter_mut().zip(from) {
                    *a += b;
                }
            }
        }
        all
    };
    let any = sum(&|c| c.any);
    let soon = sum(&|c| c.soon);
    let late = sum(&|c| c.late);
    let copies = sum(&|c| c.copies);
    println!("{any:.0?}\n{soon:.0?}\n{late:.0?}\n{copies:.0?}");
    let (any, same, copies) = (shares(&any), shares(&soon), shares(&copies));
    let late = shares(&late);
    // Late pairs are of one city or of a journey. Between devices the first are never more than 75 km from each other.
    let far: f64 = late[0].iter().skip(3).sum();
    println!("journeys among late pairs {far:.3}");
    let mut journey = Table::default();
    for (word, row) in journey.iter_mut().enumerate() {
        for (class, to) in row.iter_mut().enumerate() {
            let rest = late[word][class] - (1.0 - far) * same[word][class];
            *to = (rest / far).max(1e-4);
        }
    }
    let quotient = |a: &Table| {
        let mut out = *a;
        for (to, base) in out.iter_mut().zip(any) {
            for (a, b) in to.iter_mut().zip(base) {
                *a = a.max(1e-6) / b;
            }
        }
        out
    };
    show("ANY", &any);
    show("SAME_RAW", &same);
    show("JOURNEY_RAW", &journey);
    show("SAME", &quotient(&same));
    show("JOURNEY", &quotient(&journey));
    show("COPIES", &quotient(&copies));
    let inside = |name: &str, pick: &dyn Fn(&Counted) -> [f64; 2]| {
        let [out, ins] = parts
            .iter()
            .map(pick)
            .fold([0.0, 0.0], |[a, b], [c, d]| [a + c, b + d]);
        println!("{name}: {:.4}", ins / (ins + out));
    };
    for class in 0..CLASSES {
        inside(&format!("inside given inside, class {class}"), &|c| {
            c.inside[class]
        });
    }
    inside("first inside", &|c| c.home);
    inside("first copy inside", &|c| c.copy_home);
}
