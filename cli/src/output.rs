//! How the program speaks: data on stdout, everything else on stderr; colours only for people.
//!
//! Exit codes: 0 done, 1 failed (the error has a code), 2 wrong usage, 3 the contract refused (reverted or answered
//! with an error).

use phala_primitives::{Code, Coded};
use std::io::{IsTerminal, Write};

/// Exit code when a contract refuses.
pub(crate) const REFUSED: u8 = 3;

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
    quiet: bool,
}

/// A colour with a meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    /// It worked.
    Good,
    /// Take care.
    Warn,
    /// It failed.
    Bad,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

impl Output {
    /// Output for these options and this terminal.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::io::stderr().is_terminal();
        Self { json, colour, quiet }
    }

    /// `text` in a tone, if the terminal shows colours.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A line of progress for people.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
        }
    }

    /// A finished step for people.
    pub(crate) fn done(&self, line: impl AsRef<str>) {
        self.say(format!("{} {}", self.paint(Tone::Good, "✓"), line.as_ref()));
    }

    /// A warning for people.
    pub(crate) fn warn(&self, line: impl AsRef<str>) {
        self.say(format!("{} {}", self.paint(Tone::Warn, "!"), line.as_ref()));
    }

    /// The answer: `json` for programs, otherwise `text`.
    pub(crate) fn data(&self, json: &serde_json::Value, text: impl AsRef<str>) {
        let line = if self.json { json.to_string() } else { text.as_ref().to_owned() };
        let mut out = std::io::stdout().lock();
        // A closed pipe is the reader's decision, no error of ours.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// An answer for programs only, where people have seen it already.
    pub(crate) fn json_only(&self, json: &serde_json::Value) {
        if self.json {
            self.data(json, "");
        }
    }

    /// A bar that moves while something takes longer than a moment; nothing in JSON or without a terminal.
    pub(crate) fn spinner(&self, what: &str) -> indicatif::ProgressBar {
        if self.quiet || self.json || !std::io::stderr().is_terminal() {
            return indicatif::ProgressBar::hidden();
        }
        let bar = indicatif::ProgressBar::new_spinner();
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        bar
    }

    /// Prints an error with its code, cause and way out.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let coded = error.chain().find_map(|cause| cause.downcast_ref::<Coded>());
        if self.json {
            let known = coded.and_then(Coded::known);
            let json = serde_json::json!({ "error": {
                "code": coded.map(|c| format!("P{}", c.code)),
                "message": format!("{error:#}"),
                "help": known.map(Code::way_out),
            }});
            let _ = writeln!(std::io::stdout(), "{json}");
            return;
        }
        let label = coded.map_or_else(|| "error".to_owned(), |c| format!("error[P{}]", c.code));
        let text = match coded {
            Some(c) => {
                let text = format!("{error:#}");
                text.strip_prefix(&format!("P{}: ", c.code)).unwrap_or(&text).to_owned()
            }
            None => format!("{error:#}"),
        };
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "{}: {text}", self.paint(Tone::Bad, &label));
        if let Some(known) = coded.and_then(Coded::known) {
            let _ = writeln!(err, "  {} {}", self.paint(Tone::Bold, "help:"), known.way_out());
            let _ = writeln!(err, "  {} docs/errors.md#p{}", self.paint(Tone::Dim, "docs:"), known as u16);
        }
    }
}
