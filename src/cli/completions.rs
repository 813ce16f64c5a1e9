//! `ravelin completions`: what a shell needs to complete command lines, from the one table of flags.
//!
//! The manual pages come from the same table, but at packaging time: see the tests here.

use std::process::ExitCode;

use clap::ValueEnum;
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use super::{command, print};

/// Print a script that completes ravelin's command lines in a shell
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const AFTER_HELP: &str = "\
Where the script goes:
  bash  ravelin completions bash > ~/.local/share/bash-completion/completions/ravelin
  zsh   ravelin completions zsh > DIRECTORY/_ravelin, where DIRECTORY is in $fpath
  fish  ravelin completions fish > ~/.config/fish/completions/ravelin.fish";

/// The shells. `clap_complete`'s own list has more, which nobody needs here and which cost 9 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs the subcommand.
#[inline(never)]
pub(crate) fn run(args: &Args) -> ExitCode {
    let mut script = Vec::new();
    let (mut command, name) = (command(), "ravelin");
    match args.shell {
        Shell::Bash => generate(Bash, &mut command, name, &mut script),
        Shell::Zsh => generate(Zsh, &mut command, name, &mut script),
        Shell::Fish => generate(Fish, &mut command, name, &mut script),
    }
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    use clap::Command;
    use clap_mangen::Man;

    use super::*;

    /// Set to write the pages anew.
    const UPDATE: &str = "RAVELIN_UPDATE_MAN";

    /// The pages of a command and of those below it, by file name.
    fn pages(command: &Command, made: &mut BTreeMap<String, String>) {
        let man = Man::new(command.clone())
            .date("")
            .source("ravelin")
            .manual("ravelin");
        let mut page = Vec::new();
        man.render(&mut page).unwrap();
        made.insert(man.get_filename(), String::from_utf8(page).unwrap());
        for below in command.get_subcommands() {
            pages(below, made);
        }
    }

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/man")
    }

    #[test]
    fn the_manual_pages_are_those_of_the_flags() {
        let mut made = BTreeMap::new();
        let mut command = command().disable_help_subcommand(true);
        command.build();
        pages(&command, &mut made);
        if env::var_os(UPDATE).is_some() {
            let _ = fs::remove_dir_all(folder());
            fs::create_dir_all(folder()).unwrap();
            for (name, page) in &made {
                fs::write(folder().join(name), page).unwrap();
            }
        }
        let mut found = BTreeMap::new();
        for file in fs::read_dir(folder()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            found.insert(name, fs::read_to_string(path).unwrap());
        }
        for (name, page) in &made {
            let is_there = found.get(name) == Some(page);
            assert!(
                is_there,
                "{name} is not that of the flags: {UPDATE}=1 cargo test man writes it"
            );
        }
        assert_eq!(found.len(), made.len(), "{:?}", found.keys());
    }
}
