//! `containerd-shim-ravelin-v2`: what containerd starts to run a container in a microVM.
//!
//! `start` begins a shim for a container and prints where it answers; `delete` clears up behind one that is gone;
//! `-info` says who this is; without a word it is the shim, and serves containerd's Task service on its stdin.

mod address;
mod agent;
mod arguments;
mod bundle;
mod cgroup;
mod delete;
mod events;
mod files;
mod info;
mod journal;
mod laps;
mod metrics;
mod pod;
mod process;
mod rootfs;
mod serve;
mod service;
mod spec;
mod start;
mod stdio;
mod vm;

use std::process::ExitCode;

use arguments::{Act, Arguments};

fn main() -> ExitCode {
    match Arguments::read(std::env::args().skip(1))
        .map_err(Failure::from)
        .and_then(|arguments| act(&arguments))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("containerd-shim-ravelin-v2: {failure}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn act(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.act {
        Act::Version => Ok(info::say_version()?),
        Act::Info => Ok(info::answer()?),
        Act::Start => start::start(arguments),
        Act::Delete => delete::answer(arguments),
        Act::Serve => serve::serve(arguments),
    }
}
