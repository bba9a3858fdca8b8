//! Just enough of the WebDriver protocol (W3C WebDriver 2) to drive Chromium: each command is one HTTP request to chromedriver.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The bytes that a page may take with all it fetches.
pub(crate) const MAX_PAGE_BYTES: u64 = 30_000;

const AUDIT: &str = include_str!("audit.js");
const CHROMIUM: &str = "/usr/bin/chromium";
const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
/// How long one command may take; the first starts a browser.
const PATIENCE: Duration = Duration::from_secs(180);
/// The key under which the protocol hands elements over.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Why there is no browser on this machine; `None` if there is one.
pub(crate) fn missing() -> Option<String> {
    [CHROMIUM, CHROMEDRIVER]
        .iter()
        .find(|path| !Path::new(path).exists())
        .map(|path| format!("{path} is missing (Debian: apt-get install chromium chromium-driver)"))
}

/// The driver's process; ended by its id when dropped, with every browser that it started.
pub(crate) struct Driver {
    child: Child,
    address: String,
    profiles: PathBuf,
    screenshots: PathBuf,
    /// The source of axe-core.
    axe: Option<Rc<str>>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The driver is a process group of its own, and its browsers are in it: none is left, whatever went wrong.
        if let Ok(id) = i32::try_from(self.child.id())
            && let Some(group) = rustix::process::Pid::from_raw(id)
        {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// The screen of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    pub(crate) name: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) phone: bool,
}

pub(crate) const PHONE: Screen = Screen {
    name: "phone",
    width: 360,
    height: 740,
    phone: true,
};
pub(crate) const DESKTOP: Screen = Screen {
    name: "desktop",
    width: 1280,
    height: 800,
    phone: false,
};

impl Driver {
    /// Starts chromedriver on a port of its own choice. Profiles lie in `dir`; screenshots in `TALLY_SCREENSHOTS`, by default
    /// `target/screenshots` of the workspace.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let screenshots = std::env::var_os("TALLY_SCREENSHOTS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots"),
            PathBuf::from,
        );
        fs::create_dir_all(&screenshots)?;
        let axe = match std::env::var_os("TALLY_AXE") {
            Some(path) => Some(
                fs::read_to_string(&path)
                    .with_context(|| path.display().to_string())?
                    .into(),
            ),
            None => {
                let reason = "TALLY_AXE names no axe.min.js (npm install axe-core)";
                tally_tests::skip("the judgement of axe-core", reason);
                None
            }
        };
        let mut child = Command::new(CHROMEDRIVER)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start chromedriver")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let port = line.split("started successfully on port ").nth(1)?;
                Some(port.trim_end_matches('.').to_owned())
            })
            .context("chromedriver names no port")?;
        // Whoever writes must be read.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            address: format!("127.0.0.1:{port}"),
            profiles: dir.to_owned(),
            screenshots,
            axe,
        })
    }

    /// A browser with an empty profile.
    pub(crate) fn session(&self, screen: Screen, language: &str) -> Result<Session> {
        let profile = tempfile::tempdir_in(&self.profiles)?;
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", profile.path().display()),
            &format!("--window-size={},{}", screen.width, screen.height),
            &format!("--accept-lang={language}"),
        ];
        let mut options = json!({
            "binary": CHROMIUM,
            "args": args,
            "prefs": {
                "intl.accept_languages": language,
            },
        });
        if screen.phone {
            options["mobileEmulation"] = json!({
                "deviceMetrics": {
                    "width": screen.width, "height": screen.height, "pixelRatio": 2.0, "touch": true,
                },
            });
        }
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options});
        let made = command(
            &self.address,
            "POST",
            "/session",
            &json!({"capabilities": {"alwaysMatch": wanted}}),
        )
        .context("start chromium")?;
        let id = made["sessionId"].as_str().context("a session")?;
        Ok(Session {
            address: self.address.clone(),
            path: format!("/session/{id}"),
            screen,
            screenshots: self.screenshots.clone(),
            axe: self.axe.clone(),
            _profile: profile,
        })
    }
}

