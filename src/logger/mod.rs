//! What ravelin says of itself: log lines, and what the user is told in any case.
//!
//! A logger has one of two faces, for good. **ravelin's own** writes for people, on stderr or into a log file.
//! **Firecracker's** writes lines in its format, on stdout until it is told where (`PUT /logger`). Both write a
//! line an event, at once and bounded; lines that a guest can cause are limited for each place in the source
//! that writes them.

mod clock;
mod limit;
mod output;
#[cfg(test)]
mod tests;
mod text;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::OFlags;
use vmm::line_file::{LineFile, LineFileError};
use vmm::metrics::process::Logger as Counts;
use vmm::outside;
use vmm::spec::{LogLevel, LoggerConfig};

use limit::Limits;
use output::{Output, write_stderr};
use text::Show;

use crate::console::terminal;

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Modules whose lines no guest can cause: they speak of what a user asks for.
const UNLIMITED: [&str; 3] = ["ravelin", "vmm::controller", "vmm::command"];

/// Who writes lines.
#[derive(Debug)]
struct Logger {
    face: Face,
    start: Instant,
    state: Mutex<State>,
}

/// How lines look.
#[derive(Debug)]
enum Face {
    /// For people; they begin with `ravelin` and the VM's name.
    Ravelin(String),
    /// As Firecracker's, with the VM's id.
    Firecracker(String),
}

/// What may change.
#[derive(Debug)]
struct State {
    output: Output,
    /// Only lines of modules whose path begins with this.
    module: Option<String>,
    show: Show,
    limits: Limits,
    counts: Arc<Counts>,
}

/// Sends log lines of at least `level` to `file`, or to stderr. The lines begin with `name`, if there is one.
///
/// # Errors
/// When the file cannot be opened for appending.
pub(crate) fn init(level: LevelFilter, file: Option<&Path>, name: Option<&str>) -> io::Result<()> {
    let speaker = name.map_or_else(|| "ravelin".to_owned(), |name| format!("ravelin {name}"));
    let file = file.map(|path| {
        // A pipe that nobody reads is an error, and one that is full loses lines: neither stops ravelin.
        let how = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        outside::open(path, how | OFlags::NONBLOCK)
    });
    // A file that cannot be opened is told of under the VM's name already.
    let (output, error) = match file.transpose() {
        Ok(Some(file)) => (Output::File(LineFile::over(file)), None),
        Ok(None) => (Output::Stderr, None),
        Err(error) => (Output::Stderr, Some(error)),
    };
    install(Face::Ravelin(speaker), output, level);
    error.map_or(Ok(()), Err)
}

/// Sends log lines in Firecracker's format to stdout, those of at least Firecracker's default level, until
/// [`reconfigure`] says otherwise. `id` is the VM's.
pub(crate) fn firecracker(id: &str) {
    install(
        Face::Firecracker(id.to_owned()),
        Output::Stdout,
        LogLevel::default().into(),
    );
}

/// Changes where lines go, which, and how they look. What is not named stays, but for the level: that is then
/// Firecracker's default.
///
/// # Errors
/// When the file cannot be opened; nothing has changed then.
pub(crate) fn reconfigure(config: &LoggerConfig) -> Result<(), LineFileError> {
    if let Some(logger) = LOGGER.get() {
        logger.reconfigure(config)?;
    }
    log::set_max_level(config.level.unwrap_or_default().into());
    Ok(())
}

/// Counts lines that are lost in `counts` from now on, and what was lost so far.
pub(crate) fn count_into(counts: &Arc<Counts>) {
    if let Some(logger) = LOGGER.get() {
        logger.count_into(counts);
    }
}

/// Tells the user on stderr, whatever the log's level. The log file has it as well.
pub(crate) fn tell(text: &str) {
    let speaker = match LOGGER.get().map(|logger| &logger.face) {
        Some(Face::Ravelin(speaker)) => speaker.as_str(),
        _ => "ravelin",
    };
    // A stderr that is gone stops nothing.
    let _ = write_stderr(&format!("{speaker}: {text}\n"));
    note(text);
}

/// Writes into the log file, if there is one, what stands on stderr or is kept from it.
pub(crate) fn note(text: &str) {
    if let Some(logger) = LOGGER.get() {
        logger.note(text);
    }
}

