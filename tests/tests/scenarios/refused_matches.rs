//! Audiences, agreements and matches that must not be: each is refused or reported with its reason, and both nodes stay up.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tally_tests::{Member, Network, Plan, Scenario};

const PATIENCE: Duration = Duration::from_secs(30);

/// That a command of a member is refused with this code, and a message that has `part` in it.
fn refused(member: &Member, args: &[&str], code: &str, part: &str) -> Result<()> {
    let (_, found, message) = member.run(args)?.refusal()?;
    ensure!(
        found == code && message.contains(part),
        "tally {}: expected {code} and {part:?}, found {found}: {message}",
        args.join(" ")
    );
    Ok(())
}

/// Proposes an agreement at one member and has the other accept it.
fn agree(by: &Member, with: &Member, more: &[&str]) -> Result<String> {
    let mut args = vec![
        "agreement",
        "propose",
        "--with",
        &with.name,
        "--purpose",
        "a trial",
    ];
    args.extend(more);
    let proposed = by.ok(&args)?;
    let height = |answer: &Value| answer["height"].as_u64().context("a height");
    let id = proposed["agreement"].as_str().context("an agreement")?;
    with.wait_height(height(&proposed)?, PATIENCE)?;
    let accepted = with.ok(&["agreement", "accept", id])?;
    by.wait_height(height(&accepted)?, PATIENCE)?;
    Ok(id.to_owned())
}

#[test]
fn what_an_agreement_does_not_allow_is_refused() {
    Scenario::run("refused-matches", |scenario| {
        let mut network = Network::running(scenario, &Plan::four())?;
        let (brand, media) = (&network[0], &network[2]);
        let good = |from: u32| {
            (from..from + 40)
                .map(|n| format!("+861390{:07}\n", 1_000_000 + 7 * n))
                .collect::<String>()
        };
        let write = |name: &str, bytes: &[u8]| -> Result<String> {
            let file = scenario.dir().join(name);
            fs::write(&file, bytes)?;
            file.to_str().map(str::to_owned).context("a path in UTF-8")
        };

        // Rows that are no rows: reported with line and reason, not fatal, and nothing of them is used.
        let mut rows = format!("name,phone\n{}", good(0).replace("+86", "x,+86")).into_bytes();
        rows.extend(
            b"x,not a number\nx,\nx,+8613901000000,extra,fields\nx,\xff\xfe\nx,+8613901000000\nx\n",
        );
        let file = write("rows.csv", &rows)?;
        let done = brand.ok(&["audience", "import", &file, "--label", "spring"])?;
        let report = &done["report"];
        ensure!(
            done["people"] == 40 && report["repeated_rows"].as_u64() >= Some(1),
            "{done}"
        );
        ensure!(report["dropped_rows"].as_u64() >= Some(4), "{done}");
        for dropped in report["dropped"].as_array().into_iter().flatten() {
            ensure!(
                dropped["lines"].is_string() && dropped["reason"].is_string(),
                "{dropped}"
            );
        }

        // Files that are no files of people.
        let none = write("none.csv", b"name,city\na,b\n")?;
        refused(
            brand,
            &["audience", "import", &none, "--label", "none"],
            "import",
            "phone",
        )?;
        refused(
            brand,
            &["audience", "import", "/no/such/file", "--label", "none"],
            "file",
            "/no/such/file",
        )?;
        let noise = write("noise.csv", &[0xff; 4_000])?;
        ensure!(
            brand
                .run(&["audience", "import", &noise, "--label", "none"])?
                .exit
                == 1
        );
        let empty = write("empty.csv", b"phone\nnobody\n")?;
        refused(
            brand,
            &["audience", "import", &empty, "--label", "none"],
            "empty",
            "",
        )?;
        refused(
            brand,
            &["audience", "import", &file, "--label", "spring"],
            "exists",
            "spring",
        )?;
        refused(
            brand,
            &[
                "audience",
                "import",
                &file,
                "--label",
                "x",
                "--profile",
                "uid2",
            ],
            "usage",
            "email",
        )?;

        let theirs = write("theirs.csv", format!("phone\n{}", good(20)).as_bytes())?;
        media.ok(&["audience", "import", &theirs, "--label", "spring"])?;
        let mails = write("mails.csv", b"email\na@b.example\nc@d.example\n")?;
        brand.ok(&[
            "audience",
            "import",
            &mails,
            "--label",
            "letters",
            "--id-type",
            "email",
        ])?;

        let exact = ["--noise", "none", "--min-set", "1", "--min-result", "1"];
        let counts = agree(brand, media, &exact)?;
        let request = |agreement: &str, audience: &str, computation: &str| -> Vec<String> {
            [
                "match",
                "request",
                "--agreement",
                agreement,
                "--audience",
                audience,
                "--computation",
                computation,
            ]
            .map(str::to_owned)
            .to_vec()
        };
        let refused_match = |args: &[String], code: &str, part: &str| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            refused(brand, &args, code, part)
        };
        // Another computation than agreed, another kind of ID, an audience or an agreement that is not there.
        refused_match(
            &request(&counts, "spring", "list"),
            "refused",
            "(computation)",
        )?;
        refused_match(
            &request(&counts, "letters", "cardinality"),
            "refused",
            "(profile)",
        )?;
        refused_match(
            &request(&counts, "autumn", "cardinality"),
            "not_found",
            "autumn",
        )?;
        refused_match(
            &request(&"0".repeat(64), "spring", "cardinality"),
            "refused",
            "(unknown_agreement)",
        )?;
        refused_match(&request(&counts, "spring", "sum"), "usage", "sum")?;
        // Sets that are too small, and an agreement that not everybody accepted, or that ended.
        let large = agree(brand, media, &["--noise", "none", "--min-set", "1000"])?;
        refused_match(
            &request(&large, "spring", "cardinality"),
            "refused",
            "(set_size)",
        )?;
        let mut args = vec![
            "agreement",
            "propose",
            "--with",
            "media",
            "--purpose",
            "nobody accepts",
        ];
        args.extend(exact);
        let alone = brand.ok(&args)?["agreement"]
            .as_str()
            .context("an agreement")?
            .to_owned();
        refused_match(
            &request(&alone, "spring", "cardinality"),
            "refused",
            "(agreement_status)",
        )?;
        let ended = agree(brand, media, &exact)?;
        let revoked = media.ok(&["agreement", "revoke", &ended])?;
        brand.wait_height(revoked["height"].as_u64().context("a height")?, PATIENCE)?;
        refused_match(
            &request(&ended, "spring", "cardinality"),
            "refused",
            "(agreement_status)",
        )?;

        // What it allows is answered all the same: 20 people are in both.
        let args = request(&counts, "spring", "cardinality");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let answer = brand.ok(&args)?;
        ensure!(
            answer["answer"]["matches"] == 20 || answer["answer"] == 20 || answer["found"] == 20,
            "{answer}"
        );

        for member in network.iter_mut() {
            ensure!(member.ended().is_none(), "{} ended", member.name);
            member.wait_ready(PATIENCE)?;
            ensure!(
                !member.log().contains(" panicked at "),
                "{} panicked",
                member.name
            );
        }
        network.agree(PATIENCE)?;
        network.stop()
    });
}
