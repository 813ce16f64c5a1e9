//! `ravelin gc`: removes what VMs have left behind that could not clear up.

use std::process::ExitCode;

use serde_json::json;

use super::print;
use super::style::{Cell, Style};
use crate::failure::{FAILED, Failure};
use crate::jail::cgroup;
use crate::registry::Registry;
use crate::remnant::{Fate, Remnant};

const AFTER_HELP: &str = "\
A VM clears up after itself, also when its monitor or the process outside of its jail is killed. What is left is what \
all its processes left that were killed in one moment, or a host that went down: a cgroup, an entry among the running \
VMs, a socket. None of it keeps a VM of the same name from starting.

What belongs to a VM that runs is never touched, nor what another program has made. Ravelin's own is: a cgroup \
NAME.PID or NAME.PID@NAMESPACE straight below one called ravelin.vms, an entry in the directory of running VMs (RAVELIN_RUNTIME_DIR, \
/run/ravelin for root), a note NAME.PID.vsock there, and the socket that either names. A running VM holds locks on its \
cgroups, its entry and its note, and the kernel ends a lock with its process.

Examples:
  ravelin gc --dry-run    what would be removed
  ravelin gc              at boot, or once a day: it does no harm
  ravelin gc --json | jq '.remnants[] | select(.fate == \"stays\")'

Exit status: 0 nothing is left behind, 1 something could not be removed, 2 wrong usage.";

/// Remove what killed VMs and host crashes have left behind
///
/// Each user's own: cgroups, entries and sockets of VMs that run no more. Root's are /run/ravelin's and all cgroups'.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Remove nothing, only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object: {dry_run, remnants: [{kind: cgroup|entry|socket, vm: name or null, path, fate:
    /// removed|found|foreign|stays, why: text where it is foreign or stays}]}
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// When the directory of running VMs is not this user's alone, or cannot be read.
#[inline(never)]
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if !args.dry_run {
        // Until then it holds its socket and is in its cgroup.
        vmm::host::await_ending();
    }
    let registry = Registry::of_this_user();
    let mut remnants = registry.clear(args.dry_run).map_err(Failure::run)?;
    remnants.extend(cgroup::clear(args.dry_run));
    remnants.sort_by(|one, other| (&one.vm, &one.path).cmp(&(&other.vm, &other.path)));
    print(&match args.json {
        true => format!(
            "{:#}\n",
            json!({ "dry_run": args.dry_run, "remnants": remnants })
        ),
        false => text(&remnants, Style::of_stdout()),
    });
    let stays = |one: &Remnant| matches!(one.fate, Fate::Stays(_));
    Ok(match remnants.iter().any(stays) {
        true => ExitCode::from(FAILED),
        false => ExitCode::SUCCESS,
    })
}

fn text(remnants: &[Remnant], style: Style) -> String {
    if remnants.is_empty() {
        return "nothing is left behind\n".to_owned();
    }
    let rows: Vec<_> = remnants.iter().map(row).collect();
    style.table(["VM", "WHAT", "FATE", "WHERE"], &rows)
}

fn row(remnant: &Remnant) -> [Cell; 4] {
    let fate = match &remnant.fate {
        Fate::Removed => Cell::from("removed").coloured("32"),
        Fate::Found => Cell::from("would be removed"),
        Fate::Foreign(why) => Cell::from(format!("not ravelin's: {why}")).coloured("33"),
        Fate::Stays(why) => Cell::from(format!("stays: {why}")).coloured("1;31"),
    };
    [
        remnant.vm.as_deref().unwrap_or("-").into(),
        remnant.kind.word().into(),
        fate,
        remnant.path.display().to_string().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remnant::Kind;

    #[test]
    fn what_is_left_behind_is_a_table_and_nothing_is_a_sentence() {
        let style = Style {
            colours: false,
            width: None,
        };
        assert_eq!(text(&[], style), "nothing is left behind\n");
        let remnant = |vm: Option<&str>, kind, path: &str, fate| Remnant {
            kind,
            vm: vm.map(str::to_owned),
            path: path.into(),
            fate,
        };
        let link = "it is a symbolic link".to_owned();
        let rows = [
            remnant(None, Kind::Entry, "/r/x.json", Fate::Foreign(link)),
            remnant(Some("web"), Kind::Socket, "/r/web.sock", Fate::Removed),
        ];
        assert_eq!(
            text(&rows, style),
            "VM   WHAT    FATE                                  WHERE\n\
             -    entry   not ravelin's: it is a symbolic link  /r/x.json\n\
             web  socket  removed                               /r/web.sock\n"
        );
    }
}
