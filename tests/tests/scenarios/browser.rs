//! The consumer's pages in a real browser: at the width of a phone and of a desk, in both languages, with and without script, by
//! keyboard alone; every page's structure, contrast and size.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tally_contracts::records::ExpiryDate;
use tally_tests::{Client, Network, Plan, Scenario, get, gtin, request, skip, until};

use crate::webdriver::{DESKTOP, Driver, PHONE, Screen, Session};

/// How long a page may take to come.
const PATIENCE: Duration = Duration::from_secs(20);
const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';

/// Codes of one scenario, each for one story.
struct Goods {
    sold: Vec<(String, String)>,
    held: Vec<(String, String)>,
    recalled: Vec<(String, String)>,
    sold_batch: String,
    product: String,
}

fn goods(brand: &Client, per_batch: usize) -> Result<Goods> {
    let gtin = gtin(123_454_321);
    brand.ok(&[
        "product",
        "add",
        "--gtin",
        &gtin,
        "--description",
        "Green tea <Highland>, 100 g",
        "--brand",
        "Highland & Sons",
    ])?;
    let sold = brand.issue(&gtin, "SOLD", per_batch, true)?;
    let held = brand.issue(&gtin, "HELD", 4, false)?;
    let recalled = brand.issue(&gtin, "RECALLED", 4, true)?;
    brand.ok(&["codes", "recall", &recalled.id, "--reason", "taste"])?;
    Ok(Goods {
        sold_batch: sold.id,
        sold: sold.codes,
        held: held.codes,
        recalled: recalled.codes,
        product: gtin,
    })
}

/// The path of a printed link.
fn path(url: &str) -> Result<String> {
    let at = url.find("/01/").context("a link")?;
    Ok(url[at..].to_owned())
}

/// Waits for a page whose headline has these words.
fn expect(session: &Session, words: &str) -> Result<()> {
    until(&format!("the headline {words:?}"), PATIENCE, || {
        let found = session.text("h1")?;
        ensure!(found.contains(words), "found {found:?}");
        Ok(())
    })
}

/// That the page in front has no script, and that its policy lets none run: one that is put into it does nothing.
fn no_script(session: &Session) -> Result<()> {
    ensure!(!session.has("script")?, "the page has a script");
    let ran = session.execute(
        "const s = document.createElement('script'); s.textContent = 'window.ran = true'; \
         document.head.append(s); const ran = window.ran === true; s.remove(); return ran;",
    )?;
    ensure!(ran == false, "the page's policy lets a script run");
    Ok(())
}

/// Presses the button that scans and waits for the page of the result; gives its address.
fn check(session: &Session) -> Result<String> {
    session.click("form.scan > button")?;
    until("the page of the result", PATIENCE, || {
        let url = session.url()?;
        ensure!(url.contains("/s/"), "at {url}");
        Ok(url)
    })
}

/// Runs a story with a network of one brand and a browser; without a browser it is skipped, but not where nothing may be skipped.
fn story(
    name: &'static str,
    plan: &Plan,
    body: impl FnOnce(&Driver, &mut Network, &Goods) -> Result<()>,
) {
    if let Some(reason) = crate::webdriver::missing() {
        skip(name, &reason);
        return;
    }
    Scenario::run(name, |scenario| {
        let mut network = Network::found(scenario, plan)?;
        for member in network.iter() {
            member.configure("http", "contact", "care@highland.example")?;
            member.configure("log", "level", "warn,arc_malachitebft_network=off")?;
        }
        network.start()?;
        let goods = goods(&network[0].client(), 40)?;
        let driver = Driver::start(scenario.dir())?;
        body(&driver, &mut network, &goods)
    });
}

