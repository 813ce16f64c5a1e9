//! A process of a container, as the agent sees it: made, started, ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::stream::Kind;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::{AgentError, Doing};
use crate::exits::{Exit, Exits};
use crate::line::{self, Outer, Word};
use crate::poll::Pollable;
use crate::raw;
use crate::run::{self, Order};
use crate::spec::IdMapping;
use crate::streams::Streams;

/// How long a process may take to be made, and to be connected before it starts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which streams a process has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// They are all one terminal.
    pub(crate) terminal: bool,
}

/// The users of a container that are others outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mappings {
    pub(crate) users: Vec<IdMapping>,
    pub(crate) groups: Vec<IdMapping>,
}

/// A process.
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// To it while it has not started.
    line: tokio::sync::Mutex<Option<Outer>>,
    exit: watch::Receiver<Option<Exit>>,
    streams: Mutex<Streams>,
    terminal: Option<Arc<Pollable>>,
}

impl Process {
    /// Makes one that is ready to start.
    ///
    /// # Errors
    ///
    /// It cannot be made: the sentence is its own.
    pub(crate) async fn make(
        order: &Order,
        wanted: Wanted,
        mappings: &Mappings,
        exits: &Arc<Exits>,
    ) -> Result<Self, AgentError> {
        let expecting = exits.expect();
        let (ends, stdio) = pipes(wanted).doing("make the process's streams")?;
        let (outer, inner) = line::pair().doing("make a process")?;
        spawn(order, stdio, inner)?;
        let mut born = Born::default();
        let made = timeout(PATIENCE, born.listen(&outer, mappings)).await;
        let result = made.unwrap_or_else(|_| {
            Err(AgentError::Failed(
                "the process is not ready after a minute".into(),
            ))
        });
        let Some(pid) = born.pid else {
            result?;
            return Err(AgentError::Failed(
                "the process ended while it was made".into(),
            ));
        };
        let exit = exits.of(pid);
        drop(expecting);
        if let Err(error) = result {
            // It has ended by itself.
            let _ = raw::kill(pid, libc::SIGKILL);
            return Err(error);
        }
        let mut streams = Streams::new(ends, exit.clone());
        if let Some(terminal) = &born.terminal {
            for (kind, is_wanted) in [(Kind::Stdin, wanted.stdin), (Kind::Stdout, wanted.stdout)] {
                if is_wanted {
                    streams.add(kind, Arc::clone(terminal));
                }
            }
        }
        Ok(Self {
            pid,
            line: tokio::sync::Mutex::new(Some(outer)),
            exit,
            streams: Mutex::new(streams),
            terminal: born.terminal,
        })
    }

    /// Starts its program, once all of its streams are connected.
    ///
    /// # Errors
    ///
    /// It has been started, or ended; a stream is not connected; the program cannot be run.
    pub(crate) async fn start(&self) -> Result<(), AgentError> {
        let mut left = self.streams().left();
        if timeout(PATIENCE, left.wait_for(|left| *left == 0))
            .await
            .is_err()
        {
            return Err(AgentError::State(
                "the process has streams that nobody is connected to: connect them first".into(),
            ));
        }
        let Some(line) = self.line.lock().await.take() else {
            return Err(AgentError::State(
                "the process has been started already".into(),
            ));
        };
        let ended = || AgentError::State("the process has ended already".into());
        line.go().map_err(|_| ended())?;
        match line.hear().await.doing("hear whether the program runs")? {
            Word::Failed(_, why) => Err(AgentError::Failed(why)),
            _ => Ok(()),
        }
    }

    /// Whether it has not been started yet.
    pub(crate) async fn is_new(&self) -> bool {
        self.line.lock().await.is_some()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits for its end, and until all that it wrote is passed on.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await;
        let exit = exit.ok().and_then(|exit| *exit);
        let mut undrained = self.streams().undrained();
        // An error: nothing is left that could be passed on.
        let _ = undrained.wait_for(|left| *left == 0).await;
        exit.unwrap_or_else(|| Exit::now(u8::MAX))
    }

    /// Waits for its end, whatever it wrote.
    pub(crate) async fn ended_only(&self) {
        // An error is an end that nobody could tell of.
        let _ = self.exit.clone().wait_for(Option::is_some).await;
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It has ended, or the number is none of a signal's.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), AgentError> {
        if self.ended().is_some() {
            return Err(AgentError::State("the process has ended already".into()));
        }
        raw::kill(self.pid, signal).doing(format!("send the signal {signal}"))
    }

