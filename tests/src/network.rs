//! Founds a network by the commands: `init`, cards, `genesis new`, `genesis sign`, `join`, `up`.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng as _;

use crate::client::{path_text, run_in};
use crate::{Member, Place, Scenario};

/// How long nodes may take until they answer and are ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What is founded.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name and roles (with commas between) of each member.
    pub members: Vec<(&'static str, &'static str)>,
    /// Longest time between blocks, in milliseconds.
    pub heartbeat_ms: u64,
}

impl Plan {
    /// Brand, platform, media and auditor, which all may issue codes as well.
    #[must_use]
    pub fn four() -> Self {
        Self {
            members: vec![
                ("brand", "brand"),
                ("platform", "platform,brand"),
                ("media", "media,brand"),
                ("auditor", "auditor,brand"),
            ],
            heartbeat_ms: 1_000,
        }
    }

    /// The four, and others beside them: `count` is 4 to 7.
    ///
    /// # Panics
    /// For another count.
    #[must_use]
    pub fn of(count: usize) -> Self {
        let others = [
            ("press", "media,brand"),
            ("store", "platform,brand"),
            ("maker", "brand"),
        ];
        let mut plan = Self::four();
        let more = count.checked_sub(plan.members.len());
        let more = more.and_then(|more| others.get(..more));
        plan.members.extend(more.expect("4 to 7 members"));
        plan
    }

    /// A brand alone.
    #[must_use]
    pub fn one() -> Self {
        Self {
            members: vec![("brand", "brand")],
            heartbeat_ms: 1_000,
        }
    }
}

/// A founded network.
pub struct Network {
    members: Vec<Member>,
    /// Its ID, in hex.
    pub id: String,
}

impl Network {
    /// Founds the network of a plan in the folder of a scenario.
    ///
    /// # Errors
    /// If a command fails.
    pub fn found(scenario: &Scenario, plan: &Plan) -> Result<Self> {
        let places = plan.members.iter().map(|_| Place::loopback());
        Self::found_at(scenario, plan, places.collect::<Result<_>>()?)
    }

    /// As [`Self::found`], each member at a place.
    ///
    /// # Errors
    /// If a command fails.
    pub fn found_at(scenario: &Scenario, plan: &Plan, places: Vec<Place>) -> Result<Self> {
        let root = scenario.dir();
        let members = plan
            .members
            .iter()
            .zip(places)
            .map(|((name, roles), place)| Member::init_at(root, name, roles, 1, place))
            .collect::<Result<Vec<_>>>()?;
        Self::found_of(root, members, plan.heartbeat_ms)
    }

    /// Founds a network of members that are there.
    ///
    /// # Errors
    /// If a command fails.
    pub fn found_of(root: &Path, members: Vec<Member>, heartbeat_ms: u64) -> Result<Self> {
        let skew_ms = tally_contracts::Rules::default().max_skew_ms;
        Self::found_by(root, members, heartbeat_ms, skew_ms)
    }

    /// As [`Self::found_of`], with clocks that may differ by at most so many milliseconds.
    ///
    /// # Errors
    /// If a command fails.
    pub fn found_by(
        root: &Path,
        members: Vec<Member>,
        heartbeat_ms: u64,
        max_skew_ms: u64,
    ) -> Result<Self> {
        let genesis = root.join("genesis");
        let id = draw_up(&members, &genesis, heartbeat_ms, max_skew_ms)?;
        // Each founder signs a copy of its own, as on its own machine.
        let mut copies = Vec::new();
        for member in &members {
            let copy = member.dir.join("genesis-to-sign");
            fs::copy(&genesis, &copy)?;
            member.ok(&["genesis", "sign", &path_text(&copy)?, "--network", &id])?;
            copies.push(copy);
        }
        for member in &members {
            join(member, &copies, &id)?;
        }
        Ok(Self { members, id })
    }

    /// Founds a network and starts its nodes; returns when all are ready.
    ///
    /// # Errors
    /// If a command fails, or a node does not come up.
    pub fn running(scenario: &Scenario, plan: &Plan) -> Result<Self> {
        let mut network = Self::found(scenario, plan)?;
        network.start()?;
        Ok(network)
    }

    /// Starts every node that does not run, and waits until all are ready.
    ///
    /// # Errors
    /// If one does not come up.
    pub fn start(&mut self) -> Result<()> {
        for member in &mut self.members {
            if !member.is_started() {
                member.start()?;
            }
        }
        for member in &mut self.members {
            member.wait_up(START_LIMIT)?;
        }
        self.wait_ready()
    }

    /// Waits until all nodes are ready.
    ///
    /// # Errors
    /// If one is not in time.
    pub fn wait_ready(&self) -> Result<()> {
        self.members
            .iter()
            .try_for_each(|member| member.wait_ready(START_LIMIT))
    }

