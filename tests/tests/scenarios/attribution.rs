//! Attribution between two members by `join_sum`: media has touches, brand has conversions. Exact sums in a test network equal a plain
//! reference, noisy ones are within their bounds; a budget that is used up refuses; a node that dies in the middle costs once at most.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tally_tests::{Client, Member, Network, Plan, Scenario, skip, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// A larger value counts as this.
const VALUE_CAP: u64 = 20_000;
/// Channels that fewer people met are put together.
const LABEL_MIN: usize = 40;
const DAY_S: u64 = 86_400;

/// The sample journeys, if they are here.
fn journeys() -> Option<PathBuf> {
    let dir = std::env::var_os("TALLY_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let dir = dir.join("journeys");
    dir.is_dir().then_some(dir)
}

/// The rows of a file of people whose numbers end below `end`, with the header.
fn slice(path: &std::path::Path, end: &str) -> Result<String> {
    let text = fs::read_to_string(path)?;
    let mut lines = text.lines();
    let mut out = format!("{}\n", lines.next().context("a header")?);
    for line in lines {
        let phone = line.split(',').next().unwrap_or_default();
        if phone
            .get(phone.len().saturating_sub(2)..)
            .is_some_and(|last| last < end)
        {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

fn cells(csv: &str) -> impl Iterator<Item = Vec<&str>> {
    csv.lines().skip(1).map(|line| line.split(',').collect())
}

/// Last touch by channel, written anew for this test: for each conversion the latest click of the last seven days, else the latest view
/// of the last day, gets its value. Channels that too few people met, and the one that the agreement does not name, are `other`.
fn reference(touches: &str, conversions: &str, unnamed: &str) -> Result<BTreeMap<String, i64>> {
    let mut met: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut of: BTreeMap<&str, Vec<(u64, bool, &str)>> = BTreeMap::new();
    for row in cells(touches) {
        let [phone, at, channel, kind] = row[..] else {
            bail!("a touch of {} columns", row.len());
        };
        met.entry(channel).or_default().insert(phone);
        of.entry(phone)
            .or_default()
            .push((at.parse()?, kind == "click", channel));
    }
    let label = |channel: &str| {
        let named = channel != unnamed && met[channel].len() >= LABEL_MIN;
        if named { channel } else { "other" }.to_owned()
    };
    let mut sums: BTreeMap<String, i64> = met.keys().map(|c| (label(c), 0)).collect();
    sums.entry("other".into()).or_default();
    let mut seen = BTreeSet::new();
    let mut rows: Vec<(u64, &str, u64)> = Vec::new();
    for row in cells(conversions) {
        let [phone, at, value, _] = row[..] else {
            bail!("a conversion of {} columns", row.len());
        };
        rows.push((at.parse()?, phone, value.parse()?));
    }
    rows.sort_unstable();
    for (at, phone, value) in rows {
        // One conversion of each person counts, the first.
        if !seen.insert(phone) {
            continue;
        }
        let mut best: Option<(bool, u64, &str)> = None;
        for (touched, click, channel) in of.get(phone).into_iter().flatten() {
            let window = if *click { 7 * DAY_S } else { DAY_S };
            let eligible = *touched < at && at <= touched + window;
            if eligible && best.is_none_or(|(c, t, _)| (*click, *touched) >= (c, t)) {
                best = Some((*click, *touched, channel));
            }
        }
        if let Some((_, _, channel)) = best {
            *sums.entry(label(channel)).or_default() += i64::try_from(value.min(VALUE_CAP))?;
        }
    }
    Ok(sums)
}

/// An agreement on sums between media, who asks, and brand.
fn agree(media: &Member, brand: &Member, labels: &[&str], more: &[&str]) -> Result<String> {
    let (cap, min) = (VALUE_CAP.to_string(), LABEL_MIN.to_string());
    let mut args = vec![
        "agreement",
        "propose",
        "--with",
        "brand",
        "--purpose",
        "attribution",
        "--computation",
        "join_sum",
        "--model",
        "last_touch",
        "--value-cap",
        &cap,
        "--label-min",
        &min,
        "--min-set",
        "10",
        "--max-conversions",
        "1024",
    ];
    for label in labels {
        args.extend(["--sum-label", label]);
    }
    args.extend(more);
    let height = |answer: &Value| answer["height"].as_u64().context("a height");
    let proposed = media.ok(&args)?;
    let id = proposed["agreement"].as_str().context("an agreement")?;
    brand.wait_height(height(&proposed)?, PATIENCE)?;
    let accepted = brand.ok(&["agreement", "accept", id])?;
    media.wait_height(height(&accepted)?, PATIENCE)?;
    Ok(id.to_owned())
}

fn request<'a>(agreement: &'a str, audience: &'a str) -> [&'a str; 8] {
    [
        "match",
        "request",
        "--agreement",
        agreement,
        "--audience",
        audience,
        "--computation",
        "join_sum",
    ]
}

/// The published sums by label.
fn sums(answer: &Value) -> Result<BTreeMap<String, i64>> {
    let rows = answer["sums"]
        .as_array()
        .with_context(|| format!("sums in {answer}"))?;
    rows.iter()
        .map(|row| {
            let label = row["label"].as_str().context("a label")?;
            Ok((label.to_owned(), row["sum"].as_i64().context("a sum")?))
        })
        .collect()
}

/// How many answers the budgets of (media, brand) still pay for.
fn left(client: &Client, agreement: &str) -> Result<(u64, u64)> {
    let shown = client.ok(&["agreement", "show", agreement])?;
    let of = |owner: &str| {
        let rows = shown["budget_left"].as_array().context("budgets")?;
        let row = rows
            .iter()
            .find(|b| b["owner"] == owner)
            .context("an owner")?;
        row["answers_left_this_epoch"].as_u64().context("answers")
    };
    Ok((of("media")?, of("brand")?))
}

/// Kills brand while a match of media's with it runs, and has it come back. Returns once no budget is reserved any more.
fn kill_in_the_middle(brand: &mut Member, media: &Client, agreement: &str) -> Result<()> {
    let (client, id) = (media.clone(), agreement.to_owned());
    let asked = std::thread::spawn(move || client.run(&request(&id, "ads")));
    let stage = || -> Result<String> {
        let matches = media.ok(&["match", "list"])?;
        Ok(matches[0]["stage"].as_str().unwrap_or_default().to_owned())
    };
    let started = Instant::now();
    while stage()? != "running" {
        ensure!(started.elapsed() < PATIENCE, "the match never ran");
        ensure!(!asked.is_finished(), "the match was over before brand died");
    }
    brand.kill()?;
    let broken = asked
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that asked died"))??;
    ensure!(
        broken.exit != 0,
        "a match with a dead node succeeded: {}",
        broken.json
    );
    brand.start()?;
    brand.wait_up(PATIENCE)?;
    brand.wait_ready(PATIENCE)?;
    Ok(())
}

#[test]
fn last_touch_by_two_members() {
    let Some(dir) = journeys() else {
        skip("attribution", "no journeys (TALLY_DATA)");
        return;
    };
    Scenario::run("attribution", move |scenario| {
        let touches = slice(&dir.join("media_touches.csv"), "04")?;
        let conversions = slice(&dir.join("brand_conversions.csv"), "04")?;
        let mut network = Network::running(scenario, &Plan::four())?;
        let file = |name: &str, text: &str| -> Result<String> {
            let path = scenario.dir().join(name);
            fs::write(&path, text)?;
            path.to_str().map(str::to_owned).context("a path in UTF-8")
        };
        let (touched, bought) = (
            file("touches.csv", &touches)?,
            file("bought.csv", &conversions)?,
        );
        let (brand, media) = (&network[0], &network[2]);
        let done = media.ok(&[
            "audience", "import", &touched, "--holds", "touches", "--label", "ads",
        ])?;
        ensure!(done["holds"] == "touches", "{done}");
        ensure!(
            done["report"]["used_rows"].as_u64() > done["people"].as_u64(),
            "{done}"
        );
        let imported = [
            "audience",
            "import",
            &bought,
            "--holds",
            "conversions",
            "--label",
            "orders",
        ];
        let done = brand.ok(&imported)?;
        let at = done["height"].as_u64().context("a height")?;
        media.wait_height(at, PATIENCE)?;

        // The agreement names all channels but one; the small ones it names go to `other` at media.
        let channels: BTreeSet<&str> = cells(&touches).map(|row| row[2]).collect();
        let labels: Vec<&str> = channels.iter().copied().filter(|c| *c != "theta").collect();
        let exact = reference(&touches, &conversions, "theta")?;
        ensure!(
            exact.len() > 5 && exact.values().filter(|v| **v > 0).count() > 4,
            "{exact:?}"
        );

        // Without noise: the sums of the plain reference, to the last cent, at both sides.
        let plain = agree(media, brand, &labels, &["--noise", "none"])?;
        let answer = media.ok(&request(&plain, "ads"))?;
        let found = sums(&answer)?;
        for (label, sum) in &found {
            let expected = exact.get(label).copied().unwrap_or(0);
            ensure!(*sum == expected, "{label}: {sum}, expected {expected}");
        }
        ensure!(found.len() == labels.len() + 1, "{found:?}");
        ensure!(
            answer["stage"] == "done" && answer["receipt_record"].is_string(),
            "{answer}"
        );
        let id = answer["match"].as_str().context("a match")?;
        until("brand to have the sums", PATIENCE, || {
            let theirs = brand.ok(&["match", "show", id])?;
            ensure!(sums(&theirs)? == found, "{theirs}");
            Ok(())
        })?;

        // The agreement says who has the touches: media, who proposed it. The side with the conversions cannot ask.
        let (_, code, message) = brand.run(&request(&plain, "orders"))?.refusal()?;
        ensure!(
            code == "refused" && message.contains("(label_side)"),
            "{code} {message}"
        );
        // Sums that could overflow are refused at set-up by the ledger's rules.
        let (_, code, message) = media
            .run(&[
                "agreement",
                "propose",
                "--with",
                "brand",
                "--purpose",
                "too much",
                "--computation",
                "join_sum",
                "--value-cap",
                "1000000000",
                "--noise",
                "0.5,2^-20",
            ])?
            .refusal()?;
        ensure!(
            code == "refused" && message.contains("2^40"),
            "{code} {message}"
        );

        // With noise, and a budget for three answers of brand, who pays for the counts besides.
        let noisy = ["--noise", "2,2^-20", "--epoch-answers", "3"];
        let noised = agree(media, brand, &labels, &noisy)?;
        // What is left is counted by the dearer side, so that it holds whoever asks: media pays half of that for each.
        let answers = |used: u64| ((6 - used) / 2, 3 - used);
        let first = left(media, &noised)?;
        ensure!(first == answers(0), "{first:?}");
        let media = media.client();
        kill_in_the_middle(&mut network[0], &media, &noised)?;
        // Counted once if it was released, else given back; never reserved for ever.
        let mut used = 0;
        until("the broken match to be settled", PATIENCE, || {
            let after = left(&media, &noised)?;
            let listed = media.ok(&["match", "list"])?;
            ensure!(listed[0]["stage"] == "failed", "{listed}");
            let theirs = network[0].ok(&["match", "list"])?;
            ensure!(theirs[0]["stage"] == "failed", "{theirs}");
            ensure!(after == answers(0) || after == answers(1), "{after:?}");
            used = u64::from(after == answers(1));
            Ok(())
        })?;
        let answer = media.ok(&request(&noised, "ads"))?;
        let within = answer["within_95"].as_i64().context("a distance")?;
        let bound = answer["noise_detail"]["bound"]
            .as_i64()
            .context("a bound")?;
        ensure!(within > 0 && within < 2 * bound, "{answer}");
        let (mut far, mut off) = (0, 0);
        let found = sums(&answer)?;
        for (label, sum) in &found {
            let distance = (sum - exact.get(label).copied().unwrap_or(0)).abs();
            ensure!(
                distance <= 2 * bound,
                "{label} is {distance} off, over {bound} twice"
            );
            far += u32::from(distance > within);
            off += u32::from(distance > 0);
        }
        // More than four of a dozen outside of 95 % has odds below one in a thousand; none off has none.
        ensure!(far <= 4 && off > 0, "{far} far, {off} off: {answer}");
        ensure!(
            left(&media, &noised)? == answers(used + 1),
            "counted otherwise than once"
        );
        // The same again is the stored answer, free.
        let again = media.ok(&request(&noised, "ads"))?;
        ensure!(
            again["match"] == answer["match"] && sums(&again)? == found,
            "{again}"
        );
        ensure!(left(&media, &noised)? == answers(used + 1));

        // Other touches are another question. What is left pays for so many, and not for one more.
        let rest = left(&media, &noised)?.1;
        for n in 0..=rest {
            let label = format!("more-{n}");
            media.ok(&[
                "audience", "import", &touched, "--holds", "touches", "--label", &label,
            ])?;
            let asked = media.run(&request(&noised, &label))?;
            if n < rest {
                asked.ok()?;
            } else {
                let (_, code, message) = asked.refusal()?;
                ensure!(
                    code == "refused" && message.contains("(budget)"),
                    "{code} {message}"
                );
            }
        }
        // Nobody's number is in any log.
        let phone = cells(&touches).next().context("a touch")?[0].to_owned();
        network.runs_and_kept(&phone)?;
        network.agree(PATIENCE)?;
        network.stop()
    });
}