/// One command; gives its value. The driver keeps connections open, so an answer ends where its length says.
fn command(address: &str, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = if method == "POST" {
        body.to_string()
    } else {
        String::new()
    };
    let mut stream = TcpStream::connect(address).context("connect to chromedriver")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut length) = (String::new(), 0);
    reader.read_line(&mut status)?;
    loop {
        let mut line = String::new();
        reader
            .read_line(&mut line)
            .with_context(|| format!("{method} {path}: no answer"))?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut answer = Vec::new();
    reader.take(length).read_to_end(&mut answer)?;
    let value = serde_json::from_slice::<Value>(&answer)
        .with_context(|| format!("{method} {path}: {status}"))?["value"]
        .take();
    if status.split(' ').nth(1) != Some("200") {
        bail!("{method} {path}: {} {}", value["error"], value["message"]);
    }
    Ok(value)
}

/// One window; closed with its browser when dropped.
pub(crate) struct Session {
    address: String,
    path: String,
    screen: Screen,
    screenshots: PathBuf,
    axe: Option<Rc<str>>,
    _profile: tempfile::TempDir,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = command(&self.address, "DELETE", &self.path, &Value::Null);
    }
}

impl Session {
    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        command(
            &self.address,
            "POST",
            &format!("{}/{path}", self.path),
            body,
        )
    }

    fn get(&self, path: &str) -> Result<Value> {
        command(
            &self.address,
            "GET",
            &format!("{}/{path}", self.path),
            &Value::Null,
        )
    }

    /// Opens a page.
    pub(crate) fn open(&self, url: &str) -> Result<()> {
        self.post("url", &json!({"url": url})).map(drop)
    }

    /// The address of the page in front.
    pub(crate) fn url(&self) -> Result<String> {
        let url = self.get("url")?;
        url.as_str().map(str::to_owned).context("an address")
    }

    /// Loads the page again.
    pub(crate) fn reload(&self) -> Result<()> {
        self.post("refresh", &json!({})).map(drop)
    }

    fn find(&self, selector: &str) -> Result<String> {
        let found = self.post(
            "element",
            &json!({"using": "css selector", "value": selector}),
        )?;
        let id = found[ELEMENT].as_str().context("an element")?;
        Ok(format!("element/{id}"))
    }

    /// The text of the page's first `selector`, as it is seen.
    pub(crate) fn text(&self, selector: &str) -> Result<String> {
        let text = self.get(&format!("{}/text", self.find(selector)?))?;
        text.as_str().map(str::to_owned).context("a text")
    }

    /// Whether the page has a `selector`.
    pub(crate) fn has(&self, selector: &str) -> Result<bool> {
        let all = self.post(
            "elements",
            &json!({"using": "css selector", "value": selector}),
        )?;
        Ok(all.as_array().is_some_and(|all| !all.is_empty()))
    }

    /// Clicks; the next command waits for what comes.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        let element = self.find(selector)?;
        self.post(&format!("{element}/click"), &json!({})).map(drop)
    }

    /// Types into a field in place of what stands there.
    pub(crate) fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let field = self.find(selector)?;
        self.post(&format!("{field}/clear"), &json!({}))?;
        self.post(&format!("{field}/value"), &json!({"text": text}))
            .map(drop)
    }

    /// Gives a file to a field for files.
    pub(crate) fn choose(&self, selector: &str, file: &Path) -> Result<()> {
        let field = self.find(selector)?;
        let file = file.canonicalize()?;
        self.post(&format!("{field}/value"), &json!({"text": file}))
            .map(drop)
    }

    fn active(&self) -> Result<String> {
        let found = self.get("element/active")?;
        let id = found[ELEMENT].as_str().context("an element")?;
        Ok(format!("element/{id}"))
    }

    /// Presses a key wherever the focus is.
    pub(crate) fn press(&self, key: char) -> Result<()> {
        let active = self.active()?;
        self.post(&format!("{active}/value"), &json!({"text": key}))
            .map(drop)
    }

    /// The text of what has the focus.
    pub(crate) fn focus(&self) -> Result<String> {
        let text = self.get(&format!("{}/text", self.active()?))?;
        text.as_str().map(str::to_owned).context("a text")
    }

    /// Runs a script of this test in the page.
    pub(crate) fn execute(&self, script: &str) -> Result<Value> {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// A command of the browser's own protocol, through the driver.
    fn devtools(&self, name: &str, params: &Value) -> Result<Value> {
        self.post("goog/cdp/execute", &json!({"cmd": name, "params": params}))
    }

    /// Keeps a picture of the whole page.
    fn screenshot(&self, name: &str) -> Result<()> {
        let shot = self.devtools(
            "Page.captureScreenshot",
            &json!({"format": "png", "captureBeyondViewport": true}),
        )?;
        let png = STANDARD.decode(shot["data"].as_str().context("a picture")?)?;
        let file = format!("{name}-{}.png", self.screen.name);
        fs::write(self.screenshots.join(file), png)?;
        Ok(())
    }

    /// What axe-core finds against WCAG 2.1, levels A and AA, in the page in front: a judge that is not ours.
    fn axe(&self) -> Result<Vec<Value>> {
        let Some(source) = &self.axe else {
            return Ok(Vec::new());
        };
        self.execute(source)?;
        let script = "const done = arguments[0]; \
             axe.run(document, {runOnly: {type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}}) \
                .then(r => done({passes: r.passes.length, wrong: r.violations.map(v => \
                    v.id + ': ' + v.help + ' at ' + v.nodes.map(n => n.html).join(' | '))}), \
                    e => done({passes: 0, wrong: [String(e)]}));";
        let found = self.post("execute/async", &json!({"script": script, "args": []}))?;
        // A page on which no rule applies was not looked at.
        ensure!(
            found["passes"].as_u64() > Some(5),
            "axe-core found nothing to judge: {found}"
        );
        found["wrong"].as_array().cloned().context("a list")
    }

    /// Checks the page in front, in light and dark, and keeps pictures of it. Gives the bytes that it took.
    pub(crate) fn audit(&self, name: &str) -> Result<u64> {
        self.look_over(name, &[], 1..MAX_PAGE_BYTES)
    }

    /// As [`Self::audit`], for a page that may take so many bytes over the network and may have what is `allowed`.
    pub(crate) fn look_over(&self, name: &str, allowed: &[&str], may: Range<u64>) -> Result<u64> {
        let mut bytes = 0;
        for scheme in ["dark", "light"] {
            let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
            self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}))?;
            let found = self.execute(AUDIT)?;
            let wrong = found["wrong"].as_array().context("a list")?;
            let wrong: Vec<_> = wrong
                .iter()
                .filter(|w| !w.as_str().is_some_and(|w| allowed.contains(&w)))
                .collect();
            ensure!(
                wrong.is_empty(),
                "{name}, {}, {scheme}: {wrong:#?}",
                self.screen.name
            );
            let wrong = self.axe()?;
            ensure!(
                wrong.is_empty(),
                "{name}, {}, {scheme}, axe-core: {wrong:#?}",
                self.screen.name
            );
            bytes = found["bytes"].as_u64().context("bytes")?;
            ensure!(
                may.contains(&bytes),
                "{name}: {bytes} bytes, expected {may:?}"
            );
            match scheme {
                "dark" => self.screenshot(&format!("{name}-dark"))?,
                _ => self.screenshot(name)?,
            }
        }
        println!("{name} at {} wide: {bytes} bytes", self.screen.width);
        Ok(bytes)
    }
}