    /// That every node still runs, and that no log has a panic, or `secret` in it.
    ///
    /// # Errors
    /// Which node's has.
    pub fn runs_and_kept(&mut self, secret: &str) -> Result<()> {
        for member in &mut self.members {
            ensure!(member.ended().is_none(), "{} ended", member.name);
            let log = member.log();
            ensure!(
                !log.contains(" panicked at ") && !log.contains(secret),
                "{}",
                member.name
            );
        }
        Ok(())
    }

    /// Resident memory of every node, in bytes.
    ///
    /// # Errors
    /// If one is not running.
    pub fn resident(&self) -> Result<Vec<u64>> {
        self.members.iter().map(Member::resident).collect()
    }

    /// That every node still runs, that none panicked or filled the disk by way of its log, and that none holds `growth` bytes more
    /// than it did `before`.
    ///
    /// # Errors
    /// Which node does.
    pub fn bore(&mut self, before: &[u64], growth: u64) -> Result<()> {
        for (member, before) in self.members.iter_mut().zip(before) {
            ensure!(member.ended().is_none(), "{} ended", member.name);
            let (now, log) = (member.resident()?, member.log());
            println!(
                "{}: {} MiB before, {} MiB after, {} bytes of log",
                member.name,
                before >> 20,
                now >> 20,
                log.len()
            );
            ensure!(!log.contains(" panicked at "), "{} panicked", member.name);
            ensure!(log.len() < 4 << 20, "{} fills its log", member.name);
            ensure!(
                now < before + growth,
                "{} holds {} MiB more",
                member.name,
                (now - before) >> 20
            );
        }
        Ok(())
    }

    /// Stops every node that runs.
    ///
    /// # Errors
    /// If one does not stop as it should.
    pub fn stop(&mut self) -> Result<()> {
        for member in &mut self.members {
            if member.is_started() {
                member.stop()?;
            }
        }
        Ok(())
    }

    /// Waits until all nodes have the height of the highest, and checks that they have one state root there. Gives height and
    /// root.
    ///
    /// # Errors
    /// If they do not agree, or one stays behind.
    pub fn agree(&self, limit: Duration) -> Result<(u64, String)> {
        let mut height = 0;
        for member in &self.members {
            height = height.max(member.head(None)?.0);
        }
        let mut roots = Vec::new();
        for member in &self.members {
            member.wait_height(height, limit)?;
            roots.push(member.head(Some(height))?.1);
        }
        let root = roots.first().context("a member")?.clone();
        ensure!(
            roots.iter().all(|r| *r == root),
            "state roots at height {height}: {roots:?}"
        );
        Ok((height, root))
    }
}

impl Deref for Network {
    type Target = [Member];

    fn deref(&self) -> &[Member] {
        &self.members
    }
}

impl DerefMut for Network {
    fn deref_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }
}

/// Draws up the genesis of these members' cards in a new file; gives the network's ID.
fn draw_up(members: &[Member], out: &Path, heartbeat_ms: u64, max_skew_ms: u64) -> Result<String> {
    let cards = members
        .iter()
        .map(|m| path_text(&m.card()))
        .collect::<Result<Vec<_>>>()?;
    let (out_text, heartbeat) = (path_text(out)?, heartbeat_ms.to_string());
    let mut args = vec!["genesis", "new", "--network", "scenario", "--kind", "test"];
    args.extend(["--heartbeat-ms", &heartbeat, "--out", &out_text]);
    let skew = max_skew_ms.to_string();
    args.extend(["--max-skew-ms", &skew]);
    args.extend(cards.iter().map(String::as_str));
    let root = out.parent().context("a folder")?;
    let drawn = run_in(root, &args)?.ok()?;
    drawn["network_id"]
        .as_str()
        .map(str::to_owned)
        .context("a genesis without a network ID")
}

/// Joins a member with all founders' copies.
fn join(member: &Member, copies: &[PathBuf], id: &str) -> Result<()> {
    let copies = copies
        .iter()
        .map(|c| path_text(c))
        .collect::<Result<Vec<_>>>()?;
    let mut args = vec!["join", "--network", id];
    args.extend(copies.iter().map(String::as_str));
    member.ok(&args).map(drop)
}

/// A port that is free as well as the one above it and the one eighty above: those that `tally init --port` takes. Outside
/// the range that the system gives to outgoing connections. None is given twice: a node of another scenario of this process may
/// just be down.
pub(crate) fn free_ports() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1_000 {
        let port = rand::thread_rng().gen_range(10_000..32_000);
        let ports = [port, port + 1, port + 80];
        let free = ports
            .iter()
            .all(|p| !given.contains(p) && TcpListener::bind(("127.0.0.1", *p)).is_ok());
        if free {
            given.extend(ports);
            return Ok(port);
        }
    }
    bail!("no free ports")
}
