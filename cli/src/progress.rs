//! Progress bars on standard error; none where nobody watches.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// How far a long job is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Progress {
    /// Steps done.
    #[serde(default)]
    pub(crate) done: u64,
    /// Steps in all; 0 if not known.
    #[serde(default)]
    pub(crate) total: u64,
    /// What is being done.
    #[serde(default)]
    pub(crate) what: String,
}

/// A bar that appears with the first news.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    shown: bool,
}

impl Bar {
    /// A bar, unless output is for programs or standard error is no terminal.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            bar: None,
            shown: !json && std::io::stderr().is_terminal(),
        }
    }

    /// Shows news.
    pub(crate) fn update(&mut self, news: &Progress) {
        if !self.shown {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        let template = if news.total > 0 {
            "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}"
        } else {
            "{spinner} {msg} {human_pos}"
        };
        if bar.length() != (news.total > 0).then_some(news.total) || bar.message().is_empty() {
            // The templates are constants; the default style stands in for one that is wrong.
            bar.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            if news.total > 0 {
                bar.set_length(news.total);
            }
        }
        bar.set_message(output::plain(&news.what).replace('\n', " "));
        bar.set_position(news.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