/// Every page at one width; `codes` are units that nobody scanned.
fn tour(driver: &Driver, brand: &Client, goods: &Goods, screen: Screen, at: usize) -> Result<()> {
    let session = driver.session(screen, "en-GB,en")?;
    let home = format!("http://{}", brand.http);
    let audit = |name: &'static str| session.audit(name).map(drop);
    session.open(&home)?;
    expect(&session, "Product check")?;
    audit("home")?;

    // The page of a code that nobody scanned; previews and reloads take nothing.
    let (url, claim) = &goods.sold[at];
    let code = path(url)?;
    for _ in 0..2 {
        let preview = [("user-agent", "WhatsApp/2"), ("sec-purpose", "prefetch")];
        ensure!(request(&brand.http, "GET", &code, &preview, b"")?.status == 200);
    }
    session.open(url)?;
    expect(&session, "not checked yet")?;
    ensure!(
        session
            .text(".card")?
            .contains("Green tea <Highland>, 100 g")
    );
    audit("look")?;
    // The file that proves the code lies behind a link of the page.
    let href = session
        .execute("return document.querySelector('a[download]')?.getAttribute('href') ?? ''")?;
    let href = href.as_str().unwrap_or_default();
    let proof = until("the proof of the code", PATIENCE, || {
        let answer = get(&brand.http, href)?;
        ensure!(answer.status == 200, "{href}: {}", answer.told());
        Ok(answer.body)
    })?;
    ensure!(proof.starts_with(b"c2sp.org/tlog-proof@v1\n"), "no proof");
    session.reload()?;
    expect(&session, "not checked yet")?;
    check(&session)?;
    expect(&session, "you are the first to check it")?;
    audit("first")?;
    session.reload()?;
    expect(&session, "you are the first to check it")?;
    // A claim code with a typing error, one of another pack, then the right one.
    session.fill("#claim", "0000-0000-00001")?;
    session.click("form.card button")?;
    until("the error", PATIENCE, || session.text(".error"))?;
    ensure!(session.text(".error")?.contains("typing error"));
    audit("mistyped")?;
    session.fill("#claim", &goods.sold[at + 1].1)?;
    session.click("details.claim button")?;
    expect(&session, "belongs to another pack")?;
    audit("claim-wrong")?;
    session.fill("#claim", &claim.to_lowercase())?;
    session.click("form.card button")?;
    expect(&session, "both codes belong together")?;
    ensure!(!session.has("#claim")?);
    audit("claim-right")?;
    // Both codes at once, on the first page.
    let (url, claim) = &goods.sold[at + 2];
    session.open(url)?;
    session.click("details.claim summary")?;
    session.fill("#claim", claim)?;
    session.click("details.claim button")?;
    expect(&session, "both codes belong together")?;
    ensure!(
        session
            .text(".said")?
            .contains("nobody checked this pack before you")
    );
    // Again.
    session.open(url)?;
    expect(&session, "checked before")?;
    audit("look-again")?;
    check(&session)?;
    expect(&session, "Genuine code, checked before")?;
    ensure!(
        session
            .text(".said")?
            .contains("checked once before, first on")
    );
    audit("repeat")?;

    for (name, url, said) in [
        ("recalled", &goods.recalled[0].0, "Recalled"),
        ("not-released", &goods.held[0].0, "Not released"),
    ] {
        session.open(url)?;
        expect(&session, said)?;
        check(&session)?;
        expect(&session, said)?;
        audit(name)?;
    }
    // A label that was withdrawn.
    let (url, _) = &goods.sold[at + 4];
    std::fs::write(brand.dir.join("waste.txt"), url)?;
    brand.ok(&["codes", "void", &goods.sold_batch, "waste.txt"])?;
    session.open(url)?;
    expect(&session, "Withdrawn")?;
    check(&session)?;
    audit("revoked")?;
    // One code in three cities within minutes.
    let (url, _) = &goods.sold[at + 5];
    for (person, cell) in [("a", "wx4g"), ("b", "wtw3"), ("c", "ws0e"), ("d", "wm6n")] {
        let body = format!(
            r#"{{"code":"{url}","place":{{"country":"CN","cell":"{cell}","accuracy_m":50}}}}"#
        );
        let headers = [("content-type", "application/json"), ("user-agent", person)];
        let answer = request(&brand.http, "POST", "/v1/scans", &headers, body.as_bytes())?;
        ensure!(answer.status == 200, "{}", answer.told());
    }
    session.open(url)?;
    expect(&session, "unusual history")?;
    audit("look-suspect")?;
    check(&session)?;
    expect(&session, "unusual history")?;
    audit("suspect")?;
    // An invented code, by the form of the home page.
    session.open(&home)?;
    session.fill("#code", &format!("{} 0123456789ABCDEFGHJK", goods.product))?;
    session.click("button")?;
    expect(&session, "This code is not known")?;
    check(&session)?;
    expect(&session, "This code is not known")?;
    ensure!(!session.has("a[download]")?, "a proof of an invented code");
    audit("unknown")?;

    for (name, page, said) in [
        ("malformed", format!("{code}/10/L"), "cannot be read"),
        ("lost", "/nothing".into(), "does not exist"),
        ("product", format!("/01/{}", goods.product), "Green tea"),
        ("no-product", format!("/01/{}", gtin(1)), "not registered"),
        (
            "no-link",
            format!("{code}?linkType=gs1:promotion"),
            "no such page",
        ),
    ] {
        session.open(&format!("{home}{page}"))?;
        expect(&session, said)?;
        audit(name)?;
    }
    Ok(())
}

