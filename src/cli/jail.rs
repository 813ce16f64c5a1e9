//! The flags of the jail, which every subcommand with a monitor has.

use std::os::fd::RawFd;
use std::path::PathBuf;

use vmm::sandbox::Mode;

use crate::failure::Failure;
use crate::jail::Setting;
use crate::jail::cell::{Wall, WallSet};
use crate::jail::label::Wish;
use crate::logger;
use crate::serve::ready::Ready;
use crate::warden::{Charge, settle};

use super::inherited;

/// The heading of these flags.
const JAIL: &str = "Jail";

/// The flags.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Put no wall around the monitor: for its development only
    #[arg(long, help_heading = JAIL, conflicts_with_all = ["jail_without", "cgroup", "cgroup_parent"])]
    no_jail: bool,
    /// Leave walls out, by name, such as ns-net,landlock: for a host that cannot have them
    #[arg(long, hide_short_help = true, value_name = "WALL,...", value_parser = WallSet::all_but, help_heading = JAIL)]
    jail_without: Option<WallSet>,
    /// Leave the system call filters out, also without a jail: the monitor may then ask the kernel for anything
    #[arg(long, hide_short_help = true, conflicts_with = "seccomp_log", help_heading = JAIL)]
    no_seccomp: bool,
    /// For developers: tell on stderr what the system call filters would kill the monitor for, and do it
    #[arg(long, hide_short_help = true, help_heading = JAIL)]
    seccomp_log: bool,
    /// The user that the monitor becomes [default: one of its own, or yourself]
    #[arg(long, hide_short_help = true, value_name = "UID", help_heading = JAIL)]
    jail_uid: Option<u32>,
    /// The group that the monitor becomes [default: one of its own, or yours]
    #[arg(long, hide_short_help = true, value_name = "GID", help_heading = JAIL)]
    jail_gid: Option<u32>,
    /// Make the VM's cgroup below this one, in ravelin.vms [default: near the caller's]
    #[arg(long, hide_short_help = true, value_name = "PATH", help_heading = JAIL)]
    cgroup_parent: Option<PathBuf>,
    /// A limit in place of the usual one, such as memory.max=2G; may be given again
    #[arg(long, hide_short_help = true, value_name = "FILE=VALUE", value_parser = setting, help_heading = JAIL)]
    cgroup: Vec<Setting>,
    /// The monitor's SELinux context [default: type ravelin_vm_t with two categories of its own, if its policy is loaded]
    #[arg(long, hide_short_help = true, value_name = "LABEL", conflicts_with = "no_jail", help_heading = JAIL)]
    selinux_label: Option<String>,
    /// The monitor's AppArmor profile [default: ravelin-monitor, if it is loaded]
    #[arg(long, hide_short_help = true, value_name = "NAME", conflicts_with_all = ["no_jail", "selinux_label"], help_heading = JAIL)]
    apparmor_profile: Option<String>,
    /// A directory whose images a running VM may be given as disks, by their paths; may be given again
    #[arg(long, hide_short_help = true, value_name = "DIR", help_heading = JAIL)]
    image_dir: Vec<PathBuf>,
    /// What the process that has built the jail tells the one in it
    #[arg(long, value_name = "PLACE", hide = true, value_parser = Inside::parse)]
    jailed: Option<Inside>,
}

/// Where this process is.
pub(super) enum Place {
    /// Outside, and the monitor is to be behind these walls.
    Outside(WallSet),
    /// In its cell, or where no cell is wanted: it is the monitor.
    Monitor(Told),
}

/// What a monitor is told of who has started it.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Its VM's name, where one was made up.
    pub(super) name: Option<String>,
    /// The terminal's type.
    pub(super) term: Option<String>,
    /// Whether it is in a cell.
    pub(super) in_cell: bool,
}

impl Args {
    /// What a warden is to do that knows of nothing but the jail.
    pub(super) fn charge(&self, name: String, walls: WallSet, quiet: bool) -> Charge {
        Charge {
            name,
            speaker: None,
            walls,
            is_watched: self.seccomp_log,
            uid: self.jail_uid,
            gid: self.jail_gid,
            cgroup_parent: self.cgroup_parent.clone(),
            cgroup_settings: self.cgroup.clone(),
            label: Wish {
                selinux: self.selinux_label.clone(),
                apparmor: self.apparmor_profile.clone(),
            },
            directories: self.image_dir.clone(),
            socket: None,
            ready: Ready::default(),
            has_input: true,
            quiet,
        }
    }

    /// What becomes of a system call that no filter lists.
    pub(super) fn seccomp(&self) -> Mode {
        match self.jail_without {
            _ if self.seccomp_log => Mode::Watch,
            _ if self.no_seccomp => Mode::Off,
            Some(walls) if !walls.has(Wall::Seccomp) => Mode::Off,
            _ => Mode::Kill,
        }
    }

    /// Where this process is. One in its cell is settled there.
    ///
    /// # Errors
    /// When it cannot be settled.
    pub(super) fn place(&self, quiet: bool) -> Result<Place, Failure> {
        if let Some(inside) = &self.jailed {
            let socket = inherited::take("--jailed", inside.fd).map_err(Failure::usage)?;
            settle(socket, inside.walls, quiet)?;
            return Ok(Place::Monitor(inside.told.clone()));
        }
        if self.no_jail {
            if !quiet {
                logger::tell(match self.seccomp() {
                    Mode::Kill => {
                        "--no-jail: nothing but KVM and the system call filters stand between the guest and this host"
                    }
                    _ => "--no-jail: nothing but KVM stands between the guest and this host",
                });
            }
            return Ok(Place::Monitor(Told {
                term: std::env::var("TERM").ok(),
                ..Told::default()
            }));
        }
        let walls = self.jail_without.unwrap_or(WallSet::ALL);
        let walls = match self.seccomp() {
            Mode::Kill => walls,
            _ => walls.without(Wall::Seccomp),
        };
        if !quiet {
            for wall in WallSet::ALL.iter().filter(|wall| !walls.has(*wall)) {
                logger::tell(&format!(
                    "the monitor is without the wall {wall}: {}",
                    wall.loss()
                ));
            }
        }
        Ok(Place::Outside(walls))
    }
}

/// What the process in a cell is told.
#[derive(Clone, Debug)]
struct Inside {
    fd: RawFd,
    /// Without those that it is not to raise itself.
    walls: WallSet,
    told: Told,
}

impl Inside {
    fn parse(text: &str) -> Result<Self, String> {
        let mut inside = Self {
            fd: -1,
            walls: WallSet::ALL,
            told: Told {
                in_cell: true,
                ..Told::default()
            },
        };
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("fd", number)) => inside.fd = number.parse().map_err(|_| "no number")?,
                Some(("term", term)) => inside.told.term = Some(term.to_owned()),
                Some(("name", name)) => inside.told.name = Some(name.to_owned()),
                _ => match part.strip_prefix("no-").map(WallSet::all_but) {
                    Some(Ok(walls)) => inside.walls = inside.walls.and(walls),
                    _ => return Err("this is for ravelin's own use".to_owned()),
                },
            }
        }
        Ok(inside)
    }
}

/// A line for a cgroup's file.
fn setting(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((file, value))
            if file.contains('.')
                && !file.contains('/')
                && !file.starts_with('.')
                && !value.is_empty() =>
        {
            Ok(Setting {
                file: file.to_owned(),
                value: value.to_owned(),
            })
        }
        _ => Err("a file and a value were expected, such as memory.max=2G".to_owned()),
    }
}
