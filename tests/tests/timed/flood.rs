//! One member floods the network with good records of its own. Its node tells it when there is no room, every pool stays bounded,
//! and the others' records are committed as before.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tally_contracts::ids::{MemberId, NetworkId, PublicKey};
use tally_contracts::records::RegisterProduct;
use tally_contracts::{Signer, Unsigned};
use tally_node::keys::KeyStore;
use tally_node::passphrase::Passphrase;
use tally_tests::{Client, Network, Observer, Plan, Scenario, gtin};

/// Records that an honest node keeps waiting; a quarter of them of one member.
const POOL: u64 = 400;
/// Records that the flooding member's own node keeps waiting: it is the member's, and set as it likes.
const OWN_POOL: u64 = 8_000;
/// Records of the flood.
const FLOOD: usize = 12_000;
/// In one request.
const BATCH: usize = 500;
/// How much more memory a node may hold after the flood than before: the state store's cache alone may grow by 64 MiB.
const GROWTH: u64 = 192 << 20;
/// The longest that a record of another member may take meanwhile.
const LONGEST_MS: u64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// One request over the admin socket.
fn ask(client: &Client, op: &str, args: &Value) -> Result<Value> {
    let mut stream = UnixStream::connect(client.dir.join("admin.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{}\n", json!({"op": op, "args": args})).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    serde_json::from_str(answer.lines().last().context("no answer")?).context("an answer in JSON")
}

/// Good records of a member, signed ahead, in hex.
fn records(client: &Client, count: usize) -> Result<Vec<String>> {
    let passphrase = Passphrase::new("a passphrase of a test".into()).context("passphrase")?;
    let key = KeyStore::new(client.dir.join("keys"))
        .open_node(&passphrase)?
        .records();
    let network: NetworkId = client.ok(&["status"])?["network_id"]
        .as_str()
        .context("ID")?
        .parse()?;
    let genesis = client.ok(&["genesis", "show", "ledger/genesis"])?;
    let member: MemberId = genesis["members"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|m| m["name"] == client.name.as_str())
        .and_then(|m| m["id"].as_str())
        .context("the member")?
        .parse()?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    (0..count)
        .map(|nonce| {
            let body = RegisterProduct {
                gtin: gtin(1_000_000 + u32::try_from(nonce)?).parse()?,
                description: "Tea".into(),
                brand: "A flood".into(),
            };
            let signer = Signer::new(member, &PublicKey::from(&key), u64::try_from(nonce)?);
            let unsigned = Unsigned::new(network, now_ms + 3_000_000, vec![signer], &body.into());
            Ok(hex::encode(unsigned.sign(&[&key])?.bytes()))
        })
        .collect()
}

/// Hands all records over, and comes again when there is no room; gives how often that was said.
fn flood(client: &Client, records: &[String]) -> Result<u64> {
    let (mut next, mut busy) = (0, 0);
    let end = Instant::now() + PATIENCE;
    while next < records.len() {
        ensure!(Instant::now() < end, "only {next} records were taken");
        let until = records.len().min(next + BATCH);
        let answer = ask(
            client,
            "submit_many",
            &json!({"records_hex": &records[next..until]}),
        )?;
        let answer = &answer["ok"];
        next += usize::try_from(answer["taken"].as_u64().context("taken")?)?;
        let failed = &answer["failed"];
        if failed.is_null() {
            continue;
        }
        ensure!(
            failed["code"] == "busy"
                && failed["message"]
                    .as_str()
                    .is_some_and(|m| m.contains("this member")),
            "refused for another reason: {failed}"
        );
        busy += 1;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(busy)
}

#[test]
fn a_flood_by_one_member_is_bounded() {
    Scenario::run_alone("flood", |scenario| {
        let mut network = Network::found(scenario, &Plan::four())?;
        for (i, member) in network.iter().enumerate() {
            let pool = if i == 0 { OWN_POOL } else { POOL };
            member.configure("limits", "pool_records", i64::try_from(pool)?)?;
        }
        network.start()?;
        let flooder = network[0].client();
        let records = records(&flooder, FLOOD)?;
        let before = network.resident()?;
        let observer = Observer::start_at(scenario, &network, 1, &[1, 2, 3])?;
        thread::sleep(Duration::from_secs(3));
        let (begin, mut most) = (Instant::now(), [0_u64; 4]);
        let busy = thread::scope(|scope| -> Result<u64> {
            let flooding = scope.spawn(|| flood(&flooder, &records));
            while !flooding.is_finished() {
                for (member, most) in network.iter().zip(&mut most) {
                    let waiting = member.ok(&["status"])?["pool"]["records"].as_u64();
                    *most = (*most).max(waiting.context("the pool in the status")?);
                }
                thread::sleep(Duration::from_millis(50));
            }
            flooding
                .join()
                .map_err(|_| anyhow::anyhow!("the flood panicked"))?
        })?;
        println!(
            "{FLOOD} records in {:?}; refused {busy} times; most waiting {most:?}",
            begin.elapsed()
        );
        ensure!(busy > 0, "nobody was told that there is no room");
        // The others' records wait beside the flood: one or two of each member, and anchors.
        let bounds = [OWN_POOL, POOL, POOL, POOL].map(|pool| pool / 4 + 12);
        ensure!(
            most.iter().zip(&bounds).all(|(most, bound)| most <= bound) && most[0] > POOL,
            "pools of {most:?} records, bounds {bounds:?}"
        );
        // It is nobody's loss: all of the flood is committed, in its turn.
        let last = Duration::from_secs(60);
        tally_tests::until("the flood to be committed", last, || {
            let waiting = ask(&flooder, "status", &Value::Null)?["ok"]["pool"]["records"].as_u64();
            ensure!(waiting == Some(0), "{waiting:?} records wait");
            Ok(())
        })?;
        network.bore(&before, GROWTH)?;
        let report = observer.finish(&mut network)?;
        println!(
            "others: {} records, p50 {} ms, p99 {} ms, slowest {} ms",
            report.records,
            report.percentile_ms(50),
            report.percentile_ms(99),
            report.percentile_ms(100)
        );
        ensure!(
            report.records > 30 && report.percentile_ms(100) < LONGEST_MS,
            "the others did not go on as before"
        );
        ensure!(report.entries > FLOOD, "the flood is not in the ledger");
        network.stop()
    });
}
