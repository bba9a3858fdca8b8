//! A laboratory for networks: namespaces, bridges and links that a scenario makes itself and breaks.
//!
//! The scenario's test runs itself again in a network and a mount namespace of its own. What it makes there (a namespace for
//! each node, virtual Ethernet, bridges) is seen by nobody else, and is gone with the last process, however that ends.
//!
//! Each node has two links. `data` leads to a bridge, and is the one that breaks; the node's peers know it by this address alone.
//! `mgmt` leads to the scenario, so that a node that is cut off can still be observed.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::scenario::alone;
use crate::{Place, again, inside, skip};

/// First of the ports of every node.
const PORT: u16 = 26_600;

/// Runs a test's body in namespaces of its own, with no other scenario of this program beside it: `test` is the name of the calling
/// test, which runs again as a child process. Where there can be no namespaces, the test is skipped with the reason.
///
/// # Panics
/// If the test fails, or nothing may be skipped.
pub fn inside_lab(test: &str, body: impl FnOnce()) {
    if inside() {
        body();
        return;
    }
    if let Err(e) = works() {
        skip(test, &format!("no network of namespaces: {e:#}"));
        return;
    }
    let _alone = alone();
    again(test, &["--net", "--mount", "--propagation", "private"]);
}

/// Whether this system makes the namespaces and links that a lab needs.
fn works() -> Result<()> {
    let probe = "mount -t tmpfs none /run && ip netns add probe && ip link add one type veth peer name two && \
                 ip link add three type bridge && ip link set two netns probe && ip link set one master three && \
                 tc qdisc add dev one root tbf rate 1mbit burst 16kb latency 100ms";
    let out = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c"])
        .arg(probe)
        .output()
        .context("unshare of util-linux")?;
    ensure!(
        out.status.success(),
        "it needs root, ip and tc of iproute2, and mount: {}",
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(())
}

/// Runs a tool; its words are separated by single spaces.
fn run(line: &str) -> Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let out = Command::new(words[0])
        .args(&words[1..])
        .output()
        .with_context(|| line.to_owned())?;
    ensure!(
        out.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(())
}

/// The laboratory. Only in [`inside_lab`].
#[derive(Debug)]
pub struct Lab {
    count: usize,
}

impl Lab {
    /// Namespaces for `count` nodes, all on one bridge.
    ///
    /// # Errors
    /// If the system refuses one of them.
    pub fn new(count: usize) -> Result<Self> {
        ensure!(
            inside() && (1..=64).contains(&count),
            "a lab of 1 to 64 nodes, inside"
        );
        // Names of namespaces are files there; nobody else is to see them.
        run("mount -t tmpfs none /run")?;
        run("ip link set lo up")?;
        // Between any two groups there can be a cut: each node can have a bridge of its own.
        for bridge in 0..count {
            run(&format!("ip link add part{bridge} type bridge"))?;
            run(&format!("ip link set part{bridge} up"))?;
        }
        for i in 0..count {
            run(&format!("ip netns add node{i}"))?;
            run(&format!("ip -n node{i} link set lo up"))?;
            run(&format!(
                "ip link add d{i} type veth peer name data netns node{i}"
            ))?;
            run(&format!(
                "ip -n node{i} addr add 10.77.0.{}/24 dev data",
                i + 1
            ))?;
            run(&format!("ip link set d{i} master part0 up"))?;
            run(&format!("ip -n node{i} link set data up"))?;
            run(&format!(
                "ip link add m{i} type veth peer name mgmt netns node{i}"
            ))?;
            run(&format!("ip addr add 10.78.{i}.1/30 dev m{i}"))?;
            run(&format!("ip -n node{i} addr add 10.78.{i}.2/30 dev mgmt"))?;
            run(&format!("ip link set m{i} up"))?;
            run(&format!("ip -n node{i} link set mgmt up"))?;
        }
        Ok(Self { count })
    }

    /// The places of its nodes, in order.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        (0..self.count)
            .map(|i| Place {
                host: format!("10.77.0.{}", i + 1),
                port: PORT,
                http: format!("10.78.{i}.2"),
                inside: ["ip", "netns", "exec", &format!("node{i}")]
                    .map(str::to_owned)
                    .to_vec(),
            })
            .collect()
    }

    /// Cuts the network into groups: whoever is in none is in the first. Connections are not closed, their bytes are lost.
    ///
    /// # Errors
    /// If a link cannot be moved.
    pub fn partition(&self, groups: &[&[usize]]) -> Result<()> {
        for i in 0..self.count {
            let group = groups.iter().position(|g| g.contains(&i)).unwrap_or(0);
            run(&format!("ip link set d{i} master part{group}"))?;
        }
        Ok(())
    }

    /// Takes a node's link down or up again, as a cable that is pulled.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn link(&self, node: usize, up: bool) -> Result<()> {
        run(&format!(
            "ip link set d{node} {}",
            if up { "up" } else { "down" }
        ))
    }

    /// Lets so many kilobits a second through a node's link, in either direction; what has waited 400 ms is lost.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn slow(&self, node: usize, kbit: u32) -> Result<()> {
        let filter = format!("root tbf rate {kbit}kbit burst 16kb latency 400ms");
        run(&format!("tc qdisc replace dev d{node} {filter}"))?;
        run(&format!("tc -n node{node} qdisc replace dev data {filter}"))
    }

    /// Delays what goes through a node's link by these milliseconds, give or take a half, in either direction, and loses so many percent of it.
    /// Not every kernel can: see [`Self::can_lose`].
    ///
    /// # Errors
    /// If the system refuses.
    pub fn poor(&self, node: usize, delay_ms: u32, loss_percent: u32) -> Result<()> {
        let filter = format!(
            "root netem delay {delay_ms}ms {}ms loss {loss_percent}%",
            delay_ms / 2
        );
        run(&format!("tc qdisc replace dev d{node} {filter}"))?;
        run(&format!("tc -n node{node} qdisc replace dev data {filter}"))
    }

    /// Whether the kernel has netem, for [`Self::poor`]; why not, if it has not.
    ///
    /// # Errors
    /// The system's words.
    pub fn can_lose(&self) -> Result<()> {
        self.poor(0, 1, 0)?;
        self.heal()
    }

    /// Undoes every cut, slowness and loss.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn heal(&self) -> Result<()> {
        for i in 0..self.count {
            // There may be none.
            let _ = run(&format!("tc qdisc del dev d{i} root"));
            let _ = run(&format!("tc -n node{i} qdisc del dev data root"));
            run(&format!("ip link set d{i} up"))?;
        }
        self.partition(&[])
    }
}
