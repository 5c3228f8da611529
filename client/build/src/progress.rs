//! What a build tells while it runs.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// A step of a build, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Stage {
    /// Finding the package and its ink! version.
    Inspect,
    /// Looking for the WebAssembly target.
    Target,
    /// Compiling to WebAssembly.
    Compile,
    /// Making the code smaller with binaryen.
    Optimise,
    /// Dropping what nobody reads, and checking the rest.
    Clean,
    /// Describing messages and types.
    Metadata,
    /// Writing the files.
    Write,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inspect => "inspect",
            Self::Target => "target",
            Self::Compile => "compile",
            Self::Optimise => "optimise",
            Self::Clean => "clean",
            Self::Metadata => "metadata",
            Self::Write => "write",
        })
    }
}

/// What happens in a build.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A stage began.
    Began(Stage),
    /// A program that this stage runs said a line.
    Said(Stage, String),
    /// A stage is done.
    Ended {
        /// Which.
        stage: Stage,
        /// How long it took.
        took: Duration,
        /// What came of it, in a few words.
        note: String,
    },
}

/// Tells events of one stage after the other.
pub(crate) struct Reporter<'a> {
    tell: &'a mut dyn FnMut(Event),
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(tell: &'a mut dyn FnMut(Event)) -> Self {
        Self { tell }
    }

    /// Runs a stage. The work gets a function that takes lines, and gives its result with a note.
    pub(crate) fn stage<T, E>(
        &mut self,
        stage: Stage,
        work: impl FnOnce(&mut dyn FnMut(&str)) -> Result<(T, String), E>,
    ) -> Result<T, E> {
        (self.tell)(Event::Began(stage));
        let start = Instant::now();
        let tell = &mut self.tell;
        let (value, note) = work(&mut |line| tell(Event::Said(stage, line.to_owned())))?;
        (self.tell)(Event::Ended { stage, took: start.elapsed(), note });
        Ok(value)
    }
}