    /// Gives its terminal another size.
    ///
    /// # Errors
    ///
    /// It has no terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<(), AgentError> {
        let terminal = self
            .terminal
            .as_ref()
            .ok_or_else(|| AgentError::State("the process has no terminal".into()))?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(terminal.as_ref(), size).doing("resize the terminal")
    }

    /// Its streams.
    pub(crate) fn streams(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a process that is being made.
#[derive(Default)]
struct Born {
    pid: Option<u32>,
    terminal: Option<Arc<Pollable>>,
    is_ready: bool,
}

impl Born {
    /// Hears the process out until it is ready.
    async fn listen(&mut self, line: &Outer, mappings: &Mappings) -> Result<(), AgentError> {
        let mut mapper = None;
        // The process and who has made it speak for themselves: either may be the first.
        while self.pid.is_none() || !self.is_ready {
            match line.hear().await.doing("hear of the process")? {
                Word::Spawned(pid) => mapper = Some(pid),
                Word::Pid(pid) => self.pid = Some(pid),
                Word::Map => {
                    map(mapper.unwrap_or_default(), mappings)?;
                    line.go().doing("map the container's users")?;
                }
                Word::Terminal(terminal) => {
                    let terminal = Pollable::new(terminal).doing("use the terminal")?;
                    self.terminal = Some(Arc::new(terminal));
                }
                Word::Ready => self.is_ready = true,
                Word::Failed(_, why) => return Err(AgentError::Failed(why)),
                Word::End => {
                    return Err(AgentError::Failed(
                        "the process ended while it was made".into(),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Writes which users and groups of the container are which outside.
fn map(process: u32, mappings: &Mappings) -> Result<(), AgentError> {
    for (file, mappings) in [("uid_map", &mappings.users), ("gid_map", &mappings.groups)] {
        let text: String = mappings
            .iter()
            .map(|map| format!("{} {} {}\n", map.container, map.host, map.size))
            .collect();
        fs::write(format!("/proc/{process}/{file}"), text).doing("map the container's users")?;
    }
    Ok(())
}

/// Executes this program again to carry out the order.
fn spawn(order: &Order, stdio: [Stdio; 3], line: OwnedFd) -> Result<(), AgentError> {
    let what = "make a process";
    let text = serde_json::to_vec(order)
        .map_err(std::io::Error::from)
        .doing(what)?;
    let file = memfd_create("order", MemfdFlags::CLOEXEC).doing(what)?;
    let mut file = fs::File::from(file);
    file.write_all(&text).doing(what)?;
    std::io::Seek::rewind(&mut file).doing(what)?;
    let file = OwnedFd::from(file);
    let [stdin, stdout, stderr] = stdio;
    // The agent has one thread, so nobody else executes anything while these are not closed by that.
    for fd in [&line, &file] {
        fcntl_setfd(fd, FdFlags::empty()).doing(what)?;
    }
    let numbers = [&line, &file].map(|fd| fd.as_raw_fd().to_string());
    // Not by its path in the guest, which it is not found by any more once the root has changed.
    Command::new(Path::new("/proc/self/exe"))
        .arg(run::MODE)
        .args(numbers)
        .env_clear()
        .current_dir("/")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .doing(what)?;
    // The process has its own now, and the line ends with that.
    drop(line);
    Ok(())
}

type Ends = BTreeMap<Kind, Arc<Pollable>>;

/// The agent's ends of the streams, and the process's. A terminal comes to be in the container.
fn pipes(wanted: Wanted) -> std::io::Result<(Ends, [Stdio; 3])> {
    let mut ends = Ends::new();
    let mut stdio = [Stdio::null(), Stdio::null(), Stdio::null()];
    if wanted.terminal {
        return Ok((ends, stdio));
    }
    let all = [
        (Kind::Stdin, wanted.stdin),
        (Kind::Stdout, wanted.stdout),
        (Kind::Stderr, wanted.stderr),
    ];
    for ((kind, is_wanted), place) in all.into_iter().zip(&mut stdio) {
        if !is_wanted {
            continue;
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let (mine, its) = if kind == Kind::Stdin {
            (writer, reader)
        } else {
            (reader, writer)
        };
        *place = Stdio::from(its);
        ends.insert(kind, Arc::new(Pollable::new(mine)?));
    }
    Ok((ends, stdio))
}