#[test]
fn every_page_is_right_at_both_widths() {
    story("browser-pages", &Plan::one(), |driver, network, goods| {
        let brand = network[0].client();
        tour(driver, &brand, goods, PHONE, 0)?;
        tour(driver, &brand, goods, DESKTOP, 10)
    });
}

/// The end of the next month that lasts at least two days more, and when it is over, POSIX milliseconds.
fn end_of_a_month() -> Result<(String, u64)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() * 1000;
    let months =
        (2026..2075).flat_map(|year| (1..=12).map(move |month| format!("{year}-{month:02}")));
    for month in months {
        let date = ExpiryDate::from_calendar(&month)?;
        if date.over_from_ms() > now + 4 * 86_400_000 {
            return Ok((month, date.over_from_ms()));
        }
    }
    anyhow::bail!("no month is left")
}

/// How the command judges a code's proof, made now in a file of that name: its exit and the reason of a refusal.
fn judged_proof(network: &Network, name: &str, code: &str) -> Result<(i32, String)> {
    let brand = network[0].client();
    let in_node = |name: &str| network[0].dir.join(name).display().to_string();
    let (file, policy) = (in_node(&format!("{name}.proof")), in_node("policy"));
    brand.ok(&["proof", code, "--out", &file, "--policy-out", &policy])?;
    let judged = brand.judge(&network.id, policy, file, &[])?;
    let reason = judged.json.pointer("/error/code").and_then(|c| c.as_str());
    Ok((judged.exit, reason.unwrap_or_default().to_owned()))
}