/// Now, in local time with nanoseconds, as Firecracker's log lines begin.
pub(crate) fn nanoseconds() -> String {
    clock::local(SystemTime::now())
}

fn install(face: Face, output: Output, level: LevelFilter) {
    // Reads the time zone, while files can be opened.
    clock::local(SystemTime::now());
    // And whether there is a terminal, while that can be asked.
    terminal::is_on_stderr();
    let logger = LOGGER.get_or_init(|| Logger::new(face, output));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

impl Logger {
    fn new(face: Face, output: Output) -> Self {
        Self {
            face,
            start: Instant::now(),
            state: Mutex::new(State {
                output,
                module: None,
                show: Show::default(),
                limits: Limits::default(),
                counts: Arc::default(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reconfigure(&self, config: &LoggerConfig) -> Result<(), LineFileError> {
        let file = config.log_path.as_ref().map(Path::new);
        let file = file.map(LineFile::open).transpose()?;
        let mut state = self.state();
        if let Some(file) = file {
            state.output = Output::File(file);
        }
        state.show.level = config.show_level.unwrap_or(state.show.level);
        state.show.origin = config.show_log_origin.unwrap_or(state.show.origin);
        if config.module.is_some() {
            state.module.clone_from(&config.module);
        }
        Ok(())
    }

    fn count_into(&self, counts: &Arc<Counts>) {
        let before = std::mem::replace(&mut self.state().counts, Arc::clone(counts));
        counts.missed_log_count.add(before.missed_log_count.get());
        counts
            .rate_limited_log_count
            .add(before.rate_limited_log_count.get());
    }

    fn note(&self, text: &str) {
        match &self.face {
            Face::Firecracker(_) => log::info!("{text}"),
            Face::Ravelin(speaker) => {
                let mut state = self.state();
                if let Output::File(_) = state.output {
                    let begin = format!("{} {speaker}: ", clock::utc(SystemTime::now()));
                    state.write(&format!("{begin}{text}\n"));
                }
            }
        }
    }

    /// Writes the record, if it is wanted and its place may.
    fn write(&self, record: &Record<'_>, now: Instant) {
        let mut state = self.state();
        if !state.wants(record) {
            return;
        }
        match state.admit(record, now) {
            None => return state.counts.rate_limited_log_count.increment(),
            Some(0) => {}
            Some(suppressed) => {
                let words = "messages were suppressed due to rate limiting";
                let warning = Record::builder()
                    .level(Level::Warn)
                    .file(record.file())
                    .line(record.line())
                    .build();
                let line = self.line(&state, &warning, format_args!("{suppressed} {words}"));
                state.write(&line);
            }
        }
        let line = self.line(&state, record, *record.args());
        state.write(&line);
    }

    fn line(&self, state: &State, record: &Record<'_>, args: std::fmt::Arguments<'_>) -> String {
        let time = SystemTime::now();
        let begin = match &self.face {
            Face::Firecracker(id) => text::firecracker(time, id, state.show, record),
            Face::Ravelin(speaker) => {
                let level = text::word(record.level());
                let begin = match state.output {
                    Output::File(_) => format!("{} {speaker}: ", clock::utc(time)),
                    _ => format!("{speaker}: "),
                };
                // Whoever looks that closely wants to know when.
                if log::max_level() >= LevelFilter::Debug {
                    let since = self.start.elapsed().as_secs_f64();
                    format!("{begin}{since:.4} s {level}: ")
                } else {
                    format!("{begin}{level}: ")
                }
            }
        };
        text::line(&begin, args)
    }
}

impl State {
    fn wants(&self, record: &Record<'_>) -> bool {
        let module = record.module_path().unwrap_or_default();
        let wanted = self.module.as_deref();
        wanted.is_none_or(|wanted| module.starts_with(wanted))
    }

    fn admit(&mut self, record: &Record<'_>, now: Instant) -> Option<u64> {
        let module = record.module_path().unwrap_or_default();
        if UNLIMITED.iter().any(|free| module.starts_with(free)) {
            return Some(0);
        }
        let file = record.file_static().unwrap_or_default();
        self.limits
            .admit((file, record.line().unwrap_or_default()), now)
    }

    /// A line that cannot be written stops nothing.
    fn write(&mut self, line: &str) {
        if self.output.write(line).is_err() {
            self.counts.missed_log_count.increment();
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.write(record, Instant::now());
        }
    }

    fn flush(&self) {}
}
