//! What is kept: images by name, disks by number.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use image::cache::{Cache as Store, Outcome, Record};
use image::reference::Location;
use serde_json::{Value, json};

use super::Failure;

/// What can be done with disks.
#[derive(Subcommand)]
pub(super) enum Cache {
    /// List disks, those first that were used last
    Ls,
    /// Remove disks that nobody uses
    Rm(Disks),
}

/// Disks.
#[derive(Args)]
pub(super) struct Disks {
    /// Their numbers, or how these begin
    #[arg(value_name = "DISK", required_unless_present = "all")]
    disks: Vec<String>,
    /// All that nobody uses
    #[arg(long)]
    all: bool,
}

/// Lists images.
pub(super) fn images(cache: &Store, json: bool) -> Result<(), Failure> {
    let kept = cache.list()?;
    let records = cache.records()?;
    let disk = |record: &Record| {
        let id = Store::id_of(&record.chain);
        kept.iter().find(|disk| disk.id == id)
    };
    if json {
        let all: Value = records
            .iter()
            .map(|record| {
                let disk = disk(record);
                json!({
                    "image": record.name,
                    "digest": record.digest,
                    "taken_at": record.taken_at,
                    "disk": disk.map(|disk| &disk.path),
                    "bytes": disk.map(|disk| disk.bytes),
                    "in_use": disk.is_some_and(|disk| disk.is_held),
                })
            })
            .collect();
        return Ok(writeln!(io::stdout(), "{all:#}")?);
    }
    let rows = records.iter().map(|record| {
        let disk = disk(record);
        let size = disk.map_or_else(|| "-".into(), |disk| mib(disk.bytes));
        let used = disk.is_some_and(|disk| disk.is_held);
        let used = if used { "yes" } else { "no" };
        [
            record.name.clone(),
            short(&record.digest),
            size,
            used.into(),
            age(record.taken_at),
        ]
    });
    table(
        ["IMAGE", "DIGEST", "SIZE", "IN USE", "TAKEN"],
        rows.collect(),
    )
}

/// Forgets images.
pub(super) fn remove(cache: &Store, names: &[String]) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let known = |name: &str| cache.record(name);
        let spelt = || known(&Location::parse(name).ok()?.name());
        let Some(record) = known(name).or_else(spelt) else {
            eprintln!("ravelin-image: there is no image {name}: `ravelin images` lists them");
            code = ExitCode::FAILURE;
            continue;
        };
        cache.forget(&record.name)?;
        let is_shared = cache
            .records()?
            .iter()
            .any(|other| other.chain == record.chain);
        if !is_shared && cache.remove(&Store::id_of(&record.chain))? == Outcome::Held {
            eprintln!(
                "ravelin-image: the disk of {name} is in use and stays until it is not: ravelin cache rm --all"
            );
        }
    }
    Ok(code)
}

/// Lists or removes disks.
pub(super) fn run(cache: &Store, command: &Cache, json: bool) -> Result<ExitCode, Failure> {
    match command {
        Cache::Ls => disks(cache, json).map(|()| ExitCode::SUCCESS),
        Cache::Rm(which) => remove_disks(cache, which),
    }
}

fn disks(cache: &Store, json: bool) -> Result<(), Failure> {
    let kept = cache.list()?;
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    if json {
        let all: Value = kept
            .iter()
            .map(|disk| {
                json!({
                    "id": disk.id,
                    "path": disk.path,
                    "bytes": disk.bytes,
                    "used_at": seconds(disk.used),
                    "in_use": disk.is_held,
                })
            })
            .collect();
        return Ok(writeln!(io::stdout(), "{all:#}")?);
    }
    let rows = kept.iter().map(|disk| {
        let used = if disk.is_held { "yes" } else { "no" };
        [
            disk.id[..12].to_owned(),
            mib(disk.bytes),
            used.into(),
            age(seconds(disk.used)),
        ]
    });
    table(["DISK", "SIZE", "IN USE", "LAST USED"], rows.collect())
}

fn remove_disks(cache: &Store, which: &Disks) -> Result<ExitCode, Failure> {
    let kept = cache.list()?;
    let mut code = ExitCode::SUCCESS;
    let mut chosen: Vec<&str> = Vec::new();
    for name in &which.disks {
        let mut same = kept
            .iter()
            .filter(|disk| disk.id.starts_with(name.as_str()));
        match (same.next(), same.next()) {
            (Some(disk), None) => chosen.push(&disk.id),
            (found, _) => {
                let many = if found.is_some() {
                    "several disks begin"
                } else {
                    "no disk begins"
                };
                eprintln!("ravelin-image: {many} with {name}: `ravelin cache ls` lists them");
                code = ExitCode::FAILURE;
            }
        }
    }
    if which.all {
        chosen = kept.iter().map(|disk| disk.id.as_str()).collect();
    }
    for id in chosen {
        if cache.remove(id)? == Outcome::Held && !which.all {
            eprintln!(
                "ravelin-image: the disk {} is in use: end the VM that has it first",
                &id[..12]
            );
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn mib(bytes: u64) -> String {
    format!("{}M", bytes.div_ceil(1 << 20))
}

/// The start of a digest: enough for people.
fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

fn age(then: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = now.as_secs().saturating_sub(then);
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

fn table<const N: usize>(headings: [&str; N], rows: Vec<[String; N]>) -> Result<(), Failure> {
    let mut all = vec![headings.map(str::to_owned)];
    all.extend(rows);
    let widths: [usize; N] = std::array::from_fn(|at| {
        all.iter()
            .map(|row| row[at].chars().count())
            .max()
            .unwrap_or(0)
    });
    let mut out = io::stdout().lock();
    for row in all {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