/// Goods that have a last day: told before, and after it by the node's clock, on pages, to programs, in counts and in proofs.
#[test]
fn the_last_day_of_a_pack_is_told_before_and_after() {
    let Some(library) = faketime() else {
        skip("browser-expired", "libfaketime is not installed");
        return;
    };
    story("browser-expired", &Plan::one(), |driver, network, goods| {
        let (month, over_ms) = end_of_a_month()?;
        let brand = network[0].client();
        let dated = ["--expires", &month];
        let refused = brand.run(&[
            "codes",
            "issue",
            "--gtin",
            &goods.product,
            "--lot",
            "OLD",
            "--count",
            "2",
            "--out",
            "old.csv",
            "--expires",
            "2020-01-01",
        ])?;
        ensure!(refused.refusal()?.1 == "usage", "{refused:?}");
        let batch = brand.issue_with(&goods.product, "DATED", 6, true, &dated)?;
        let held = brand.issue_with(&goods.product, "DATED-HELD", 2, false, &dated)?;
        let plain = ["--expires", &month, "--plain-links"];
        let plain = brand.issue_with(&goods.product, "DATED-PLAIN", 2, true, &plain)?;
        // The address of a test has no room for more than its port; what counts is that all links of a batch are alike.
        let code = &batch.codes[0].0;
        let in_link = code.contains("?17=");
        for (url, _) in &batch.codes {
            ensure!(url.contains("?17=") == in_link, "{url}");
        }
        ensure!(!plain.codes[0].0.contains('?'), "{}", plain.codes[0].0);
        let visit =
            |screen, lang: &str, audit: &str, code: &str, say: &str, then: &str| -> Result<()> {
                let session = driver.session(screen, lang)?;
                session.open(code)?;
                expect(&session, say)?;
                session.audit(audit)?;
                check(&session)?;
                expect(&session, then)?;
                session.audit(&format!("{audit}-checked"))?;
                Ok(())
            };
        visit(
            PHONE,
            "en",
            "dated",
            code,
            "not checked yet",
            "you are the first",
        )?;
        let session = driver.session(PHONE, "en")?;
        session.open(code)?;
        ensure!(session.text(".card")?.contains("Good until"));
        drop(session);
        ensure!(judged_proof(network, "before", code)? == (0, String::new()));

        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let ahead = over_ms / 1000 - now + 3_600;
        let node = &mut network[0];
        node.stop()?;
        node.set_env("LD_PRELOAD", &library);
        node.set_env("FAKETIME", &format!("+{ahead}s"));
        node.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        node.set_env("DONT_FAKE_MONOTONIC", "1");
        node.start()?;
        node.wait_up(3 * PATIENCE)?;
        node.wait_ready(3 * PATIENCE)?;
        visit(
            PHONE,
            "en",
            "expired",
            code,
            "Past its last day",
            "Past its last day",
        )?;
        visit(
            DESKTOP,
            "zh-CN,zh",
            "zh-expired",
            &batch.codes[1].0,
            "已过有效期",
            "已过有效期",
        )?;
        let brand = network[0].client();
        let verdict = |code: &str| -> Result<String> {
            let said = brand.scan(code, &format!("again-{code}"))?.json();
            Ok(said["verdict"].as_str().unwrap_or_default().to_owned())
        };
        ensure!(verdict(&plain.codes[0].0)? == "expired");
        ensure!(verdict(&held.codes[0].0)? == "not_released");
        let stats = brand.ok(&["scans", "stats"])?;
        ensure!(stats["verdicts"]["expired"] == 3, "{stats}");
        // A proof is of the time of its checkpoint: so a block is waited for.
        until("a proof that the batch has expired", 3 * PATIENCE, || {
            let (exit, reason) = judged_proof(network, "after", code)?;
            ensure!(exit == 4 && reason == "expired", "{exit} {reason}");
            Ok(())
        })?;
        // What goes before it is told before it.
        brand.ok(&["codes", "recall", &batch.id, "--reason", "mould"])?;
        ensure!(verdict(&batch.codes[2].0)? == "recalled");
        Ok(())
    });
}

/// The library that shows a process another time, if it is installed.
fn faketime() -> Option<String> {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .iter()
        .map(|dir| Path::new(dir).join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file())
        .and_then(|path| path.to_str().map(str::to_owned))
}

#[test]
fn chinese_is_spoken_and_the_switch_holds() {
    story("browser-chinese", &Plan::one(), |driver, network, goods| {
        let brand = network[0].client();
        for (screen, at) in [(PHONE, 0), (DESKTOP, 5)] {
            let session = driver.session(screen, "zh-CN,zh")?;
            session.open(&goods.sold[at].0)?;
            expect(&session, "尚未被查验")?;
            session.audit("zh-look")?;
            check(&session)?;
            expect(&session, "您是第一位查验者")?;
            session.audit("zh-first")?;
            session.click("a.switch")?;
            expect(&session, "you are the first to check it")?;
            // The choice stays on the pages that follow.
            session.click("a.brand")?;
            expect(&session, "Product check")?;
            session.fill("#code", &format!("{} 0123456789ABCDEFGHJK", goods.product))?;
            session.click("button")?;
            expect(&session, "This code is not known")?;
            session.click("a.switch")?;
            expect(&session, "查无此码")?;
            session.audit("zh-unknown")?;
            session.open(&format!("http://{}/?lang=zh", brand.http))?;
            session.audit("zh-home")?;
        }
        Ok(())
    });
}

