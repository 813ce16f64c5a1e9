//! The flags of `ravelin run` over a configuration file, as a spec.

use std::path::Path;

use vmm::boot::{CommandLine, CommandLineError};
use vmm::spec::{Entropy, Spec, SpecError};

use super::Args;
use crate::cli::disk;
use crate::console::terminal;
use crate::failure::Failure;
use crate::json_file::{self, CONFIGURATION};

/// Guest memory where nothing was said, in MiB: enough for a stock distribution kernel and its initramfs.
const DEFAULT_MEMORY_MIB: u64 = 512;

/// The VM that the command line describes.
pub(super) fn spec(args: &Args) -> Result<Spec, Failure> {
    let mut spec = match &args.config {
        Some(path) => json_file::read(path, &CONFIGURATION)?,
        None => fresh(),
    };
    apply_machine(&mut spec, args)?;
    apply_devices(&mut spec, args);
    apply_boot(&mut spec, args)?;
    Ok(spec)
}

fn fresh() -> Spec {
    let mut spec = Spec {
        entropy: Some(Entropy::default()),
        ..Spec::default()
    };
    spec.machine_config.mem_size_mib = DEFAULT_MEMORY_MIB;
    spec
}

fn apply_machine(spec: &mut Spec, args: &Args) -> Result<(), Failure> {
    if let Some(mem) = args.mem {
        spec.machine_config.mem_size_mib = mem;
    }
    if let Some(cpus) = args.cpus {
        spec.machine_config.vcpu_count =
            u8::try_from(cpus).map_err(|_| Failure::usage(SpecError::Vcpus(cpus)))?;
    }
    Ok(())
}

fn apply_devices(spec: &mut Spec, args: &Args) {
    if let Some(made) = &args.image.made {
        spec.drives.insert(0, disk::of_image(&made.disk));
    }
    if let Some(root) = args.root.clone() {
        spec.drives.retain(|drive| !drive.is_root_device);
        spec.drives.insert(0, root.into_root());
    }
    for disk in args.disk.iter().cloned() {
        let drives = &mut spec.drives;
        let id = free_id("disk", drives.len(), |id| {
            drives.iter().any(|drive| drive.drive_id == id)
        });
        drives.push(disk.into_drive(&id));
    }
    if let Some(vsock) = args.vsock.clone() {
        spec.vsock = Some(vsock.into_device());
    }
    for net in args.net.iter().cloned() {
        let cards = &mut spec.network_interfaces;
        let id = free_id("eth", cards.len(), |id| {
            cards.iter().any(|card| card.iface_id == id)
        });
        cards.push(net.into_interface(&id));
    }
}

/// The first of `kind` and a number, from `first` on, that is not `taken`.
fn free_id(kind: &str, first: usize, taken: impl Fn(&str) -> bool) -> String {
    let mut number = first;
    loop {
        let id = format!("{kind}{number}");
        if !taken(&id) {
            return id;
        }
        number += 1;
    }
}

fn apply_boot(spec: &mut Spec, args: &Args) -> Result<(), Failure> {
    let boot = spec.boot_source.get_or_insert_default();
    if let Some(made) = &args.image.made {
        boot.kernel_image_path = text(&made.kernel)?;
        boot.initrd_path = Some(text(&made.initrd)?);
    }
    if let Some(kernel) = &args.kernel {
        boot.kernel_image_path = text(kernel)?;
    }
    if let Some(initrd) = &args.initrd {
        boot.initrd_path = Some(text(initrd)?);
    }
    boot.boot_args = Some(command_line(boot.boot_args.as_deref(), args).map_err(Failure::usage)?);
    Ok(())
}

/// The kernel's command line: what the configuration says, or the default, and what the flags add.
fn command_line(configured: Option<&str>, args: &Args) -> Result<String, CommandLineError> {
    let mut line = match configured {
        Some(text) => CommandLine::bare(text)?,
        None => CommandLine::default(),
    };
    if args.image.made.is_some() {
        // The container's output is the only output. What it runs is in its description.
        line.add("quiet loglevel=1")?;
    } else if !args.command.is_empty() {
        // The command's output is the only output, and a panic's: `quiet` alone lets a kernel without PCI
        // say so, as an error.
        line.add("quiet loglevel=1")?;
        line.add_command(&args.command)?;
    }
    for text in &args.cmdline {
        line.append(text)?;
    }
    Ok(line.text())
}

/// Tells an interactive guest of the terminal here. It is not part of the VM: a printed configuration holds
/// nothing of it.
///
/// # Errors
/// When the command line holds what it cannot.
pub(super) fn tell_of_terminal(
    spec: &mut Spec,
    args: &Args,
    term: Option<&str>,
) -> Result<(), CommandLineError> {
    let has_terminal = match &args.image.made {
        Some(made) => made.has_terminal,
        None => args.command.is_empty(),
    };
    if has_terminal {
        let boot = spec.boot_source.get_or_insert_default();
        let mut line = CommandLine::bare(boot.boot_args.as_deref().unwrap_or_default())?;
        line.add(&terminal_parameters(term))?;
        boot.boot_args = Some(line.text());
    }
    Ok(())
}

/// What a shell in the guest should know of the terminal here.
fn terminal_parameters(term: Option<&str>) -> String {
    let mut words = Vec::new();
    if let Some((rows, columns)) = terminal::size() {
        words.push(format!("ravelin.size={rows}x{columns}"));
    }
    match term {
        Some(term) if is_plain(term) => words.push(format!("ravelin.term={term}")),
        _ => {}
    }
    words.join(" ")
}

fn is_plain(term: &str) -> bool {
    !term.is_empty()
        && term
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::usage(format!("the path {} is not valid UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_taken_is_not_given_again() {
        assert_eq!(free_id("disk", 1, |_| false), "disk1");
        let taken = |id: &str| ["disk1", "disk2"].contains(&id);
        assert_eq!(free_id("disk", 1, taken), "disk3");
    }

    #[test]
    fn a_terminal_type_is_passed_on_only_when_it_is_one_word() {
        assert!(is_plain("xterm-256color"));
        for term in ["", "a b", "a\"b", "a=b"] {
            assert!(!is_plain(term), "{term}");
        }
    }
}