#[test]
fn without_script_and_by_keyboard_alone_everything_works() {
    story("browser-plain", &Plan::one(), |driver, _, goods| {
        // The whole way of a consumer. No page brings a script, and none would be let run.
        let session = driver.session(PHONE, "en")?;
        session.open(&goods.sold[0].0)?;
        expect(&session, "not checked yet")?;
        no_script(&session)?;
        session.click("details.claim summary")?;
        session.fill("#claim", &goods.sold[0].1)?;
        session.click("details.claim button")?;
        expect(&session, "both codes belong together")?;
        no_script(&session)?;
        session.click("a.switch")?;
        expect(&session, "内外两码相符")?;

        // The keyboard alone: the skip link comes first, everything has a visible focus, Enter presses the button.
        let session = driver.session(DESKTOP, "en")?;
        session.open(&goods.sold[1].0)?;
        let mut order = Vec::new();
        for _ in 0..5 {
            session.press(TAB)?;
            let outline =
                session.execute("return getComputedStyle(document.activeElement).outlineStyle")?;
            let text = session.focus()?;
            ensure!(outline == "solid", "no visible focus on {text}");
            order.push(text);
        }
        ensure!(
            order
                == [
                    "Skip to the result",
                    "Product check",
                    "中文",
                    "Check this product now",
                    "Is there a code under a scratch layer or in the cap?",
                ],
            "{order:?}"
        );
        // The scratch code: Enter opens its field, Tab goes there, Enter in it checks both codes.
        session.press(ENTER)?;
        session.press(TAB)?;
        session.fill(":focus", &goods.sold[1].1)?;
        session.press(ENTER)?;
        expect(&session, "both codes belong together")?;
        // And the button alone.
        session.open(&goods.sold[2].0)?;
        for _ in 0..4 {
            session.press(TAB)?;
        }
        session.press(ENTER)?;
        expect(&session, "you are the first to check it")?;
        Ok(())
    });
}

#[test]
fn an_issuer_that_is_away_and_a_crowd_are_explained() {
    let plan = Plan {
        members: vec![("brand", "brand"), ("media", "media")],
        ..Plan::one()
    };
    story("browser-away", &plan, |driver, network, goods| {
        let media = network[1].client();
        let url =
            |code: &str| Ok::<_, anyhow::Error>(format!("http://{}{}", media.http, path(code)?));
        network[0].kill()?;
        let mut results = Vec::new();
        for (screen, at) in [(PHONE, 0), (DESKTOP, 1)] {
            let session = driver.session(screen, "en")?;
            session.open(&url(&goods.sold[at].0)?)?;
            expect(&session, "Cannot be checked right now")?;
            results.push(check(&session)?);
            expect(&session, "Cannot be checked right now")?;
            ensure!(
                session
                    .text(".said")?
                    .contains("says nothing about your product")
            );
            session.audit("away")?;
        }
        // The brand is back: the same page tells its answer.
        network.start()?;
        let session = driver.session(PHONE, "en")?;
        for url in &results {
            until("the answer of the brand", 3 * PATIENCE, || {
                session.open(url)?;
                let found = session.text("h1")?;
                ensure!(found.contains("you are the first to check it"), "{found}");
                Ok(())
            })?;
            ensure!(session.text("main")?.contains("It has answered since"));
        }
        session.audit("answered-later")?;
        drop(session);
        let brand = network[0].client();
        // A crowd of guesses from one address: those for whom there is no place to wait are told to come back. A right code would be let in then,
        // so the page is that of a guess too.
        let mut invented = goods.sold[5].0.clone();
        let last = invented.pop().context("a code")?;
        invented.push(if last == '0' { '1' } else { '0' });
        for i in 0..45 {
            let body = format!(r#"{{"gtin":"{}","serial":"{i:020}"}}"#, goods.product);
            let headers = [("content-type", "application/json")];
            request(&brand.http, "POST", "/v1/scans", &headers, body.as_bytes())?;
        }
        let over = Arc::new(AtomicBool::new(false));
        let crowd: Vec<_> = (0..12)
            .map(|_| {
                let (http, over) = (brand.http.clone(), Arc::clone(&over));
                let path = path(&invented)?;
                Ok(std::thread::spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        // Turned away or answered late; either is what a crowd gets.
                        let _ = get(&http, &path);
                        std::thread::sleep(Duration::from_millis(50));
                    }
                }))
            })
            .collect::<Result<_>>()?;
        let seen = [PHONE, DESKTOP].into_iter().try_for_each(|screen| {
            let session = driver.session(screen, "en")?;
            until("a page that asks to wait", 2 * PATIENCE, || {
                session.open(&invented)?;
                let found = session.text("h1")?;
                ensure!(found.contains("Please wait a moment"), "{found}");
                Ok(())
            })?;
            session.audit("slow-down").map(drop)
        });
        over.store(true, Ordering::SeqCst);
        for thread in crowd {
            thread.join().ok().context("the crowd")?;
        }
        seen
    });
}
